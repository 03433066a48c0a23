"""The log: its text and JSON, one line per charging decision, and limits on what repeats."""
