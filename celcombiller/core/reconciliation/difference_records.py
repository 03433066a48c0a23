"""The rows of what was found, and of how far each source was read. On an open transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  `value_from_row` reads the types of the fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from celcombiller.core.reconciliation.differences import DifferenceKind  # noqa: TC001  the same
from celcombiller.core.schema import tables
from celcombiller.core.schema.rows import value_from_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from celcombiller.core.reconciliation.settlement import Reconciled, ReconciliationTerms


class DifferenceState(StrEnum):
    """Whether a difference was only found, or was settled by the record, or why not."""

    FOUND = "found"
    SETTLED = "settled"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class RecordedDifference:
    """A difference as it was recorded."""

    id: int
    server: str
    uniqueid: str
    kind: DifferenceKind
    started_at: datetime
    source: str
    row: int | None
    channel: str
    context: str
    from_number: str
    to_number: str
    cdr_ms: int | None
    ledger_ms: int | None
    reference: str | None
    cost: int | None
    state: DifferenceState
    refusal: str
    found_at: datetime
    settled_at: datetime | None


def record_differences(
    tx: Connection, terms: ReconciliationTerms, found: Sequence[Reconciled], now: datetime
) -> list[Reconciled]:
    """Record what was found, each once, and return what is new. A difference known before may be settled now."""
    table = tables.cdr_difference
    uniqueids = {each.difference.uniqueid for each in found}
    if not uniqueids:
        return []
    rows = tx.execute(sa.select(table).where(table.c.server == terms.server, table.c.uniqueid.in_(uniqueids)))
    known = {(row.uniqueid, row.kind, row.started_at): row for row in rows}
    new: dict[tuple[str, str, datetime], Reconciled] = {}
    for each in found:
        difference = each.difference
        key = (difference.uniqueid, str(difference.kind), difference.started_at)
        before = known.get(key)
        if before is None:
            new[key] = each
        elif before.state != DifferenceState.SETTLED and before.state != _state(each):
            tx.execute(sa.update(table).where(table.c.id == before.id).values(_outcome(each, now)))
    if new:
        tx.execute(sa.insert(table), [_values(terms, each, now) for each in new.values()])
    return list(new.values())


def list_differences(
    tx: Connection,
    *,
    limit: int,
    before_id: int | None = None,
    kind: DifferenceKind | None = None,
    state: DifferenceState | None = None,
    server: str | None = None,
) -> list[RecordedDifference]:
    """Return the last ``limit`` differences, newest first, of those that match all given conditions."""
    table = tables.cdr_difference
    wanted = {table.c.kind: kind, table.c.state: state, table.c.server: server}
    conditions = [column == value for column, value in wanted.items() if value is not None]
    if before_id is not None:
        conditions.append(table.c.id < before_id)
    rows = tx.execute(sa.select(table).where(*conditions).order_by(table.c.id.desc()).limit(limit))
    return [value_from_row(row, RecordedDifference) for row in rows]


def _state(each: Reconciled) -> DifferenceState:
    if each.is_settled:
        return DifferenceState.SETTLED
    return DifferenceState.REFUSED if each.refusal else DifferenceState.FOUND


def _outcome(each: Reconciled, now: datetime) -> dict[str, Any]:
    return {
        "cdr_ms": each.difference.cdr_ms,
        "ledger_ms": each.difference.ledger_ms,
        "reference": each.reference or each.difference.reference,
        "cost": each.cost,
        "state": _state(each),
        "refusal": each.refusal,
        "settled_at": now if each.is_settled else None,
    }


def _values(terms: ReconciliationTerms, each: Reconciled, now: datetime) -> dict[str, Any]:
    difference = each.difference
    names = ("uniqueid", "kind", "started_at", "channel", "context", "from_number", "to_number")
    facts = {name: getattr(difference, name) for name in names}
    where = {"server": terms.server, "source": terms.source, "row": difference.place, "found_at": now}
    return facts | where | _outcome(each, now)


# -- how far a source was read ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceState:
    """How far the records of a server were read, and of which source; ``place``: ``None``: never."""

    place: dict[str, Any] | None
    source: str = ""


def claim_source(tx: Connection, name: str, owner: str, until: datetime, now: datetime) -> SourceState | None:
    """Return how far a source was read, and let nobody else read it until then; ``None``: another node reads it."""
    table = tables.cdr_source
    row = tx.execute(sa.select(table).where(table.c.name == name).with_for_update()).first()
    if row is None:
        return SourceState(None)
    if row.claimed_by not in (None, owner) and row.claimed_until > now:
        return None
    tx.execute(sa.update(table).where(table.c.name == name).values(claimed_by=owner, claimed_until=until))
    known = msgspec.json.decode(row.place, type=dict[str, Any])
    return SourceState(known["place"], known["source"])


def save_place(tx: Connection, name: str, owner: str, state: SourceState, now: datetime) -> bool:
    """Record how far a source was read; return whether it was this owner's to read."""
    table = tables.cdr_source
    known = {"source": state.source, "place": state.place}
    values = {"place": msgspec.json.encode(known).decode(), "read_at": now}
    mine = sa.and_(table.c.name == name, table.c.claimed_by == owner)
    if tx.execute(sa.update(table).where(mine).values(values)).rowcount:
        return True
    if tx.execute(sa.select(table.c.name).where(table.c.name == name)).first() is not None:
        return False
    tx.execute(sa.insert(table).values(name=name, claimed_by=owner, claimed_until=now, **values))
    return True


def release_source(tx: Connection, name: str, owner: str) -> None:
    """Let any node read a source next."""
    table = tables.cdr_source
    mine = sa.and_(table.c.name == name, table.c.claimed_by == owner)
    tx.execute(sa.update(table).where(mine).values(claimed_by=None, claimed_until=None))
