"""Log lines about faulty clients: one line a minute for each client and fault, however often it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

THROTTLE_SECONDS = 60.0
"""The seconds between two lines about one client and fault."""

CLIENTS_MAX = 1000

LINES_MAX = 100
"""Lines about all clients in that time: a sender with forged addresses must not fill a disk."""


class ThrottledLog:
    """Writes lines of the log, each with the number of those that it left out before."""

    _log = Logger()

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._throttled: dict[tuple[str, str], tuple[float, int]] = {}
        self._lines = 0
        self._lines_until = 0.0

    def warn(self, who: str, result: str, why: str) -> None:
        """Write a warning, unless one about the same client and result was written in the last minute."""
        now = self._seconds()
        until, count = self._throttled.get((who, result), (0.0, 0))
        if now < until:
            self._throttled[who, result] = (until, count + 1)
            return
        if len(self._throttled) >= CLIENTS_MAX:
            self._throttled.clear()
        self._throttled[who, result] = (now + THROTTLE_SECONDS, 0)
        if now >= self._lines_until:
            self._lines, self._lines_until = 0, now + THROTTLE_SECONDS
        self._lines += 1
        if self._lines > LINES_MAX:
            return
        before = f" (and {count} more before)" if count else ""
        self._log.warn("RADIUS of {who}: {why}{before}", who=who, why=why, before=before)
