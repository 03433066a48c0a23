"""Lists that only read: history, open items, and the views that the API and the command share."""
