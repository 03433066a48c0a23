"""Routes of text messages, to one and to many."""
