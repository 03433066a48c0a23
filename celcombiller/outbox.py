"""Sends what waits to be sent by one way: claims messages, has them carried, and tells the ledger what became of them.

Several, on several nodes, do not get in each other's way. A crash between the sending and its record leaves the claim
to lapse; then the message is sent again: by each way at least once, and charged once. Of a message in parts those that
are recorded as taken are not sent again.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.logger import Logger

from celcombiller import messages
from celcombiller.errors import BillerError, StoreUnavailable
from celcombiller.events import Told
from celcombiller.model import MessageState
from celcombiller.periodic import PeriodicService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.engine import Connection

    from celcombiller.events import Posting
    from celcombiller.messages import Due
    from celcombiller.metrics import Metrics
    from celcombiller.model import Route

POLL_SECONDS = 1.0
"""How often the queue is looked at; a look at an empty one is one read by index."""

BATCH_MAX = 50

LEASE = timedelta(minutes=5)
"""How long a claimed message is left to who claimed it; if he dies, it waits for so long."""

WORK = timedelta(minutes=1)
"""How long a batch may be worked. What is not begun by then is given back, so that nothing comes near the lease."""


class Refused(BillerError):
    """The network will never take this message."""

    code = "MESSAGE_REFUSED"


class Later(BillerError):
    """The network did not take this message now, or did not say whether it did."""

    code = "MESSAGE_LATER"


class Away(BillerError):
    """There is no network to give anything to."""

    code = "MESSAGE_AWAY"


class Carrier(Protocol):
    """A way: what carries a message to the network."""

    at_once: int
    """How many it carries at the same time."""

    @property
    def is_there(self) -> bool:
        """Whether there is a network to give anything to."""

    async def carry(self, due: Due, took: Callable[[int, str], Awaitable[object]]) -> None:
        """Have the network take all of a message, or raise `Refused`, `Later` or `Away`.

        ``took`` records a part that is not to be sent again, with the network's id of it.
        """


class Outbox:
    """Works the queue of one way.

    ``transact`` does a unit of work in the database, ``read`` one that only reads, ``charge`` a request of charging.
    """

    _log = Logger()

    def __init__(
        self,
        route: Route,
        carrier: Carrier,
        *,
        transact: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        charge: Callable[[Told], Awaitable[Posting]],
        now: Callable[[], datetime],
        retry_seconds_max: float,
        metrics: Metrics,
    ) -> None:
        self.route = route
        self._carrier = carrier
        self._transact = transact
        self._read = read
        self._charge = charge
        self._now = now
        self._retry_seconds_max = retry_seconds_max
        self._metrics = metrics
        self._ending = False

    async def work(self) -> None:
        """Work batch after batch, until nothing is due or the network is away."""
        try:
            while not self._ending and self._carrier.is_there:
                if not await self._read(partial(messages.is_due, route=self.route, now=self._now())):
                    break
                await self.batch()
        except StoreUnavailable as error:
            self._log.warn("Messages by {route} wait: {error}", route=self.route, error=str(error))

    def end(self) -> None:
        """Begin nothing any more."""
        self._ending = True

    async def batch(self) -> None:
        """Work one batch; one message that is refused spoils no other."""
        owner = uuid.uuid4().hex
        now = self._now()
        claim = partial(messages.claim, route=self.route, owner=owner, now=now, limit=BATCH_MAX, lease=LEASE)
        claimed: list[Due] = await self._transact(claim)
        places = DeferredSemaphore(self._carrier.at_once)
        until = now + WORK
        try:
            await gatherResults(
                [places.run(self._in_its_place, due, owner, until) for due in claimed], consumeErrors=True
            )
        finally:
            if claimed:
                await self._transact(partial(messages.give_up, owner=owner))

    def _in_its_place(self, due: Due, owner: str, until: datetime) -> Deferred[None]:
        return Deferred.fromCoroutine(self._send(due, owner, until))

    async def _send(self, due: Due, owner: str, until: datetime) -> None:
        if self._ending or not self._carrier.is_there or self._now() > until:
            return
        reference = due.message.reference

        def took(part: int, network_id: str) -> Awaitable[object]:
            return self._transact(
                partial(messages.took, reference=reference, part=part, network_id=network_id, now=self._now())
            )

        try:
            await self._carrier.carry(due, took)
        except Away:
            return
        except Later as error:
            self._log.info("Message {reference} is tried again: {why}", reference=reference, why=str(error))
            again = partial(
                messages.put_off,
                owner=owner,
                references=[reference],
                why=str(error),
                now=self._now(),
                retry_seconds_max=self._retry_seconds_max,
            )
            await self._transact(again)
            return
        except Refused as error:
            told = Told(reference, MessageState.REFUSED, str(error)[: messages.NOTE_CHARACTERS_MAX])
        else:
            told = Told(reference, MessageState.ACCEPTED)
        tell(self._log, self._metrics, await self._charge(told))


def tell(log: Logger, metrics: Metrics, posting: Posting) -> None:
    """Write the one line of what became of a message, and count it."""
    if not posting.first:
        return
    message = posting.message
    metrics.message_told(message)
    log.info(
        "{state} message {reference}: {parts} parts, {cost} credits",
        state=message.state.capitalize(),
        reference=message.reference,
        parts=message.parts,
        cost=message.cost,
    )


class OutboxService(PeriodicService):
    """Has one way's queue worked as long as the biller runs."""

    def __init__(self, clock: Any, outbox: Outbox) -> None:
        super().__init__(clock, POLL_SECONDS, outbox.work)
        self._outbox = outbox

    def stopService(self) -> Deferred[Any] | None:
        """End after what is going on; what waits, waits for the next start."""
        self._outbox.end()
        return super().stopService()
