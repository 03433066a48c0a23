"""Data sessions: usage that a NAS reports, and what it costs."""
