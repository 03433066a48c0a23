"""The control of live calls: renews their grants in time, and moves the limits of their channels with them.

A grant grows in the ledger first and then on the channel, and shrinks the other way round: so a call never talks on
credit that it does not hold. The ledger changes a grant only if it is the one that was known here, so two billers may
renew the same call: the second learns what the first did.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from math import ceil
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from zlib import crc32

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from celcombiller.asterisk.ami.codec import AmiProtocolError, AmiRefused
from celcombiller.asterisk.live_control.changes import ChangeWatch
from celcombiller.asterisk.live_control.channels import hang_up, limit_channels, say
from celcombiller.asterisk.live_control.grants import (
    LAST_TRY_SECONDS,
    OVERRUN_SECONDS,
    due_warning,
    lead_seconds,
    next_look,
    shared_grant,
)
from celcombiller.asterisk.live_control.orders import CallOrders
from celcombiller.core.charging.requests import Update
from celcombiller.core.errors import BillerError, StoreUnavailable
from celcombiller.core.model.calls import CallState, RenewalReason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping

    from celcombiller.asterisk.ami.link import AmiLink
    from celcombiller.asterisk.ami.live_calls import LiveCall
    from celcombiller.config.tables import Calls
    from celcombiller.core.catalogue.catalogue import CatalogueHolder
    from celcombiller.core.model.calls import Call, CallUpdate
    from celcombiller.core.voice.live_changes import LiveChanges
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.database.reader import Reader
    from celcombiller.runtime.metrics import Metrics

LOOK_SECONDS = 0.1
"""The interval between two looks for calls whose grants are to be looked at: few are due at a time."""

UPDATES_MAX = 100
"""Updates that one look begins: after a change that concerns all calls, new calls must not wait for those."""

LOOKS_MAX = 1000
"""Calls of a server that one look looks at."""

AGAIN_SECONDS = 1.0
"""How soon a call is looked at again that was not answered yet, or that the ledger could not renew."""

GO_ON_SECONDS = 15.0
"""How many seconds before the end of its grant a call that cannot be renewed is allowed to go on without the ledger."""

GONE_SECONDS = 5.0
"""How soon a call is looked at again whose channel is gone: by then it should be known how it ended."""

OTHERS_SECONDS = 0.5
"""How much longer a biller waits to do for a call of another one what that one does by itself while it is there.

Those that began before this biller was started again count as another's: there, too, a change acts within a second.
"""

_NEVER = datetime.max.replace(tzinfo=UTC)

_LOST = (ConnectionClosed, AmiRefused, AmiProtocolError)

_LOG = Logger(namespace="celcombiller.asterisk.live_control.LiveControl")


class LiveControl(Service):
    """Renews the grants of the live calls of all servers with an AMI link."""

    def __init__(
        self,
        clock: Any,
        calls: Calls,
        store: BatchWriter,
        reader: Reader,
        links: Mapping[str, AmiLink],
        metrics: Metrics,
        catalogue: CatalogueHolder,
        *,
        go_on: Callable[[Call, datetime], Awaitable[int]] | None = None,
    ) -> None:
        self.setName("live-control")
        self._calls = calls
        self._store = store
        self._links = links
        self._metrics = metrics.calls
        self._slice = calls.slice_seconds or calls.max_call_seconds
        self._lead = lead_seconds(calls.slice_seconds, calls.warning_seconds)
        self._may_go_on = go_on
        self._without: dict[str, str] = {}
        self._ledger_fault = ""
        self._steps: dict[AmiLink, timedelta] = {}
        self._looks = LoopingCall(self.look)
        self._looks.clock = clock
        self._orders = CallOrders(clock, store, links, self._metrics, calls)
        self._changes = ChangeWatch(clock, reader, catalogue, self._has_live_calls, self._follow)

    def startService(self) -> None:
        """Begin to look."""
        super().startService()
        self._looks.start(LOOK_SECONDS, now=False)
        self._changes.start()

    def stopService(self) -> None:
        """End."""
        super().stopService()
        self._changes.stop()
        if self._looks.running:
            self._looks.stop()

    # -- what the scripts and /readyz ask ----------------------------------------------------------------------------

    def slice_seconds(self, server: str) -> int | None:
        """Return the slice of a new call of this server; ``None``: it must hold credit for all it may use."""
        reason = self.fault_of(server)
        if reason != self._without.get(server, ""):
            self._without[server] = reason
            if reason:
                _LOG.warn("Calls of {server} get no slices: {reason}", server=server, reason=reason)
            else:
                _LOG.info("Calls of {server} get slices again", server=server)
        return None if reason else self._calls.slice_seconds or None

    def fault_of(self, server: str) -> str:
        """Return why new calls of this server hold credit for all they may use, against the settings; empty: not so."""
        if not self._calls.slice_seconds:
            return ""
        link = self._links.get(server)
        return "it has no [[asterisk]] table" if link is None else link.renewal_fault

    @property
    def sliced(self) -> dict[str, bool]:
        """Return for each server whether its new calls get slices."""
        return {server: self._calls.slice_seconds > 0 and not self.fault_of(server) for server in self._links}

    @property
    def faults(self) -> dict[str, str]:
        """Return for each server why its new calls get no slices; one whose calls get them is left out."""
        return {server: reason for server in self._links if (reason := self.fault_of(server))}

    async def make_room(self, subscriber_id: int, *, wanting: LiveCall | None = None) -> bool:
        """Have each live call of a subscriber leave a part of its grant to one call more; return whether any did."""
        found = [(link, live) for link, live in self._live_calls() if live.call.subscriber_id == subscriber_id]
        others = [(link, live) for link, live in found if live is not wanting and link.is_alive(live)]
        parts = [Deferred.fromCoroutine(self._leave_part(link, live, len(others))) for link, live in others]
        have_left: list[bool] = await gatherResults(parts, consumeErrors=True)
        return any(have_left)

    def _live_calls(self) -> Iterator[tuple[AmiLink, LiveCall]]:
        for link in self._links.values():
            if not link.renewal_fault:
                for live in link.live_calls:
                    yield link, live

    # -- following changes -------------------------------------------------------------------------------------------

    def _has_live_calls(self) -> bool:
        """Return whether a call is in progress on a server with a link."""
        return any(link.ami is not None and len(link.live_calls) for link in self._links.values())

    def _follow(self, changes: LiveChanges) -> None:
        """Look at once at the calls of who got credit or has changed, and carry out orders."""
        credited, changed = set(changes.credited.values()), set(changes.changed.values())
        if credited or changed or changes.too_many:
            for link, live in self._live_calls():
                subscriber_id = live.call.subscriber_id
                if None in changed or subscriber_id in changed:
                    self._look_soon(link, live, RenewalReason.LIMIT)
                elif subscriber_id in credited or (changes.too_many and live.is_final):
                    self._look_soon(link, live, RenewalReason.CREDIT)
            self.look()
        self._orders.carry_out(changes.orders, changes.over)

    @staticmethod
    def _look_soon(link: AmiLink, live: LiveCall, reason: RenewalReason) -> None:
        """Look at a call for this reason: at once, or after the biller that began it had the time to."""
        if live.reason is not RenewalReason.LIMIT:
            live.reason = reason
        live.look_at = link.now() + timedelta(seconds=OTHERS_SECONDS if live.elsewhere else 0)

    # -- looking at grants -------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Look at the grants that are due, and begin to renew those that end soon."""
        begun = 0
        for link in self._links.values():
            if link.ami is None:
                continue
            if link.clock_step != self._steps.get(link, timedelta()):
                self._steps[link] = link.clock_step
                self._limit_anew(link)
            now = link.now()
            due = [live for live in link.live_calls if live.look_at <= now and not live.is_updating]
            for live in due if len(due) < LOOKS_MAX else nsmallest(LOOKS_MAX, due, key=attrgetter("look_at")):
                if self._is_due(link, live):
                    begun += 1
                    live.is_updating = True
                    self._start(self._renew(link, live))
                if begun == UPDATES_MAX:
                    return

    @staticmethod
    def _limit_anew(link: AmiLink) -> None:
        """Have the limits of all calls set again: Asterisk counts them by its clock, which was set."""
        for live in link.live_calls:
            live.limit_seconds = 0
            live.look_now(live.reason)

    def _is_due(self, link: AmiLink, live: LiveCall) -> bool:
        """Return whether the ledger is to be asked for a call now; if not, set when it is looked at next."""
        if live.closed or live.call.state is not CallState.OPEN:
            live.look_at = _NEVER
            return False
        is_asked = live.reason is not RenewalReason.RENEWAL
        if not link.is_alive(live) or (live.answered_at is None and not is_asked):
            live.look_at = link.now() + timedelta(seconds=AGAIN_SECONDS)
            return False
        left = live.call.granted_seconds - link.used_seconds(live)
        self._warn_if_due(link, live, left)
        is_limited = live.limit_seconds == live.call.granted_seconds
        if not is_asked and is_limited and left > (LAST_TRY_SECONDS if live.is_final else self._lead_of(live)):
            self._schedule(link, live)
            return False
        return True

    def _warn_if_due(self, link: AmiLink, live: LiveCall, left: float) -> None:
        """Warn a caller whose credit ends, if it is time to; the biller that began the call does."""
        if not live.is_final or live.elsewhere:
            return
        warning = due_warning(left, self._calls.warning_seconds, live.warned_seconds)
        if warning is not None:
            live.warned_seconds = warning
            self._start(self._warn(link, live))

    async def _warn(self, link: AmiLink, live: LiveCall) -> None:
        try:
            await say(link, live, self._calls.warning_sound)
        except _LOST as error:
            _LOG.info(
                "Call {reference}: no warning is played: {error}", reference=live.call.reference, error=str(error)
            )

    def _lead_of(self, live: LiveCall) -> float:
        """Return how long before its end a grant is renewed: later, where another biller began the call.

        Grants are of whole seconds, so those of calls that began together end together: they are spread over a second.
        """
        lead = self._lead / 2 if live.elsewhere else self._lead
        return lead - min(1.0, lead / 4) * (crc32(live.call.uniqueid.encode()) % 100) / 100

    def _schedule(self, link: AmiLink, live: LiveCall) -> None:
        """Set when a call is looked at next."""
        left = live.call.granted_seconds - link.used_seconds(live)
        warnings = self._calls.warning_seconds
        self._look_in(link, live, next_look(left, self._lead_of(live), is_final=live.is_final, warnings=warnings))

    def _look_in(self, link: AmiLink, live: LiveCall, seconds: float) -> None:
        """Look at a call in so many seconds, unless there is a reason by now to do it at once."""
        if live.reason is RenewalReason.RENEWAL:
            live.look_at = link.now() + timedelta(seconds=seconds)

    # -- renewing ----------------------------------------------------------------------------------------------------

    async def _renew(self, link: AmiLink, live: LiveCall) -> None:
        """Renew a grant; set when it is looked at next, whatever comes of it."""
        reason, live.reason = live.reason, RenewalReason.RENEWAL
        again = 0.0
        try:
            again = await self._renew_or_end(link, live, reason)
        except StoreUnavailable as error:
            again = AGAIN_SECONDS
            self._log_ledger_fault(str(error))
            await self._go_on(link, live)
        except (*_LOST, BillerError) as error:
            again = GONE_SECONDS
            _LOG.info("Call {reference}: {error}", reference=live.call.reference, error=str(error))
        except Exception:  # noqa: BLE001  one call must not keep the others from being renewed
            again = AGAIN_SECONDS
            _LOG.failure("The grant of call {reference} was not renewed", reference=live.call.reference)
        finally:
            live.is_updating = False
            if again:
                self._look_in(link, live, again)
            else:
                self._schedule(link, live)

    async def _go_on(self, link: AmiLink, live: LiveCall) -> None:
        """Have a call whose grant cannot be renewed talk beyond its end, once, as far as ``[[outage]]`` allows."""
        call, answered_at = live.call, live.answered_at
        left = call.granted_seconds - link.used_seconds(live)
        is_extended = live.limit_seconds > call.granted_seconds
        if self._may_go_on is None or answered_at is None or is_extended or left > GO_ON_SECONDS:
            return
        seconds = await self._may_go_on(call, answered_at)
        if seconds:
            _LOG.warn(
                "Call {reference} goes on to {seconds} s without the ledger", reference=call.reference, seconds=seconds
            )
            with suppress(*_LOST):
                await limit_channels(link, live, seconds, self._calls.ring_seconds)

    async def _renew_or_end(self, link: AmiLink, live: LiveCall, reason: RenewalReason) -> float:
        """Renew a grant, or hang the call up; return in how many seconds to look again, 0: by what is left."""
        before = live.call.granted_seconds
        left = before - link.used_seconds(live)
        answer = await self._ask(link, live, reason)
        if answer.end is not None:
            await self._end(link, live, str(answer.end))
            live.reason = RenewalReason.LIMIT  # it is asked again, should its channel still be there
            live.look_at = link.now() + timedelta(seconds=AGAIN_SECONDS)
            return AGAIN_SECONDS
        if answer.at_most is not None:
            await self._shorten(link, live, answer.at_most, RenewalReason.LIMIT)
        elif live.is_final and live.call.granted_seconds == before and -OVERRUN_SECONDS < left <= LAST_TRY_SECONDS:
            if await self.make_room(live.call.subscriber_id, wanting=live):
                await self._ask(link, live, RenewalReason.SHARING)
        elif left <= -OVERRUN_SECONDS and live.call.granted_seconds == before and live.answered_at is not None:
            await self._end(link, live, "beyond its grant")
            return AGAIN_SECONDS
        return 0.0

    async def _ask(
        self, link: AmiLink, live: LiveCall, reason: RenewalReason, *, at_most: int | None = None
    ) -> CallUpdate:
        """Have the ledger renew or shorten a grant, and give the channels the limit that follows."""
        known = live.call
        request = Update(
            known.server,
            known.uniqueid,
            known.leg,
            granted_seconds=known.granted_seconds,
            used_seconds=ceil(link.used_seconds(live)),
            answered_at=live.answered_at,
            slice_seconds=self._slice,
            at_most=at_most,
            reason=reason,
        )
        answer = await self._store.charge(request, deferrable=reason is not RenewalReason.SHARING)
        self._log_ledger_fault("")
        live.call, live.is_final = answer.call, answer.is_final
        if answer.call.granted_seconds != known.granted_seconds:
            live.warned_seconds = None
            self._metrics.count_renewal(reason)
            _LOG.debug(
                "Call {reference} is granted {seconds} s, {before} s before: {reason}",
                reference=known.reference,
                seconds=answer.call.granted_seconds,
                before=known.granted_seconds,
                reason=str(reason),
            )
        if answer.call.state is CallState.OPEN and live.limit_seconds != answer.call.granted_seconds:
            await limit_channels(link, live, answer.call.granted_seconds, self._calls.ring_seconds)
        return answer

    async def _shorten(self, link: AmiLink, live: LiveCall, seconds: int, reason: RenewalReason) -> bool:
        """Shorten a grant: its channels first; return whether it is shorter now."""
        before = live.call.granted_seconds
        try:
            await limit_channels(link, live, seconds, self._calls.ring_seconds)
            await self._ask(link, live, reason, at_most=seconds)
        except BillerError:
            await limit_channels(link, live, live.call.granted_seconds, self._calls.ring_seconds)
            raise
        live.is_final = True  # what it left is another's: it asks again at its end
        return live.call.granted_seconds < before

    async def _leave_part(self, link: AmiLink, live: LiveCall, sharers: int) -> bool:
        """Have a call leave a part of its grant to one call more; return whether it did."""
        call = live.call
        at = call.answered_at or live.answered_at or call.started_at
        kept = shared_grant(call.rate, at, call.granted_seconds, link.used_seconds(live), sharers)
        if kept >= call.granted_seconds:
            return False
        try:
            has_left = await self._shorten(link, live, kept, RenewalReason.SHARING)
        except (*_LOST, BillerError) as error:
            _LOG.warn("Call {reference} leaves nothing: {error}", reference=call.reference, error=str(error))
            return False
        self._schedule(link, live)
        return has_left

    async def _end(self, link: AmiLink, live: LiveCall, reason: str) -> None:
        """Hang up a call that may not go on."""
        if await hang_up(link, live):
            _LOG.info("Call {reference} is hung up: {reason}", reference=live.call.reference, reason=reason)
            self._metrics.count_hangup(reason)

    def _log_ledger_fault(self, fault: str) -> None:
        """Log once that grants cannot be renewed, and once that they can again."""
        if fault and not self._ledger_fault:
            _LOG.warn("Live calls are not renewed, and end with their slices: {error}", error=fault)
        elif self._ledger_fault and not fault:
            _LOG.info("Live calls are renewed again")
        self._ledger_fault = fault

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        Deferred.fromCoroutine(work).addErrback(lambda failure: _LOG.failure("Live control failed", failure))
