"""What happened in a span of days, and what happens now."""
