"""Updates of the ledger that are tried until they are recorded: how calls ended, and what became of messages.

Only a refusal ends the trying, and data that the database can never take: a fault of the program may be one of the
moment. A channel waits no longer than a call may wait; what takes longer goes on without the channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import exc
from twisted.internet.defer import Deferred, TimeoutError, fail, gatherResults  # noqa: A004  Twisted's name
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from celcombiller.core.errors import BillerError, StoreUnavailable
from celcombiller.runtime.metrics import Metrics
from celcombiller.runtime.timers.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

RETRY_SECONDS = (0.2, 0.5, 1, 2, 5, 10, 30)
DRAIN_SECONDS = 10

REFUSED_DATA = (exc.DataError, UnicodeError, OverflowError)
"""Faults of what an update says, and not of the moment: a value out of range, or a text that cannot be stored."""


class PendingUpdates:
    """The updates under way, and the deadlines of the channels that wait for them."""

    _log = Logger()

    def __init__(self, clock: Any, metrics: Metrics | None = None) -> None:
        self._clock = clock
        self._metrics = metrics or Metrics()
        self._deadlines = Deadlines(clock)
        self._under_way: set[Deferred[Any]] = set()
        self._metrics.calls.updates_pending.set_function(lambda: len(self._under_way))

    def __len__(self) -> int:
        return len(self._under_way)

    def submit(
        self, update: Callable[[], Deferred[T]], what: str, *, delayed: Deferred[None] | None = None
    ) -> Deferred[T | None]:
        """Start an update; fires with what ``update`` gives, or ``None`` when the ledger refuses it.

        ``delayed`` fires when the first attempt failed and another will follow.
        """

        def retry(failure: Failure) -> Deferred[T] | Failure:
            if _is_final(failure):
                return failure
            if delayed is not None and not delayed.called:
                delayed.callback(None)
            return Deferred.fromCoroutine(self._retry(failure, update, what))

        try:
            recorded: Deferred[Any] = update()
        except Exception:  # noqa: BLE001  a fault of the first attempt is one of the update
            recorded = fail()
        recorded.addErrback(retry)
        self._under_way.add(recorded)

        def finish(result: Any) -> Any:
            self._under_way.discard(recorded)
            if isinstance(result, Failure):
                self._log.failure("{what} was not recorded", result, what=what)
                if result.check(*REFUSED_DATA):
                    self._metrics.calls.updates_lost.inc()
                return None
            return result

        return recorded.addBoth(finish)

    async def _retry(self, failure: Failure, update: Callable[[], Deferred[T]], what: str) -> T:
        attempt, shown = 0, ""
        while True:
            wait_seconds = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
            shown = self._log_wait(failure, what, wait_seconds, shown)
            await deferLater(self._clock, wait_seconds)
            try:
                return await update()
            except Exception:
                failure = Failure()
                if _is_final(failure):
                    raise
                attempt += 1

    def _log_wait(self, failure: Failure, what: str, wait_seconds: float, shown: str) -> str:
        """Log why it waits, a fault with its traceback once; return the name of the fault that was last shown."""
        fault = "" if failure.check(StoreUnavailable) else type(failure.value).__name__
        if fault not in ("", shown):
            self._log.failure("{what} waits {seconds} s", failure, what=what, seconds=wait_seconds)
            return fault
        reason = fault or str(failure.value)
        self._log.warn("{what} waits {seconds} s: {error}", what=what, seconds=wait_seconds, error=reason)
        return shown

    def with_timeout(self, work: Deferred[T], seconds: float, *, until: Deferred[None] | None = None) -> Deferred[T]:
        """Wait for work; past its time fire with `TimeoutError`, and leave the work, and its result, to go on.

        ``until`` ends the wait before its time, in the same way.
        """
        answer: Deferred[T] = Deferred()

        def pass_on(result: Any) -> Any:
            if answer.called:
                return result
            self._deadlines.met(answer)
            answer.callback(result)  # a Failure takes the errback side
            return None

        def give_up(_result: object = None) -> None:
            if not answer.called:
                self._deadlines.met(answer)
                answer.errback(TimeoutError(seconds, "Deferred"))

        self._deadlines.set(answer, seconds, give_up)
        work.addBoth(pass_on)
        if until is not None:
            until.addCallback(give_up)
        return answer

    async def drain(self) -> None:
        """Wait for what is under way; what still fails stays open, and a sweep closes it."""
        try:
            await self.with_timeout(gatherResults(list(self._under_way)), DRAIN_SECONDS)
        except TimeoutError:
            self._log.warn("{count} ends could not be settled before the stop", count=len(self))
        self._deadlines.stop()


def _is_final(failure: Failure) -> bool:
    """Return whether to ask again would change nothing: the ledger has decided, or can never take what is said."""
    if isinstance(failure.value, BillerError):
        return not isinstance(failure.value, StoreUnavailable)
    return isinstance(failure.value, REFUSED_DATA)
