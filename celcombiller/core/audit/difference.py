"""A broken law as the report lists it, and the names of accounts in it."""

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


def name_account(tx: Connection, account_id: int) -> str:
    """Return an account's name for the report: its subscriber and kind."""
    account = tables.account
    row = tx.execute(
        sa.select(tables.subscriber.c.username, account.c.kind)
        .select_from(account.outerjoin(tables.subscriber, tables.subscriber.c.id == account.c.subscriber_id))
        .where(account.c.id == account_id)
    ).one()
    return f"{row.username or 'operator'}'s {row.kind} account"
