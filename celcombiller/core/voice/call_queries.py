"""Read open, overdue and recent calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from celcombiller.core.errors import UnknownCall
from celcombiller.core.model.calls import Call, CallState
from celcombiller.core.schema import tables
from celcombiller.core.schema.expressions import inline_literal, without_index
from celcombiller.core.voice.call_records import call_from_row

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.engine import Connection


class OpenCall(NamedTuple):
    """What a comparison with the channels needs of an open call; the rest is known where the call was begun."""

    id: int
    reference: str
    uniqueid: str
    granted_seconds: int
    started_at: datetime


def list_open(tx: Connection, server: str, *, after: OpenCall | None, limit: int) -> list[OpenCall]:
    """Return open calls of an Asterisk server, oldest first, from the one that comes ``after`` another."""
    table = tables.call
    wanted = [without_index(table.c.server) == server, table.c.state == inline_literal(CallState.OPEN)]
    if after is not None:
        place = sa.tuple_(sa.literal(after.started_at, table.c.started_at.type), sa.literal(after.id, table.c.id.type))
        wanted.append(sa.tuple_(table.c.started_at, table.c.id) > place)
    columns = (table.c.id, table.c.reference, table.c.uniqueid, table.c.granted_seconds, table.c.started_at)
    rows = tx.execute(sa.select(*columns).where(*wanted).order_by(table.c.started_at, table.c.id).limit(limit))
    return [OpenCall(*row) for row in rows]


def still_open(tx: Connection, references: Collection[str]) -> list[Call]:
    """Return those of these calls that are open."""
    table = tables.call
    rows = tx.execute(sa.select(table).where(table.c.reference.in_(references), table.c.state == CallState.OPEN))
    return list(map(call_from_row, rows))


def find_open(tx: Connection, call_id: int) -> Call:
    """Return the open call of this number. Raises `UnknownCall` if there is none."""
    table = tables.call
    which = (table.c.id == call_id, table.c.state == inline_literal(CallState.OPEN))
    row = tx.execute(sa.select(table).where(*which)).first()
    if row is None:
        raise UnknownCall(f"no call in progress has the number {call_id}: it has ended, or never was")
    return call_from_row(row)


def find_open_ids(tx: Connection, name: str) -> list[int]:
    """Return the numbers of the open calls of this reference, or with this uniqueid."""
    table = tables.call
    is_named = sa.or_(table.c.reference == name, table.c.uniqueid == name)
    return list(tx.execute(sa.select(table.c.id).where(is_named, table.c.state == CallState.OPEN)).scalars())


@dataclass(frozen=True, slots=True)
class Patience:
    """Whose overdue calls are left alone: those of ``linked`` servers, and those of ``lost`` ones up to a time.

    A call of a lost server is returned when its hold expired before ``lost_before``.
    """

    linked: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    lost_before: datetime | None = None


def overdue_calls(tx: Connection, now: datetime, *, limit: int, patience: Patience = Patience()) -> list[Call]:
    """Return open calls whose hold has expired: no call can live that long under Asterisk's limit."""
    table, hold = tables.call, tables.hold
    conditions = [table.c.state == inline_literal(CallState.OPEN), hold.c.expires_at < now]
    if patience.linked:
        conditions.append(table.c.server.not_in(patience.linked))
    if patience.lost and patience.lost_before is not None:
        conditions.append(sa.or_(table.c.server.not_in(patience.lost), hold.c.expires_at < patience.lost_before))
    rows = tx.execute(
        sa.select(table)
        .join(hold, hold.c.reference == table.c.reference)
        .where(*conditions)
        .order_by(table.c.started_at, table.c.id)
        .limit(limit)
    )
    return list(map(call_from_row, rows))


def count_overdue(tx: Connection, now: datetime) -> dict[str, int]:
    """Return for each server how many open calls have an expired hold; one without any is left out."""
    table, hold = tables.call, tables.hold
    server = without_index(table.c.server)  # its index has all calls, in the order of the groups
    rows = tx.execute(
        sa.select(server, sa.func.count())
        .select_from(table)
        .join(hold, hold.c.reference == table.c.reference)
        .where(table.c.state == inline_literal(CallState.OPEN), hold.c.expires_at < now)
        .group_by(server)
    )
    return {name: int(calls) for name, calls in rows}


def recent(tx: Connection, *, limit: int) -> list[tuple[str, str, Call]]:
    """Return the last ``limit`` calls, newest first, each with the payer's username and name."""
    table, subscriber = tables.call, tables.subscriber
    rows = tx.execute(
        sa.select(table, subscriber.c.username, subscriber.c.name)
        .join(subscriber, subscriber.c.id == table.c.subscriber_id)
        .order_by(table.c.id.desc())
        .limit(limit)
    )
    return [(row.username, row.name, call_from_row(row)) for row in rows]


def discrepancies(tx: Connection) -> int:
    """Count the witness reports that differ by more than `DISCREPANCY_MS` from what was charged."""
    table = tables.testimony
    return int(tx.execute(sa.select(sa.func.count()).where(table.c.discrepancy)).scalar_one())
