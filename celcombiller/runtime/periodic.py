"""Work done again and again. A `LoopingCall` whose function raises once never runs again; this one logs and goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from celcombiller.core.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class PeriodicService(Service):
    """Run ``work`` at once and every ``seconds``; a run that takes longer is not overtaken by the next."""

    _log = Logger()

    def __init__(self, clock: Any, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        self._seconds = seconds
        self._work = work
        self._loop = LoopingCall(self._once)
        self._loop.clock = clock
        self._over: Deferred[Any] | None = None

    def startService(self) -> None:
        """Begin."""
        super().startService()
        self._over = self._loop.start(self._seconds)

    def stopService(self) -> Deferred[Any] | None:
        """End after the run that is going on."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        return self._over

    def _once(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._guarded())

    async def _guarded(self) -> None:
        try:
            await self._work()
        except StoreUnavailable as error:
            self._log.warn("Periodic work waits {seconds} s: {error}", seconds=self._seconds, error=str(error))
        except Exception:  # noqa: BLE001  one error must not end the loop
            self._log.failure("Periodic work failed; it runs again in {seconds} s", seconds=self._seconds)
