"""Ids of authorizations, which tell when each was asked for. Pure.

A channel runs one application at a time. So of two requests of one channel, that which was asked for first is over:
its session was cut, and the dialplan asked another biller.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_TIME_DIGITS = 11
_RANDOM_DIGITS = 5

OVERTAKEN_MAX = timedelta(minutes=1)
"""How much later than another a request may have been asked for and still overtake it.

A greater difference is that of a clock that was set back.
"""


def make_authorization(at: datetime, random: bytes) -> str:
    """Return the id of a request that is made ``at`` this time: 16 hexadecimal digits, of which the last are random."""
    milliseconds = int(at.timestamp() * 1000)
    return f"{milliseconds:0{_TIME_DIGITS}x}"[-_TIME_DIGITS:] + random.hex()[:_RANDOM_DIGITS]


def is_overtaken(authorization: str, by: str) -> bool:
    """Return whether a request was asked for just before the one that has the id ``by``."""
    asked_at, other_at = _time_of(authorization), _time_of(by)
    if asked_at is None or other_at is None:
        return False
    return timedelta() < other_at - asked_at <= OVERTAKEN_MAX


def _time_of(authorization: str) -> datetime | None:
    """Return when a request was asked for; ``None``: its id does not tell."""
    if len(authorization) != _TIME_DIGITS + _RANDOM_DIGITS:
        return None
    try:
        return datetime.fromtimestamp(int(authorization[:_TIME_DIGITS], 16) / 1000, UTC)
    except (ValueError, OverflowError):
        return None
