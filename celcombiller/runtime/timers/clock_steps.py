"""Steps of the wall clock: set by NTP after a boot without a battery, or by hand. Pure.

The wall clock is compared with a monotonic one at each look. What happened before a forward step seems older after it
than it is, by the step.
"""

from __future__ import annotations

from datetime import datetime, timedelta

STEP_LEAST = timedelta(minutes=1)
"""Smaller differences are drift, which NTP corrects; validities have a margin of minutes."""


class ClockSteps:
    """The steps since the process began."""

    def __init__(self) -> None:
        self._last: tuple[datetime, float] | None = None
        self._steps: list[tuple[datetime, timedelta]] = []
        self.total = timedelta()
        """The sum of all steps, forward and back."""
        self.last = timedelta()
        """The last step."""

    def look(self, wall: datetime, monotonic_seconds: float) -> None:
        """Compare the two clocks, and keep the step since the last look, if there is one."""
        if self._last is not None:
            wall_before, seconds_before = self._last
            elapsed = timedelta(seconds=monotonic_seconds - seconds_before)
            step = wall - wall_before - elapsed
            if abs(step) >= STEP_LEAST:
                self.total += step
                self.last = step
            if step >= STEP_LEAST:
                self._steps.append((wall - elapsed, step))
        self._last = wall, monotonic_seconds

    def excess_age(self, at: datetime) -> timedelta:
        """Return by how much too old a moment seems that was recorded before steps."""
        return sum((step for began_at, step in self._steps if at < began_at), timedelta())
