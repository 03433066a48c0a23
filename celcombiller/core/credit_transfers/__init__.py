"""Credit that one subscriber hands to another."""
