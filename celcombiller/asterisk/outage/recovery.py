"""Charges the calls that went without the ledger, once it is back, where no script of a channel reports their end.

A call whose process or session is gone has an end all the same: what the journal says of it; else the note that the
dialplan left in Asterisk's database; else it talked while it was known to be alive, at most as long as it might.
"""

from __future__ import annotations

from collections import Counter
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from celcombiller.asterisk.ami.codec import AmiProtocolError, AmiRefused
from celcombiller.asterisk.outage.journal_entries import Done, Seen, Talks
from celcombiller.asterisk.outage.journal_file import JournalFault
from celcombiller.core.charging.slices import HOLD_MARGIN
from celcombiller.core.errors import BillerError, StoreUnavailable
from celcombiller.core.model.calls import CallState, Witness
from celcombiller.core.schema import tables
from celcombiller.core.voice.evidence import estimated_report
from celcombiller.runtime.log.charging import log_settlement
from celcombiller.runtime.process.process_identity import is_running

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from celcombiller.asterisk.ami.link import AmiLink
    from celcombiller.asterisk.outage.control import OutageControl
    from celcombiller.asterisk.outage.journal_entries import JournalEntries, JournalEntry, Line
    from celcombiller.core.model.calls import CallReport
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.runtime.metrics import Metrics

LOOK_SECONDS = 2.0
"""How often the calls that went without the ledger are looked at. What they talked unseen is less than this."""

LISTS_MISSING = 2
"""So many complete lists of channels in a row must not have a call before it is taken for over."""

_CLOSED = (CallState.SETTLED, CallState.RELEASED)

_LOG = Logger()


class LedgerlessCalls(Service):
    """Looks at the calls of the journal: notes that they are alive, and charges those that no script will.

    ``is_first``: of several processes that share the file, the one that also cares for calls of those that are gone.
    """

    def __init__(
        self,
        clock: Any,
        control: OutageControl,
        store: BatchWriter,
        monitors: Mapping[str, AmiLink],
        metrics: Metrics,
        *,
        is_first: bool = True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._control = control
        self._journal = control.journal
        self._store = store
        self._monitors = monitors
        self._metrics = metrics
        self._is_first = is_first
        self._now = now
        self._missing: Counter[str] = Counter()
        self._loop = LoopingCall(self._begin)
        self._loop.clock = clock
        self._over: Deferred[Any] | None = None

    def startService(self) -> None:
        """Begin to look."""
        super().startService()
        self._over = self._loop.start(LOOK_SECONDS)

    def stopService(self) -> Deferred[Any] | None:
        """End after the look that is going on."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        return self._over

    def _begin(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._look_safely())

    async def _look_safely(self) -> None:
        try:
            await self.look()
        except (JournalFault, StoreUnavailable):
            pass  # both are logged where they begin
        except Exception:  # noqa: BLE001  one fault must not end the loop
            _LOG.failure("A look at the calls that went without the ledger failed")

    async def look(self) -> None:
        """Look once. Raises `JournalFault`, and `StoreUnavailable` while the ledger is away."""
        if not (self._journal.exists or self._control.rules.may_allow):
            await self._ask_if_away()
            return
        self._control.write_again()
        entries = await self._journal.change(_copy)
        self._control.learn_limits(entries)
        alive = await self._list_channels({each.went.server for each in entries if each.ended is None})
        await self._note_life(entries, alive)
        await self._ask_if_away()
        for each in entries:
            if self._is_ours(each):
                await self._charge(each, alive)

    async def _ask_if_away(self) -> None:
        """See whether a ledger that was away is back, also where no call asks it."""
        if self._control.away_since is not None:
            await self._store.transact(lambda tx: tx.execute(sa.select(1)).scalar_one())
            self._control.record_answer()

    def _is_ours(self, entry: JournalEntry) -> bool:
        """Return whether no script will report this call, and it is this process that has to."""
        went = entry.went
        if self._control.has_in_hand(went.id):
            return False
        if went.owner == self._control.owner:
            return True
        return self._is_first and (entry.is_lost or not is_running(went.owner))

    async def _list_channels(self, servers: set[str]) -> dict[str, dict[str, bool]]:
        """Return of each server with a link the channels that live: by their uniqueids, whether they talk."""
        found: dict[str, dict[str, bool]] = {}
        for server in servers:
            link = self._monitors.get(server)
            if link is None or link.ami is None:
                continue
            try:
                items = await link.ami.status()
            except (ConnectionClosed, AmiRefused, AmiProtocolError):
                continue
            found[server] = {
                item.get("uniqueid", ""): bool(item.get("bridgeid")) for item in items if item.get("event") == "Status"
            }
        return found

    async def _note_life(self, entries: Sequence[JournalEntry], alive: Mapping[str, Mapping[str, bool]]) -> None:
        """Note which calls are alive, by their sessions or their channels, and which of them talk."""
        now = self._now()
        lines: list[Line] = []
        own = [each for each in entries if each.ended is None and self._control.has_in_hand(each.went.id)]
        if own:
            lines.append(Seen(now, owner=self._control.owner, answers=all(each.went.server in alive for each in own)))
        for each in entries:
            talks = alive.get(each.went.server, {}).get(each.went.uniqueid)
            if each.ended is not None or talks is None:
                continue
            if each not in own and self._is_ours(each):
                lines.append(Seen(now, id=each.went.id, answers=True))
            if talks and each.talks_since is None:
                lines.append(Talks(each.went.id, now))
        if lines:
            await self._journal.write(*lines)

    async def _charge(self, entry: JournalEntry, alive: Mapping[str, Mapping[str, bool]]) -> None:
        """Charge a call whose end is known or can be estimated by now."""
        went, ended = entry.went, entry.ended
        if went.leg is not None:  # the ledger has it: its witnesses end it, with the limit that `with_limit` adds
            if await self._is_closed(entry):
                await self._journal.write(Done(went.id))
            return
        if ended is not None:
            end = entry.terminate(ended.witness, ended.report)
        elif await self._is_closed(entry):
            await self._journal.write(Done(went.id))
            return
        else:
            report = await self._find_end(entry, alive.get(went.server))
            if report is None:
                return
            end = entry.terminate(Witness.SWEEP, report)
        try:
            settlement = await self._store.charge(end)
        except StoreUnavailable:
            raise
        except BillerError as refusal:
            self._control.record_charge(end, refusal)
            return
        log_settlement(_LOG, end.witness, settlement)
        self._metrics.calls.count_end(end.witness, settlement)
        self._control.record_charge(end, settlement)
        self._missing.pop(went.id, None)

    async def _is_closed(self, entry: JournalEntry) -> bool:
        """Return whether the ledger has charged or released it already: then an estimate would only be in the way."""
        went = entry.went

        def look(tx: Connection) -> bool:
            call = tables.call.c
            which = call.authorization == went.id if went.leg is None else call.leg == went.leg
            mine = sa.and_(call.server == went.server, call.uniqueid == went.uniqueid, which)
            states = tx.execute(sa.select(call.state).where(mine)).scalars().all()
            return any(each in _CLOSED for each in states)

        return await self._store.transact(look)

    async def _find_end(self, entry: JournalEntry, alive: Mapping[str, bool] | None) -> CallReport | None:
        """Return how a call ended that no script reports; ``None``: it lives, or this cannot be known yet."""
        went, now = entry.went, self._now()
        if alive is None:
            limit = timedelta(seconds=went.ring_seconds + went.seconds)
            return self._estimate(entry) if now > went.at + limit + HOLD_MARGIN else None
        if went.uniqueid in alive:
            self._missing.pop(went.id, None)
            return None
        self._missing[went.id] += 1
        if self._missing[went.id] < LISTS_MISSING:
            return None
        note = await self._monitors[went.server].read_note(went)
        return note or self._estimate(entry)

    @staticmethod
    def _estimate(entry: JournalEntry) -> CallReport:
        """Return what is known of a call: one that was never seen alive after its line was perhaps never dialled."""
        was_seen = entry.seen_at > entry.went.at
        are_heard = entry.answers_are_seen or not was_seen
        return estimated_report(entry.went, entry.talks_since, entry.seen_at, answers_are_heard=are_heard)


def _copy(entries: JournalEntries) -> tuple[Sequence[Line], list[JournalEntry]]:
    """Return the entries as they are now; the thread goes on to change its own."""
    return (), [copy(each) for each in entries]
