"""Reactor latency probe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import Service

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from celcombiller.runtime.metrics import Metrics

DELAY_SECONDS = 1.0
"""How often the reactor is asked how late it is."""


class ReactorDelay(Service):
    """Sets an alarm each second and looks how late it comes: so late is everything else that is due."""

    def __init__(self, clock: Any, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._alarm: IDelayedCall | None = None
        self._due = 0.0

    def startService(self) -> None:
        """Begin."""
        super().startService()
        self._set()

    def stopService(self) -> None:
        """End."""
        super().stopService()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _set(self) -> None:
        self._due = self._clock.seconds() + DELAY_SECONDS
        self._alarm = self._clock.callLater(DELAY_SECONDS, self._came)

    def _came(self) -> None:
        self._metrics.reactor_delay_seconds.observe(max(0.0, self._clock.seconds() - self._due))
        self._set()
