"""Compare records with the ledger, a few hundred channels at a time, and settle what is missing.

A missing call is priced as it would have been when it began: by the version of the tariff that was in force then. Its
reference is that of any call, so it is charged once, however often this runs. Who pays, and by which tariff of which
group, is what the ledger says now.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.catalogue.catalogue import CatalogueHolder
from celcombiller.core.catalogue.loading import KEPT, read_catalogue
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import Initiate, Terminate
from celcombiller.core.errors import BillerError, UnknownSubscriber
from celcombiller.core.model.calls import BY_CDR, CallReport, CallState, Settlement, Witness
from celcombiller.core.reconciliation.differences import (
    CallDifference,
    DifferenceKind,
    compare_channel,
    without_cdr,
)
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.number_forms import plain_number
from celcombiller.core.voice.call_records import call_from_row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.charging.requests import ChargingPolicy
    from celcombiller.core.model.calls import Call
    from celcombiller.core.reconciliation.cdr import ChannelCdr

CHUNK_CHANNELS = 500
"""Channels that are compared in one transaction."""

OUTCOME = "CDR"
"""What stands for DIALSTATUS in a call that a CDR settled."""

SOURCE_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class ReconciliationTerms:
    """Which records are compared, and how. ``server``: the Asterisk whose records they are, ``source`` where they were.

    ``contexts``: only missing calls of these contexts of the dialplan are wanted; none: of all. ``free_numbers`` are
    never charged.
    """

    server: str
    source: str
    tolerance: timedelta = timedelta(seconds=2)
    contexts: frozenset[str] = frozenset()
    free_numbers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A difference, and what came of it: the call that settles it and its cost, or the refusal.

    ``is_settled``: it is in the ledger by now. Where nothing is written, ``cost`` is what it would cost.
    """

    difference: CallDifference
    reference: str | None = None
    cost: int | None = None
    refusal: str = ""
    is_settled: bool = False
    settlement: Settlement | None = None


@dataclass(slots=True)
class PastCatalogue:
    """The catalogue with the versions of its tariffs that were in force at a time in the past, read when needed."""

    policy: ChargingPolicy
    _since: datetime | None = None
    _read: ChargingPolicy | None = None

    def policy_at(self, tx: Connection, at: datetime, now: datetime) -> ChargingPolicy:
        """Return the operator's conditions with the prices since this time."""
        known = self.policy.catalogue.current
        if self._read is None and known.number and at > now - KEPT:
            return self.policy
        if self._read is None or self._since is None or at < self._since:
            began = at - timedelta(days=1)  # what comes next in a file may have begun a little earlier
            holder = CatalogueHolder(read_catalogue(tx, known, lambda: began))
            self._since, self._read = began, replace(self.policy, catalogue=holder)
        return self._read


def reconcile_channels(
    tx: Connection,
    past: PastCatalogue,
    terms: ReconciliationTerms,
    channels: Sequence[ChannelCdr],
    now: datetime,
    *,
    apply: bool,
) -> list[Reconciled]:
    """Return what differs between these records and the ledger; with ``apply`` settle what is missing or open.

    Calls of callers who are no subscribers, and of other contexts, are none of the ledger's. They are left out.
    """
    legs = read_legs(tx, terms.server, [each.uniqueid for each in channels])
    found = [
        difference
        for each in channels
        for difference in compare_channel(each, legs.get(each.uniqueid, ()), terms.tolerance)
        if _is_ours(difference, terms)
    ]
    settleable = [each for each in found if each.can_be_settled]
    if not settleable:
        return [Reconciled(each) for each in found]
    policy = past.policy_at(tx, min(each.started_at for each in settleable), now)
    ends = [_end_of(terms, each) for each in settleable]
    results = dict(zip(map(id, settleable), process_batch(tx, policy, ends, now, save=apply), strict=True))
    return [
        each
        for difference in found
        if (each := _reconciled(difference, results.get(id(difference)), apply=apply)) is not None
    ]


def list_suspects(tx: Connection, terms: ReconciliationTerms, channels: Sequence[ChannelCdr]) -> list[ChannelCdr]:
    """Return the channels that may have a difference. It only reads, and knows nothing of subscribers."""
    legs = read_legs(tx, terms.server, [each.uniqueid for each in channels])
    return [
        each
        for each in channels
        if any(_is_ours(found, terms) for found in compare_channel(each, legs.get(each.uniqueid, ()), terms.tolerance))
    ]


def read_legs(tx: Connection, server: str, uniqueids: Collection[str]) -> dict[str, list[Call]]:
    """Return the legs of these channels of a server, by uniqueid, in their order."""
    table = tables.call
    rows = tx.execute(
        sa.select(table)
        .where(table.c.uniqueid.in_(list(uniqueids)), table.c.server == server)
        .order_by(table.c.uniqueid, table.c.leg)
    )
    found: dict[str, list[Call]] = {}
    for row in rows:
        found.setdefault(row.uniqueid, []).append(call_from_row(row))
    return found


def list_charged(
    tx: Connection, server: str, *, since: datetime, until: datetime, after_id: int
) -> tuple[int | None, list[CallDifference]]:
    """Return some charged calls of a server that began and ended in this time, each as one without a CDR.

    The first value is where the next ones follow: ``None`` after the last.
    """
    table = tables.call
    rows = tx.execute(
        sa.select(table)
        .where(
            table.c.id > after_id,
            table.c.server == server,
            table.c.state == CallState.SETTLED,
            table.c.started_at >= since,
            table.c.ended_at <= until,
        )
        .order_by(table.c.id)
        .limit(CHUNK_CHANNELS)
    ).all()
    return (rows[-1].id if rows else None), [without_cdr(call_from_row(row)) for row in rows]


def report_of_cdr(call: Call, cdr: ChannelCdr, source: str, tolerance: timedelta = timedelta()) -> CallReport | None:
    """Return what the records of its channel say of the end of an open call, or ``None`` if they are not of it."""
    for difference in compare_channel(cdr, [call], tolerance):
        if difference.kind is DifferenceKind.OPEN:
            return _report(difference, source)
    return None


def _is_ours(difference: CallDifference, terms: ReconciliationTerms) -> bool:
    if difference.kind is not DifferenceKind.MISSING or difference.reference is not None:
        return True
    if terms.contexts and difference.context not in terms.contexts:
        return False
    return plain_number(difference.to_number) not in terms.free_numbers


def _end_of(terms: ReconciliationTerms, difference: CallDifference) -> Terminate:
    report = _report(difference, terms.source)
    if difference.reference is not None:
        return Terminate(terms.server, difference.uniqueid, Witness.CDR, report, leg=difference.leg)
    asked = Initiate(
        server=terms.server,
        uniqueid=difference.uniqueid,
        authorization=f"cdr:{difference.started_at.timestamp():.3f}",
        channel=difference.channel,
        account_code=difference.account_code,
        caller_number=difference.from_number,
        called_number=difference.to_number,
        answered_early=False,
        previous=report,
        began_at=difference.started_at,
    )
    return Terminate(terms.server, difference.uniqueid, Witness.CDR, report, unauthorized_request=asked)


def _report(difference: CallDifference, source: str) -> CallReport:
    return CallReport(
        answered=difference.answered_at is not None,
        at=difference.ended_at or difference.started_at,
        answered_at=difference.answered_at,
        outcome=OUTCOME,
        note=name_source(source, difference.place),
    )


def name_source(source: str, place: int | None) -> str:
    """Return the note of a call that a CDR settled: where the record stands."""
    return f"{BY_CDR}{source[:SOURCE_CHARACTERS]}" + (f", row {place}" if place else "")


def _reconciled(difference: CallDifference, result: object, *, apply: bool) -> Reconciled | None:
    """Return what came of a difference; ``None``: the caller is no subscriber, so it is none of the ledger's."""
    if result is None:
        return Reconciled(difference)
    if isinstance(result, UnknownSubscriber) and difference.reference is None:
        return None
    if isinstance(result, BillerError):
        return Reconciled(difference, difference.reference, refusal=f"{result.code}: {result}")
    if not isinstance(result, Settlement):
        raise TypeError(f"the end of a call was answered with {type(result).__name__}")
    call = result.call
    is_settled = apply and call.state is not CallState.OPEN
    return Reconciled(difference, call.reference, call.cost, is_settled=is_settled, settlement=result)


def count_by_kind(reconciled: Iterable[Reconciled]) -> dict[DifferenceKind, int]:
    """Return how many there are of each kind."""
    counts = dict.fromkeys(DifferenceKind, 0)
    for each in reconciled:
        counts[each.difference.kind] += 1
    return counts
