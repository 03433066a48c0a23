"""Read open, overdue and recent calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.model.calls import Call, CallState
from celcombiller.core.schema import tables
from celcombiller.core.schema.expressions import inline_literal, without_index
from celcombiller.core.voice.call_records import call_from_row

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.engine import Connection


def open_calls(tx: Connection, server: str) -> list[Call]:
    """Return the open calls of an Asterisk server, oldest first."""
    table = tables.call
    rows = tx.execute(
        sa.select(table)
        .where(without_index(table.c.server) == server, table.c.state == inline_literal(CallState.OPEN))
        .order_by(table.c.started_at, table.c.id)
    )
    return list(map(call_from_row, rows))


def still_open(tx: Connection, references: Collection[str]) -> list[Call]:
    """Return those of these calls that are open."""
    table = tables.call
    rows = tx.execute(sa.select(table).where(table.c.reference.in_(references), table.c.state == CallState.OPEN))
    return list(map(call_from_row, rows))


def overdue_calls(tx: Connection, now: datetime, *, limit: int) -> list[Call]:
    """Return open calls whose hold has expired: no call can live that long under Asterisk's limit."""
    table, hold = tables.call, tables.hold
    rows = tx.execute(
        sa.select(table)
        .join(hold, hold.c.reference == table.c.reference)
        .where(table.c.state == inline_literal(CallState.OPEN), hold.c.expires_at < now)
        .order_by(table.c.started_at, table.c.id)
        .limit(limit)
    )
    return list(map(call_from_row, rows))


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
