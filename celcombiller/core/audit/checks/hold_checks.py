"""Checks of what open calls were granted, slice by slice, and a list of the holds that outlived their validity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.audit.difference import Difference, name_account
from celcombiller.core.model.accounts import HoldState
from celcombiller.core.schema import tables
from celcombiller.core.schema.expressions import inline_literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy.engine import Connection

_hold, _call, _renewal = tables.hold, tables.call, tables.call_renewal


def check_renewals(tx: Connection) -> Iterator[Difference]:
    """Check that each renewal of a call begins where the one before ended, in seconds and in credits held."""
    columns = _renewal.c
    order = {"partition_by": columns.reference, "order_by": columns.id}
    before_seconds, before_held = (
        sa.func.lag(column).over(**order).label(name)  # type: ignore[arg-type]
        for name, column in (("last_seconds", columns.seconds_after), ("last_held", columns.held_after))
    )
    wanted = (columns.id, columns.reference, columns.seconds_before, columns.held_before)
    chain = sa.select(*wanted, before_seconds, before_held).subquery()
    differs = sa.or_(chain.c.last_seconds != chain.c.seconds_before, chain.c.last_held != chain.c.held_before)
    for row in tx.execute(sa.select(chain).where(chain.c.last_seconds.is_not(None), differs).order_by(chain.c.id)):
        expected, found = (f"{row.last_seconds} s for {row.last_held}", f"{row.seconds_before} s for {row.held_before}")
        yield Difference("a renewal begins where the one before ended", row.reference, expected, found)


def check_last_renewals(tx: Connection) -> Iterator[Difference]:
    """Check that a call has, and its hold on the balance is, what its last renewal says."""
    last = sa.select(sa.func.max(_renewal.c.id)).group_by(_renewal.c.reference)
    rows = tx.execute(
        sa.select(_renewal, _call.c.granted_seconds, _hold.c.amount)
        .join(_call, _call.c.reference == _renewal.c.reference)
        .outerjoin(_hold, _hold.c.reference == _renewal.c.reference)
        .where(
            _renewal.c.id.in_(last),
            sa.or_(
                _call.c.granted_seconds != _renewal.c.seconds_after,
                _hold.c.amount.is_distinct_from(_renewal.c.held_after),
            ),
        )
        .order_by(_renewal.c.id)
    )
    for row in rows:
        expected, found = (f"{row.seconds_after} s for {row.held_after}", f"{row.granted_seconds} s for {row.amount}")
        yield Difference("a call holds what its last renewal says", row.reference, expected, found)


@dataclass(frozen=True, slots=True)
class OverdueHold:
    """An open hold that is older than its validity: it should have ended by now."""

    reference: str
    account: str
    amount: int
    expires_at: datetime


def list_overdue_holds(tx: Connection, now: datetime) -> list[OverdueHold]:
    """Return the open holds whose validity is over, the oldest first."""
    rows = tx.execute(
        sa.select(_hold.c.reference, _hold.c.account_id, _hold.c.amount, _hold.c.expires_at)
        .where(_hold.c.state == inline_literal(HoldState.OPEN), _hold.c.expires_at < now)
        .order_by(_hold.c.expires_at, _hold.c.reference)
    ).all()
    return [OverdueHold(row.reference, name_account(tx, row.account_id), row.amount, row.expires_at) for row in rows]
