"""Exponential back-off."""

from __future__ import annotations

from datetime import timedelta

RETRY_SECONDS_LEAST = 1.0


def retry_after(attempts: int, seconds_max: float) -> timedelta:
    """Return how long to wait after this many failed attempts: twice as long each time, up to a limit."""
    return timedelta(seconds=min(seconds_max, RETRY_SECONDS_LEAST * 2.0 ** min(attempts - 1, 30)))
