"""Unexpected errors of what is tried again and again, each logged once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.logger import Logger

KEPT = 1000
"""Things whose faults are remembered; after that the oldest is forgotten, and its fault is logged again."""


class FaultLog:
    """Logs the error that is being handled with its traceback, once for each thing and type of error."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._logged: dict[tuple[str, type[BaseException]], None] = {}

    def report(self, subject: str, error: BaseException) -> None:
        """Log the error of ``subject``, if it was not logged before."""
        key = (subject, type(error))
        if key in self._logged:
            return
        self._logged[key] = None
        if len(self._logged) > KEPT:
            del self._logged[next(iter(self._logged))]
        self._log.failure("{subject} failed; it is tried again, and this is not logged again", subject=subject)
