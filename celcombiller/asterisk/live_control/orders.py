"""Carries out what operators want of live calls, and records what became of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from celcombiller.asterisk.ami.codec import AmiProtocolError, AmiRefused
from celcombiller.asterisk.live_control.channels import hang_up, say
from celcombiller.core.errors import BillerError
from celcombiller.core.voice import call_orders
from celcombiller.core.voice.call_orders import DONE, OrderKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from celcombiller.asterisk.ami.link import AmiLink
    from celcombiller.asterisk.ami.live_calls import LiveCall
    from celcombiller.config.tables import Calls
    from celcombiller.core.voice.call_orders import CallOrder
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.runtime.metrics.calls import CallMetrics

OVER = "the call was over"
"""The result of an order that came too late."""

OTHERS = timedelta(seconds=1.5)
"""How long an order waits for the biller that began the call, before another with a link carries it out."""

HANGUP_SOUND_SECONDS = 4.0
"""How long a caller hears why their call ends, before it does."""

_LOG = Logger(namespace="celcombiller.asterisk.live_control.LiveControl")


class CallOrders:
    """The orders of calls whose servers have a link here."""

    def __init__(
        self, clock: Any, store: BatchWriter, links: Mapping[str, AmiLink], metrics: CallMetrics, calls: Calls
    ) -> None:
        self._clock = clock
        self._store = store
        self._links = links
        self._metrics = metrics
        self._calls = calls
        self._begun: set[int] = set()

    def carry_out(self, orders: Iterable[CallOrder], over: Collection[str]) -> None:
        """Carry out those that wait and are not begun; orders of calls that are ``over`` end so."""
        self._begun &= {each.id for each in orders}
        for order in orders:
            if order.id in self._begun:
                continue
            if order.reference in over:
                self._begin(order, None)
            elif (found := self._find(order)) is not None:
                self._begin(order, found)

    def _find(self, order: CallOrder) -> tuple[AmiLink, LiveCall] | None:
        """Return the call of an order, if it is in progress on a server with a link, and this biller's to act on."""
        channel, _, _leg = order.reference.removeprefix("call:").rpartition(":")
        server, _, uniqueid = channel.rpartition(":")
        link = self._links.get(server)
        live = None if link is None or link.ami is None else link.live_calls.find(uniqueid)
        if link is None or live is None or live.call.reference != order.reference or not link.is_alive(live):
            return None
        is_late = datetime.now(UTC) > order.made_at + OTHERS
        return (link, live) if is_late or not live.elsewhere else None

    def _begin(self, order: CallOrder, found: tuple[AmiLink, LiveCall] | None) -> None:
        self._begun.add(order.id)
        Deferred.fromCoroutine(self._carry_out(order, found)).addErrback(
            lambda failure: _LOG.failure("Order {id} failed", failure, id=order.id)
        )

    async def _carry_out(self, order: CallOrder, found: tuple[AmiLink, LiveCall] | None) -> None:
        """Carry out an order, and record its result; one that could not be recorded is begun again."""
        try:
            result = OVER if found is None else await self._do(order, *found)
            await self._store.transact(partial(call_orders.finish, order_id=order.id, result=result, now=_now()))
        except (ConnectionClosed, AmiProtocolError, BillerError) as error:
            self._begun.discard(order.id)
            _LOG.warn("Order {id} waits: {error}", id=order.id, error=str(error))
            return
        self._metrics.count_order(done=result == DONE)
        _LOG.info(
            "{actor} wants call {reference} to {kind} ({reason}): {result}",
            actor=order.actor,
            reference=order.reference,
            kind=str(order.kind),
            reason=order.reason,
            result=result,
        )

    async def _do(self, order: CallOrder, link: AmiLink, live: LiveCall) -> str:
        """Do what an order says; return its result."""
        try:
            if order.kind is OrderKind.SAY:
                await say(link, live, self._calls.warning_sound)
                return DONE
            if self._calls.hangup_sound:
                await self._announce_end(link, live)
            if not await hang_up(link, live):
                return OVER
        except AmiRefused as refused:
            return f"Asterisk refused: {refused}"[:200]
        self._metrics.count_hangup("order")
        return DONE

    async def _announce_end(self, link: AmiLink, live: LiveCall) -> None:
        """Let the caller hear why their call ends, where that can be: it ends in any case."""
        try:
            await say(link, live, self._calls.hangup_sound)
        except AmiRefused as refused:
            _LOG.warn("Call {reference} hears nothing: {error}", reference=live.call.reference, error=str(refused))
            return
        await deferLater(self._clock, HANGUP_SOUND_SECONDS)


def _now() -> datetime:
    return datetime.now(UTC)
