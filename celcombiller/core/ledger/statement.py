"""Account statement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.accounts import Account, AccountKind


@dataclass(frozen=True, slots=True)
class StatementLine:
    """A transfer as one account sees it: ``value`` is signed, ``posted`` is the balance after it."""

    id: int
    kind: AccountKind
    at: datetime
    value: int
    posted: int
    origin: str
    reference: str
    note: str


def statement(
    tx: Connection,
    account: Account,
    *,
    limit: int,
    before_id: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[StatementLine]:
    """Return the last ``limit`` movements of an account, newest first: all, before a row, or in a span of time."""
    table = tables.transfer
    columns = (table.c.id, table.c.at, table.c.origin, table.c.reference, table.c.note)
    conditions = []
    if before_id is not None:
        conditions.append(table.c.id < before_id)
    if since is not None:
        conditions.append(table.c.at >= since)
    if until is not None:
        conditions.append(table.c.at < until)

    def side(mine: sa.Column[Any], value: sa.ColumnElement[int], posted: sa.Column[Any]) -> sa.Subquery:
        rows = sa.select(*columns, value.label("value"), posted.label("posted")).where(mine == account.id, *conditions)
        return rows.order_by(table.c.id.desc()).limit(limit).subquery()

    sides = sa.union_all(
        sa.select(side(table.c.credit_account_id, table.c.amount, table.c.credit_posted)),
        sa.select(side(table.c.debit_account_id, -table.c.amount, table.c.debit_posted)),
    ).subquery()
    rows = tx.execute(sa.select(sides).order_by(sides.c.id.desc()).limit(limit))
    return [
        StatementLine(row.id, account.kind, row.at, row.value, row.posted, row.origin, row.reference, row.note)
        for row in rows
    ]
