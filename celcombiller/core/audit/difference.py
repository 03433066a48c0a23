"""What checks share: a broken law as the report lists it, the names of accounts in it, and what rows must be there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class Difference:
    """One broken law: its name, where it is broken, and the two values that should be equal."""

    law: str
    subject: str
    expected: int | str | None
    found: int | str | None


def list_references(reference: sa.ColumnElement[str], *where: sa.ColumnElement[bool]) -> sa.Subquery:
    """Return a table of the references that transfers have by right, computed from the rows that they belong to.

    Joined as an expression, SQLite would compute it for each pair of rows: it has no hash join, and an index of its own
    only on columns of such a table, of which the cast says that they are text
    (https://www.sqlite.org/optoverview.html#automatic_query_time_indexes).
    """
    return sa.select(sa.cast(reference, sa.Text).label("reference")).where(*where).distinct().subquery()


def name_account(tx: Connection, account_id: int) -> str:
    """Return an account's name for the report: its subscriber and kind."""
    account = tables.account
    row = tx.execute(
        sa.select(tables.subscriber.c.username, account.c.kind)
        .select_from(account.outerjoin(tables.subscriber, tables.subscriber.c.id == account.c.subscriber_id))
        .where(account.c.id == account_id)
    ).one()
    return f"{row.username or 'operator'}'s {row.kind} account"
