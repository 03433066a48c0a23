"""The numbered steps of the schema, oldest first. A released step is never edited."""
