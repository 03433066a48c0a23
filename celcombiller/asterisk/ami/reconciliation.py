"""The comparison of the open calls in the ledger with what is alive on an Asterisk server.

It finds what was missed while a link or a biller was away. A call is given up only when two complete lists agree that
it is gone.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.ami.codec import AmiRefused
from celcombiller.asterisk.ami.witness import LOG_NAMESPACE
from celcombiller.core.errors import BillerError
from celcombiller.core.model.calls import Witness
from celcombiller.core.voice.asterisk_heartbeat import (
    forget_call_events,
    last_call_event,
    record_call_event,
    server_last_seen,
    server_not_seen_beyond,
    server_seen,
    server_seen_before_step,
)
from celcombiller.core.voice.call_queries import list_open, still_open
from celcombiller.core.voice.evidence import estimated_report
from celcombiller.runtime.timers.clock_steps import STEP_LEAST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.engine import Connection

    from celcombiller.asterisk.ami.event_clock import EventClock
    from celcombiller.asterisk.ami.live_calls import LiveCall, LiveCalls
    from celcombiller.asterisk.ami.witness import AmiWitness
    from celcombiller.asterisk.cdr_evidence import CdrEvidence
    from celcombiller.core.model.calls import Call
    from celcombiller.core.voice.call_queries import OpenCall
    from celcombiller.database.batch_writer import BatchWriter

SETTLING_IN = timedelta(seconds=5)
"""A call younger than this may not be in a list that was asked for before it began. One that begins later than this
from now may be older than it seems: the clock was set back. Then it counts from the first list after which it was in
the ledger."""

AHEAD_MAX = timedelta(minutes=1)
"""A call that begins later than this from now began before the clock was set back. Less may be another biller's
clock."""

PAGE_CALLS = 200
"""Open calls that are read at once. 15,000 in one transaction kept all other calls waiting for half a second."""

_LOG = Logger(namespace=LOG_NAMESPACE)


class Reconciliation:
    """Compares the calls of one server, and has its witness report those that ended unheard.

    ``now`` tells the time by Asterisk's clock.
    """

    def __init__(
        self,
        server: str,
        calls: LiveCalls,
        witness: AmiWitness,
        events_clock: EventClock,
        store: BatchWriter,
        cdrs: CdrEvidence | None = None,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._server = server
        self._calls = calls
        self._witness = witness
        self._events_clock = events_clock
        self._store = store
        self._cdrs = cdrs
        self._now = now
        self._is_loss_known = False
        self._link_lost_at: datetime | None = None
        self._lost_before_step: datetime | None = None
        """When the server was last heard before its clock was set back, by that clock."""
        self._steps_before = timedelta()
        """The steps of Asterisk's clock up to the loss of the link."""
        self._began_at = datetime.now(UTC)
        self._knows_all = False
        """The last list has settled whether the calls are alive that were open when this connection began."""

    async def begin(self) -> None:
        """Read when the server was last heard, before anything is recorded of the new connection."""
        self._began_at, self._knows_all = datetime.now(UTC), False
        self._is_loss_known, self._link_lost_at = False, None
        self._steps_before = self._events_clock.steps.total
        try:
            await self._read_loss()
        except BillerError as error:
            _LOG.warn("When {server} was last seen is not known yet: {error}", server=self._server, error=str(error))

    async def _read_loss(self) -> None:
        server = self._server
        self._link_lost_at, self._lost_before_step, event_at = await self._store.transact(
            lambda tx: (server_last_seen(tx, server), server_seen_before_step(tx, server), last_call_event(tx, server))
        )
        self._is_loss_known = True
        if event_at is not None and self._witness.last_call_event is None:
            self._witness.last_call_event = event_at

    async def record_seen(self) -> None:
        """Record that the server is heard now, by its clock: what is found gone later was alive until then.

        Not while a call is missing that may have ended before this connection began: it was not alive until now. Then
        only a time that is later than now is replaced: the clock was set back since. Raises a `BillerError` when the
        ledger takes no record.
        """
        now, event_at, knows_all = self._now(), self._witness.last_call_event, self._knows_all

        def record(tx: Connection) -> None:
            if knows_all:
                server_seen(tx, self._server, now)
            else:
                server_not_seen_beyond(tx, self._server, now)
            if event_at is not None:
                record_call_event(tx, self._server, event_at)

        await self._store.transact(record)

    async def record_deaf(self) -> None:
        """Record that the answers of calls are not heard, also for a biller that is started again."""
        self._witness.last_call_event = None
        await self._store.transact(lambda tx: forget_call_events(tx, self._server))

    async def compare(self, ami: Any) -> None:
        """Compare the open calls with one complete list of what is alive."""
        if not self._is_loss_known:
            await self._read_loss()
        asked_at, asked_there = datetime.now(UTC), self._now()
        items = await ami.status()
        alive = {item.get("uniqueid", ""): item for item in items if item.get("event") == "Status"}
        rows = await self._read_open()
        self._calls.forget_ended(alive, {row.reference for row in rows})
        unresolved = False
        for row in rows:
            live = self._find_live(row)
            if live is None:  # it has ended meanwhile, or a later call of its channel is known
                continue
            call = live.call
            if call.uniqueid in alive:
                live.missing, live.listed, live.seen_at = 0, True, asked_there
                if live.answered_at is None and alive[call.uniqueid].get("bridgeid"):
                    await self._find_answer(ami, live)
                continue
            if live.in_session:
                continue
            if not asked_at - SETTLING_IN < call.started_at <= asked_at + AHEAD_MAX or live.compared:
                live.missing += 1
            live.compared = True
            self._calls.recall_end(live)
            if live.missing > 1:
                await self._close_gone(ami, live)
            elif call.started_at < self._began_at or call.started_at > asked_at + SETTLING_IN:
                unresolved = True
        self._knows_all = not unresolved

    async def _read_open(self) -> list[OpenCall]:
        """Return the open calls of the server, and know each from here on as the ledger has it.

        They are read in pages: the thread that reads them writes what other calls wait for.
        """
        rows: list[OpenCall] = []
        page: list[OpenCall] | None = None
        while page is None or len(page) == PAGE_CALLS:
            after = page[-1] if page else None
            page = await self._store.transact(partial(list_open, server=self._server, after=after, limit=PAGE_CALLS))
            rows += page
            new = [row.reference for row in page if not self._is_known(row)]
            for call in await self._store.transact(partial(still_open, references=new)) if new else ():
                self._calls.add_open(call, self._events_clock.steps.total)
        return rows

    def _find_live(self, row: OpenCall) -> LiveCall | None:
        live = self._calls.find(row.uniqueid)
        return live if live is not None and live.call.reference == row.reference else None

    def _is_known(self, row: OpenCall) -> bool:
        """Return whether a call is known here with what it is granted, which another biller may have changed."""
        live = self._find_live(row)
        return live is not None and live.call.granted_seconds == row.granted_seconds

    @property
    def is_in_doubt(self) -> bool:
        """Whether a call was missing for the first time, so that a second list should come soon."""
        return any(live.missing == 1 for live in self._calls)

    async def make_good(self, ami: Any, lives: Mapping[str, LiveCall]) -> None:
        """Do what is not done yet for calls that were begun elsewhere, by their references."""
        calls: list[Call] = await self._store.transact(lambda tx: still_open(tx, lives))
        left = {call.reference: call for call in calls}
        for reference, live in lives.items():
            if reference not in left:
                self._calls.forget(live.call.uniqueid)
            elif live.hung_up_at is not None:
                await self._witness.record_end(ami, live, live.hung_up_at)
            elif live.answered_at is not None and left[reference].answered_at is None:
                await self._witness.record_answer(
                    ami, live, live.remaining_seconds(self._now() + live.clock_step - self._events_clock.steps.total)
                )

    async def _find_answer(self, ami: Any, live: LiveCall) -> None:
        """Find when a call was answered that was not heard.

        The dialplan's stamp says it; else the channel's CDR, if func_cdr is loaded and only the callee's answer can be
        in it. Otherwise it counts from now, and the limit stays as it is: it must not be granted once more.
        """
        sources = [channel_variables.ANSWERED, *([] if live.call.answered_early else [channel_variables.CDR_ANSWER])]
        for source in sources:
            try:
                said_at = channel_variables.instant(await ami.getVar(live.call.channel, source))
            except AmiRefused:  # the channel is gone by now, or the user lacks the right: other calls go on
                continue
            if said_at is not None and self._witness.is_possible(live.call, said_at):
                live.answered_at, live.clock_step = said_at, self._events_clock.steps.total
                elapsed_seconds = max(0.0, (self._now() - said_at).total_seconds())
                await self._witness.record_answer(ami, live, max(0.1, live.call.granted_seconds - elapsed_seconds))
                return
        live.answered_at, live.clock_step = self._now(), self._events_clock.steps.total
        await self._witness.record_answer(ami, live, None)

    def _find_link_loss(self, answered_at: datetime | None) -> datetime | None:
        """Return when the link was lost, by Asterisk's clock as it is set now; ``None``: it is not known.

        The clock may have been set since. What is later than now was recorded before it was set back, by a biller that
        could not record the step. It belongs to an answer that is later than now, too. Where it is later by less than a
        step, the call may have lived until now. A biller that died before it could close the call has replaced it: then
        what it replaced counts.
        """
        if self._link_lost_at is None:
            return None
        lost_at = self._link_lost_at + self._events_clock.steps.total - self._steps_before
        now = self._now()
        if answered_at is not None and answered_at > now:
            return lost_at if lost_at > now else self._lost_before_step or lost_at
        return None if lost_at > now + STEP_LEAST else min(lost_at, now)

    async def _close_gone(self, ami: Any, live: LiveCall) -> None:
        """Close a call that two lists do not have, by the best evidence there is.

        A Hangup that was heard and the dialplan's note are exact. A CDR counts in whole seconds, from the answer of the
        caller's channel.
        """
        if live.hung_up_at is not None and self._witness.answered_at(live) is not None:
            await self._witness.record_end(ami, live, live.hung_up_at)
            return
        report, witness = await self._witness.read_note(ami, live.call), Witness.SWEEP
        if report is None and self._cdrs is not None:
            report, witness = await self._cdrs.find(live.call), Witness.CDR
        if report is None:
            witness = Witness.SWEEP
            answered_at = self._witness.answered_at(live)
            report = estimated_report(
                live.call,
                answered_at,
                live.talk_ended_at or live.alive_until(self._find_link_loss(answered_at), answered_at),
                answers_are_heard=self._witness.hears_answers(live.call),
                ahead=self._events_clock.skew,
            )
        await self._witness.record_report(live.call, witness, report)
