"""The settlement of calls that scripts report: tried until it is recorded, and known to the script that comes after."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from msgspec.structs import fields
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004  Twisted's own name
from twisted.logger import Logger

from celcombiller.asterisk.scripts.channel import NAMESPACE
from celcombiller.core.errors import BillerError, StoreUnavailable, UnknownCall
from celcombiller.core.model.calls import CallReport, CallState, Witness
from celcombiller.runtime.log.charging import log_settlement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.python.failure import Failure

    from celcombiller.asterisk.ami.link import AmiLink
    from celcombiller.asterisk.outage.control import OutageControl
    from celcombiller.asterisk.pending_updates import PendingUpdates
    from celcombiller.core.charging.requests import Terminate
    from celcombiller.core.model.calls import Settlement
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.runtime.metrics import Metrics

_LOG = Logger(namespace=NAMESPACE)

_WORDS = attrgetter(*(each.name for each in fields(CallReport) if each.name not in ("at", "ahead")))
"""What a report says, besides when."""

ENDED_MAX = 1000
"""Calls settled here whose reducer is remembered to be due; it comes in a moment, or not at all."""


SETTLE_SECONDS = 0.5
"""How long a channel whose call is over waits for the ledger: it is held up in Asterisk meanwhile.

It is ten times what a busy ledger takes. What takes longer is tried on, and the dialplan's note is a witness beside it.
"""


class CallSettlement:
    """Reports the ends of calls to the ledger."""

    def __init__(
        self,
        store: BatchWriter,
        monitors: Mapping[str, AmiLink],
        updates: PendingUpdates,
        metrics: Metrics,
        outage: OutageControl,
    ) -> None:
        self._outage = outage
        self._store = store
        self._monitors = monitors
        self.updates = updates
        self._metrics = metrics
        self._ended: dict[tuple[str, str], CallReport] = {}

    async def settle(self, end: Terminate) -> Settlement | None:
        """Settle, and wait for it a moment; where the first attempt fails, or takes long, the channel goes on alone."""
        delayed: Deferred[None] = Deferred()
        recorded = self.submit(end, delayed=delayed)
        try:
            return await self.updates.with_timeout(recorded, SETTLE_SECONDS, until=delayed)
        except TimeoutError:
            return None

    def submit(
        self, end: Terminate, *, deferrable: bool = False, delayed: Deferred[None] | None = None
    ) -> Deferred[Settlement | None]:
        """Begin to charge the end of a call, and try until it is recorded; see `PendingUpdates.submit`."""
        what = f"The end of channel {end.uniqueid!r}"
        return self.updates.submit(partial(self._charge, end, deferrable=deferrable), what, delayed=delayed)

    def forget(self, server: str, uniqueid: str) -> None:
        """Forget how the last call of a channel was settled here: another one begins."""
        self._ended.pop((server, uniqueid), None)

    def is_repeat(self, end: Terminate) -> bool:
        """Return whether this end was settled here just now, in the same words; it is asked once."""
        known = self._ended.pop((end.server, end.uniqueid), None)
        return known is not None and _WORDS(known) == _WORDS(end.ending)

    def _charge(self, end: Terminate, *, deferrable: bool) -> Deferred[Settlement | None]:
        end = self._outage.with_limit(end)
        charged = self._store.charge(end, deferrable=deferrable)
        return charged.addCallbacks(self._record_settlement, self._log_refusal, (end,), {}, (end,))

    def _log_refusal(self, failure: Failure, end: Terminate) -> None:
        error = failure.value
        if isinstance(error, StoreUnavailable) or not isinstance(error, BillerError):
            failure.raiseException()
        self._outage.record_charge(end, error)
        if not isinstance(error, UnknownCall):
            _LOG.error(
                "The end of channel {uniqueid!r} was refused: {code}, {reason}",
                uniqueid=end.uniqueid,
                code=error.code,
                reason=str(error),
            )

    def _record_settlement(self, settlement: Settlement, end: Terminate) -> Settlement:
        call = settlement.call
        self._outage.record_answer()
        self._outage.record_charge(end, settlement)
        self._outage.known.use(call.subscriber_id)
        monitor = self._monitors.get(call.server)
        if call.state is not CallState.OPEN:
            if monitor is not None:
                monitor.closed(call.uniqueid, talked=call.state is CallState.SETTLED)
            if end.witness is Witness.AGI:
                self._ended[call.server, call.uniqueid] = end.ending
                if len(self._ended) > ENDED_MAX:
                    del self._ended[next(iter(self._ended))]
        log_settlement(_LOG, end.witness, settlement)
        self._metrics.calls.count_end(end.witness, settlement)
        return settlement
