"""When AMI events happened. Pure.

An event carries its own Timestamp where manager.conf says ``timestampevents=yes``. It is the better one: an event may
reach the biller late, when one of the two stood still. One that cannot be right is not used, and reported once.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

from celcombiller.asterisk import channel_variables
from celcombiller.runtime.timers.clock_steps import STEP_LEAST, ClockSteps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

LATE_MAX = timedelta(hours=1)
"""An event that seems later or earlier than this by its Timestamp has a wrong one."""

APART_MAX = timedelta(days=1)
"""Before Asterisk's clock is measured, a Timestamp counts that is not farther than this from the biller's clock."""

FRESH_SECONDS = 5.0
"""A time that Asterisk told longer ago than this is not compared: one of the two may have stood still since."""

SKEW_MAX = timedelta(seconds=5)
"""A difference of the two clocks from which on it is reported: times of both are compared where evidence is scarce."""

MISSING = "its events carry no Timestamp: set timestampevents=yes in [general] of manager.conf"
UNREADABLE = "a Timestamp of its events cannot be read, so the time of arrival counts"
WRONG = "a Timestamp of its events is not from now, so the time of arrival counts"
SKEWED = "its clock differs from the biller's by more than 5 s: set both by NTP"


def filter_skew(difference: timedelta) -> timedelta:
    """Return a difference of two clocks; 0 where it is no more than a message takes."""
    return difference if abs(difference) > SKEW_MAX else timedelta()


class EventClock:
    """Reads the time of the events of one connection, and keeps what is wrong with it."""

    def __init__(self) -> None:
        self.steps = ClockSteps()
        """Steps of Asterisk's clock."""
        self.offset = timedelta()
        """By how much Asterisk's clock is ahead of the biller's, as last measured; before that, as an event showed."""
        self._stamp_fault = ""
        self._measured_at = -math.inf
        self._wall_at: datetime | None = None
        """What the biller's clock said when it was measured, or would have said as it is set now."""

    @property
    def faults(self) -> list[str]:
        """Why the last event's own time was not used, and whether the two clocks differ."""
        return [*filter(None, [self._stamp_fault]), *([SKEWED] if self.skew else [])]

    @property
    def is_measured(self) -> bool:
        """Whether Asterisk's clock was measured on this connection."""
        return self._wall_at is not None

    @property
    def skew(self) -> timedelta:
        """By how much Asterisk's clock is ahead of the biller's, where that is more than a message takes; else 0."""
        return filter_skew(self.offset)

    def reset(self) -> None:
        """Begin again, for a new connection."""
        self.offset, self._stamp_fault, self._measured_at, self._wall_at = timedelta(), "", -math.inf, None

    def measure(self, stamp: datetime | None, now: datetime, monotonic_seconds: float) -> timedelta:
        """Compare the clocks by what Asterisk's said just now, if it can be read; return the step since the last."""
        before = self.steps.total
        if stamp is not None:
            self.offset, self._measured_at, self._wall_at = stamp - now, monotonic_seconds, now
            self.steps.look(stamp, monotonic_seconds)
        return self.steps.total - before

    def time_there(self, now: datetime, monotonic_seconds: float) -> datetime:
        """Return the time by Asterisk's clock, also where the biller's was set since the last measurement."""
        if self._wall_at is not None:
            step = now - self._wall_at - timedelta(seconds=monotonic_seconds - self._measured_at)
            if abs(step) >= STEP_LEAST:
                self.offset -= step
                self._wall_at += step
        return now + self.offset

    def time_of(
        self, event: Mapping[str, str], now: datetime, monotonic_seconds: float
    ) -> tuple[datetime, timedelta, timedelta]:
        """Return when an event happened, by Asterisk's clock of that moment, and the sum of its steps up to then.

        That is its own Timestamp; else, by the clock as last measured, when it came. A Timestamp that is far from a
        clock that was measured just now, or hours from one measured before, is from the other side of a step, or wrong:
        the third is how far it is off, for the next measurement to tell. Before the first measurement of a connection
        the event's own is the best there is.
        """
        text, arrived_at = event.get("timestamp"), self.time_there(now, monotonic_seconds)
        steps = self.steps.total
        stamp, nothing = channel_variables.instant(text), timedelta()
        self._stamp_fault = MISSING if text is None else UNREADABLE if stamp is None else ""
        if stamp is None:
            return arrived_at, steps, nothing
        if not self.is_measured and abs(stamp - now) < APART_MAX:
            self.offset = stamp - now
            return stamp, steps, nothing
        off_by = stamp - arrived_at
        if abs(off_by) >= LATE_MAX:
            self._stamp_fault = WRONG
        if abs(off_by) >= STEP_LEAST and monotonic_seconds - self._measured_at < FRESH_SECONDS:
            was_before = abs(off_by + self.steps.last) < STEP_LEAST and bool(self.steps.last)
            return (stamp, steps - self.steps.last, nothing) if was_before else (arrived_at, steps, off_by)
        return (arrived_at, steps, off_by) if self._stamp_fault else (stamp, steps, nothing)
