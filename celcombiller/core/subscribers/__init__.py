"""Subscribers: their fields, their records, and the directory that finds them by a number."""
