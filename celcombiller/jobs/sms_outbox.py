"""Send the queued messages of one route: claim them, have them carried, and record their outcomes.

Several, on several nodes, do not get in each other's way. A crash between the sending and its record leaves the claim
to lapse; then the message is sent again: by each route at least once, and charged once. Of a message in parts those
that are recorded as accepted are not sent again. A message that causes an unexpected error is tried again like one that
the network defers: after longer and longer times, until it expires.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from celcombiller.core.errors import BillerError, InvalidValue, StoreUnavailable
from celcombiller.core.model.messages import MessageState
from celcombiller.core.sms import outbox_queue
from celcombiller.core.sms.carrier import Carrier, CarrierUnavailable, MessageDeferred, MessageRejected
from celcombiller.core.sms.charging import MessageOutcome
from celcombiller.core.sms.encoding import printable
from celcombiller.runtime.log.charging import log_message_outcome
from celcombiller.runtime.log.faults import FaultLog
from celcombiller.runtime.periodic import PeriodicService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.messages import Route
    from celcombiller.core.sms.charging import MessageResult
    from celcombiller.core.sms.outbox_queue import OutboxMessage
    from celcombiller.runtime.metrics import Metrics

T = TypeVar("T")


POLL_SECONDS = 1.0
"""How often the queue is looked at; a look at an empty one is one read by index."""


BATCH_MAX = 50


LEASE = timedelta(minutes=5)
"""How long a claimed message belongs to the process that claimed it; if that dies, the message waits until then."""


WORK = timedelta(minutes=1)
"""How long a batch may be worked. What is not begun by then is given back, so that nothing comes near the lease."""


RECORD = timedelta(minutes=1)
"""How long it is tried to record what the network took; with `WORK` it is within the lease."""


RECORD_SECONDS = 1.0


class Outbox:
    """Works the queue of one way; ``clock`` is the reactor, or a test's.

    ``transact`` does a unit of work in the database, ``read`` one that only reads, ``charge`` a request of charging.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        route: Route,
        carrier: Carrier,
        *,
        transact: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        charge: Callable[[MessageOutcome], Awaitable[MessageResult]],
        now: Callable[[], datetime],
        retry_seconds_max: float,
        metrics: Metrics,
    ) -> None:
        self.route = route
        self._clock = clock
        self._carrier = carrier
        self._transact = transact
        self._read = read
        self._charge = charge
        self._now = now
        self._retry_seconds_max = retry_seconds_max
        self._metrics = metrics
        self._faults = FaultLog(self._log)
        self._ending = False

    async def work(self) -> None:
        """Work batch after batch, until nothing is due or the network is away."""
        try:
            while not self._ending and self._carrier.is_there:
                if not await self._read(partial(outbox_queue.is_due, route=self.route, now=self._now())):
                    break
                if not await self.batch():
                    break
        except StoreUnavailable as error:
            self._log.warn("Messages by {route} wait: {error}", route=self.route, error=str(error))

    def end(self) -> None:
        """Begin nothing any more."""
        self._ending = True

    async def batch(self) -> bool:
        """Work one batch, and return whether there was one; a message that fails spoils no other."""
        owner = uuid.uuid4().hex
        now = self._now()
        claim = partial(outbox_queue.claim, route=self.route, owner=owner, now=now, limit=BATCH_MAX, lease=LEASE)
        claimed: list[OutboxMessage] = await self._transact(claim)
        places = DeferredSemaphore(self._carrier.at_once)
        until = now + WORK
        if not claimed:
            return False
        sent: list[Any] = await DeferredList(
            [places.run(self._in_its_place, due, owner, until) for due in claimed], consumeErrors=True
        )
        unavailable = [result for _, result in sent if isinstance(result, Failure)]
        await self._transact(partial(outbox_queue.release_claims, owner=owner))
        if unavailable:
            unavailable[0].raiseException()
        return True

    def _in_its_place(self, due: OutboxMessage, owner: str, until: datetime) -> Deferred[None]:
        return Deferred.fromCoroutine(self._send(due, owner, until))

    async def _send(self, due: OutboxMessage, owner: str, until: datetime) -> None:
        if self._ending or not self._carrier.is_there or self._now() > until:
            return
        reference = due.message.reference

        def took(part: int, network_id: str) -> Awaitable[object]:
            record = partial(
                outbox_queue.record_accepted_part,
                reference=reference,
                part=part,
                network_id=network_id,
                now=self._now(),
            )
            return self._recorded(partial(self._transact, record))

        try:
            await self._carry(due, took)
        except CarrierUnavailable:
            return
        except StoreUnavailable:
            raise
        except MessageDeferred as error:
            self._log.info("Message {reference} is tried again: {why}", reference=reference, why=str(error))
            await self._reschedule(owner, reference, str(error))
        except Exception as error:  # noqa: BLE001  a fault in one message must not stop the queue
            self._faults.report(f"Message {reference}", error)
            await self._reschedule(owner, reference, f"unexpected error: {error!r}")

    async def _carry(self, due: OutboxMessage, took: Callable[[int, str], Awaitable[object]]) -> None:
        """Have a message carried and record its outcome. Raises what `Carrier.carry` does, except a rejection."""
        reference = due.message.reference
        try:
            await self._carrier.carry(due, took)
        except (MessageRejected, InvalidValue) as error:
            why = printable(str(error))[: outbox_queue.NOTE_CHARACTERS_MAX]
            told = MessageOutcome(reference, MessageState.REFUSED, why)
        else:
            told = MessageOutcome(reference, MessageState.ACCEPTED)
        log_message_outcome(self._log, self._metrics, await self._recorded(partial(self._charge, told)))

    async def _reschedule(self, owner: str, reference: str, why: str) -> None:
        again = partial(
            outbox_queue.reschedule,
            owner=owner,
            references=[reference],
            why=why,
            now=self._now(),
            retry_seconds_max=self._retry_seconds_max,
        )
        await self._recorded(partial(self._transact, again))

    async def _recorded(self, record: Callable[[], Awaitable[T]]) -> T:
        """Record what happened, though recording fails for a moment: else the message would be sent again."""
        until = self._now() + RECORD
        while True:
            try:
                return await record()
            except Exception as error:
                is_refusal = isinstance(error, BillerError) and not isinstance(error, StoreUnavailable)
                if is_refusal or self._ending or self._now() > until:
                    raise
                self._log.warn("The outcome of a message waits to be recorded: {error}", error=str(error))
                await deferLater(self._clock, RECORD_SECONDS)


class OutboxService(PeriodicService):
    """Has one way's queue worked as long as the biller runs."""

    def __init__(self, clock: Any, outbox: Outbox) -> None:
        super().__init__(clock, POLL_SECONDS, outbox.work)
        self._outbox = outbox

    def stopService(self) -> Deferred[Any] | None:
        """End after what is going on; what waits, waits for the next start."""
        self._outbox.end()
        return super().stopService()
