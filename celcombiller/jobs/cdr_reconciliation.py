"""Read the new call detail records of an Asterisk again and again, and report how they differ from the ledger.

Any number of nodes may do it: one at a time reads, and how far is kept in the ledger. What is found is recorded once,
logged and counted. It is settled only where the settings say so.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.calls import Witness
from celcombiller.core.reconciliation import difference_records
from celcombiller.core.reconciliation.cdr import join_rows
from celcombiller.core.reconciliation.settlement import list_suspects, reconcile_channels
from celcombiller.runtime.log.charging import log_settlement

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.cdr.source import CdrSource, Place, Reading
    from celcombiller.core.reconciliation.cdr import CdrRow, ChannelCdr
    from celcombiller.core.reconciliation.settlement import PastCatalogue, Reconciled, ReconciliationTerms
    from celcombiller.runtime.metrics import Metrics

SETTLING = timedelta(seconds=60)
"""How old an end has to be: the witnesses are given that time to report it."""
LEASE = timedelta(minutes=5)
"""A node that reads and dies is given up after that."""
CHANNELS = 100
"""Channels that are compared at once: calls wait for a settlement of them."""
LOGGED_MAX = 10
"""Differences and errors of one look that are logged; the API has all."""

_LOG = Logger()


@dataclass(frozen=True, slots=True)
class Batch:
    """Some channels, how far the source is read with them, and why some records cannot be read."""

    channels: list[ChannelCdr]
    place: Place
    errors: list[str]


class CdrReconciliation:
    """A look for new records. ``transact`` and ``read`` are the ways to the ledger, ``in_thread`` that to a source."""

    def __init__(
        self,
        source: CdrSource,
        terms: ReconciliationTerms,
        past: PastCatalogue,
        *,
        settle: bool,
        transact: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        in_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._source, self._terms, self._past = source, terms, past
        self._settle = settle
        self._transact, self._read, self._in_thread = transact, read, in_thread
        self._now, self._metrics = now, metrics
        self._owner = uuid.uuid4().hex
        self._fault = ""

    async def __call__(self) -> None:
        """Look once."""
        try:
            await self._look()
        except InvalidValue as error:
            if str(error) != self._fault:
                self._fault = str(error)
                _LOG.error("CDRs are not read: {reason}", reason=self._fault)
            return
        if self._fault:
            self._fault = ""
            _LOG.info("The CDRs of {source} are read again", source=self._source.label)

    async def _look(self) -> None:
        now, name = self._now(), self._terms.server
        claim = partial(difference_records.claim_source, name=name, owner=self._owner, until=now + LEASE, now=now)
        known = await self._transact(claim)
        if known is None:
            return
        try:
            if known.place is None or known.source != self._source.label:
                place = await self._in_thread(self._source.find_end)
                _LOG.info("New CDRs of {source} are compared from now on", source=self._source.label)
                await self._save(Batch([], place, []))
            else:
                await self._compare(known.place, now)
        finally:
            await self._transact(partial(difference_records.release_source, name=name, owner=self._owner))
        self._metrics.cdr.looked_at.set(self._now().timestamp())

    async def _compare(self, place: Place, now: datetime) -> None:
        reading = await self._in_thread(lambda: self._source.read(place, now, is_written=True))
        batches = list_batches(reading, now - SETTLING)
        logged = 0
        while (batch := await self._in_thread(lambda: next(batches, None))) is not None:
            for error in batch.errors[:LOGGED_MAX]:
                _LOG.warn("A CDR of {source} cannot be read: {error}", source=self._source.label, error=error)
            self._metrics.cdr.count_unreadable(len(batch.errors))
            suspects = await self._read(partial(list_suspects, terms=self._terms, channels=batch.channels))
            new = await self._save(Batch(suspects, batch.place, []))
            self._metrics.cdr.channels.inc(len(batch.channels))
            for each in new:
                self._metrics.cdr.count(each.difference.kind, settled=each.is_settled)
                logged += 1
                self._log(each, is_logged=logged <= LOGGED_MAX)
        for note in reading.notes:
            _LOG.warn("{note}", note=note)
        if logged > LOGGED_MAX:
            _LOG.warn("{count} more differences of CDRs were found", count=logged - LOGGED_MAX)

    async def _save(self, batch: Batch) -> list[Reconciled]:
        """Settle or only compare some channels, and record how far the source is read, in one transaction."""
        now = self._now()

        def work(tx: Connection) -> list[Reconciled]:
            name, source = self._terms.server, self._source.label
            state = difference_records.SourceState(batch.place, source)
            if not difference_records.save_place(tx, name, self._owner, state, now):
                return []  # another node took over
            found = reconcile_channels(tx, self._past, self._terms, batch.channels, now, apply=self._settle)
            return difference_records.record_differences(tx, self._terms, found, now)

        new: list[Reconciled] = await self._transact(work)
        return new

    def _log(self, each: Reconciled, *, is_logged: bool) -> None:
        difference = each.difference
        if each.settlement is not None and each.is_settled:
            log_settlement(_LOG, Witness.CDR, each.settlement)
            self._metrics.calls.count_end(Witness.CDR, each.settlement)
        if is_logged:
            _LOG.warn(
                "The CDRs of {server} and the ledger differ: {kind}, {caller} to {called} at {at}, {cdr_ms} ms by the"
                " CDR, {ledger_ms} by the ledger ({result}; channel {uniqueid!r})",
                server=self._terms.server,
                kind=difference.kind,
                caller=difference.from_number,
                called=difference.to_number,
                at=difference.started_at.isoformat(timespec="seconds"),
                cdr_ms=difference.cdr_ms,
                ledger_ms=difference.ledger_ms,
                result="settled" if each.is_settled else each.refusal or "not settled",
                uniqueid=difference.uniqueid,
            )


def list_batches(reading: Reading, until: datetime, size: int = CHANNELS) -> Iterator[Batch]:
    """Yield the channels whose records all ended before ``until``, some at a time, up to the first that did not.

    The records of a channel follow one another; a channel is never cut in two.
    """
    rows: dict[str, list[CdrRow]] = {}
    errors: list[str] = []
    behind = before = dict(reading.place)
    last = ""
    for each in reading.rows:
        row = each.row
        if row is None:
            errors.append(f"row {each.place} {each.error}")
        else:
            if row.uniqueid != last:
                before, last = behind, row.uniqueid
            if row.ended_at > until:
                rows.pop(row.uniqueid, None)
                behind = before
                break
            if row.uniqueid not in rows and len(rows) >= size:
                yield Batch([join_rows(some) for some in rows.values()], behind, errors)
                rows, errors = {}, []
            rows.setdefault(row.uniqueid, []).append(row)
        behind = dict(reading.place)
    else:
        behind = dict(reading.place)
    yield Batch([join_rows(some) for some in rows.values()], behind, errors)
