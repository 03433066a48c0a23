"""The audit: recompute every balance and hold from the records, and report each difference."""
