"""What looks for something that subscribers get a message about."""
