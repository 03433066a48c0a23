"""When AMI events happened. Pure.

An event carries its own Timestamp where manager.conf says ``timestampevents=yes``. It is the better one: an event may
reach the biller late, when one of the two stood still. One that cannot be right is not used, and reported once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from celcombiller.asterisk import channel_variables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

SKEW_MAX = timedelta(hours=1)
"""A Timestamp that differs more from the biller's clock is not used: one of the two clocks is wrong."""

MISSING = "its events carry no Timestamp: set timestampevents=yes in [general] of manager.conf"
UNREADABLE = "a Timestamp of its events cannot be read, so the time of arrival counts"
SKEWED = "its clock differs from the biller's by more than an hour: set both by NTP"


class EventClock:
    """Reads the time of the events of one connection, and keeps what is wrong with it."""

    def __init__(self) -> None:
        self.fault = ""
        """Why the last event's own time was not used; empty while there is nothing to report."""

    def time_of(self, event: Mapping[str, str], now: datetime) -> datetime:
        """Return when an event happened: its own Timestamp, else ``now``, when it came."""
        text = event.get("timestamp")
        stamp = channel_variables.instant(text)
        if stamp is not None and abs(stamp - now) < SKEW_MAX:
            self.fault = ""
            return stamp
        self.fault = MISSING if text is None else UNREADABLE if stamp is None else SKEWED
        return now
