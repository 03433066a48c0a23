"""What is said to operators of NASes that do wrong: once in a while, however often they do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET_SECONDS = 60.0
"""Of one client and one fault there is one line in so long."""

QUIET_MAX = 1000

LINES_MAX = 100
"""So many lines of all in that time: a sender with forged addresses must not fill a disk."""


class ThrottledLog:
    """Lines of the log, each sort once in a while with how many there were."""

    _log = Logger()

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._quiet: dict[tuple[str, str], tuple[float, int]] = {}
        self._lines = 0
        self._lines_until = 0.0

    def warn(self, who: str, result: str, why: str) -> None:
        """Complain, unless the same was complained of a moment ago."""
        now = self._seconds()
        until, count = self._quiet.get((who, result), (0.0, 0))
        if now < until:
            self._quiet[who, result] = (until, count + 1)
            return
        if len(self._quiet) >= QUIET_MAX:
            self._quiet.clear()
        self._quiet[who, result] = (now + QUIET_SECONDS, 0)
        if now >= self._lines_until:
            self._lines, self._lines_until = 0, now + QUIET_SECONDS
        self._lines += 1
        if self._lines > LINES_MAX:
            return
        before = f" (and {count} more before)" if count else ""
        self._log.warn("RADIUS of {who}: {why}{before}", who=who, why=why, before=before)
