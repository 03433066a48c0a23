"""When AMI events happened. Pure.

An event carries its own Timestamp where manager.conf says ``timestampevents=yes``. It is the better one: an event may
reach the biller late, when one of the two stood still. One that cannot be right is not used, and reported once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from celcombiller.asterisk import channel_variables
from celcombiller.runtime.timers.clock_steps import ClockSteps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

LATE_MAX = timedelta(hours=1)
"""An event that seems later or earlier than this by its Timestamp has a wrong one."""

SKEW_MAX = timedelta(seconds=5)
"""A difference of the two clocks from which on it is reported: times of both are compared where evidence is scarce."""

MISSING = "its events carry no Timestamp: set timestampevents=yes in [general] of manager.conf"
UNREADABLE = "a Timestamp of its events cannot be read, so the time of arrival counts"
WRONG = "a Timestamp of its events is not from now, so the time of arrival counts"
SKEWED = "its clock differs from the biller's by more than 5 s: set both by NTP"


class EventClock:
    """Reads the time of the events of one connection, and keeps what is wrong with it."""

    def __init__(self) -> None:
        self.steps = ClockSteps()
        """Steps of Asterisk's clock."""
        self.offset = timedelta()
        """By how much Asterisk's clock is ahead of the biller's, as last measured."""
        self._stamp_fault = ""

    @property
    def faults(self) -> list[str]:
        """Why the last event's own time was not used, and whether the two clocks differ."""
        return [*filter(None, [self._stamp_fault]), *([SKEWED] if abs(self.offset) > SKEW_MAX else [])]

    def reset(self) -> None:
        """Begin again, for a new connection."""
        self.offset, self._stamp_fault = timedelta(), ""

    def measure(self, text: str | None, now: datetime, monotonic_seconds: float) -> None:
        """Compare the clocks by the Timestamp of an answer that came just now."""
        stamp = channel_variables.instant(text)
        if stamp is not None:
            self.offset = stamp - now
            self.steps.look(stamp, monotonic_seconds)

    def time_of(self, event: Mapping[str, str], now: datetime) -> datetime:
        """Return when an event happened by Asterisk's clock: its own Timestamp, else ``now``, when it came."""
        text, arrived_at = event.get("timestamp"), now + self.offset
        stamp = channel_variables.instant(text)
        if stamp is not None and abs(stamp - arrived_at) < LATE_MAX:
            self._stamp_fault = ""
            return stamp
        self._stamp_fault = MISSING if text is None else UNREADABLE if stamp is None else WRONG
        return arrived_at
