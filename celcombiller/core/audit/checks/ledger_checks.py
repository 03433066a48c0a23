"""Checks of balances and holds, recomputed from transfers and open holds."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.audit.difference import Difference, name_account
from celcombiller.core.ledger.accounts import not_undone
from celcombiller.core.ledger.spending import SPENDING
from celcombiller.core.model.accounts import HoldState, Kind, SellerKind
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

account = tables.account


transfer = tables.transfer


hold = tables.hold


def _movements() -> sa.Subquery:
    """Return every transfer twice, once for each of its accounts: the signed value and the balance after it."""
    return sa.union_all(
        sa.select(
            transfer.c.id,
            transfer.c.reference,
            transfer.c.credit_account_id.label("account_id"),
            transfer.c.amount.label("value"),
            transfer.c.credit_posted.label("posted"),
        ),
        sa.select(
            transfer.c.id,
            transfer.c.reference,
            transfer.c.debit_account_id,
            -transfer.c.amount,
            transfer.c.debit_posted,
        ),
    ).subquery()


def check_posted(tx: Connection) -> Iterator[Difference]:
    """Check law 1: posted = credits - debits."""
    movements = _movements()
    totals = sa.select(movements.c.account_id, sa.func.sum(movements.c.value).label("total")).group_by(
        movements.c.account_id
    )
    total = totals.subquery()
    expected = sa.func.coalesce(total.c.total, 0)
    rows = tx.execute(
        sa.select(account.c.id, account.c.posted, expected.label("expected"))
        .outerjoin(total, total.c.account_id == account.c.id)
        .where(account.c.subscriber_id.is_not(None), account.c.posted != expected)
        .order_by(account.c.id)
    )
    for row in rows:
        yield Difference("posted is the sum of its transfers", name_account(tx, row.id), int(row.expected), row.posted)


def check_chain(tx: Connection) -> Iterator[Difference]:
    """Check law 1: the balance after each transfer continues the one before."""
    movements = _movements()
    before = sa.func.lag(movements.c.posted, 1, 0).over(partition_by=movements.c.account_id, order_by=movements.c.id)
    chain = (
        sa.select(movements, before.label("before"))
        .join(account, account.c.id == movements.c.account_id)
        .where(account.c.subscriber_id.is_not(None))
        .subquery()
    )
    expected = chain.c.before + chain.c.value
    rows = tx.execute(
        sa.select(chain.c.reference, chain.c.account_id, chain.c.posted, expected.label("expected"))
        .where(sa.or_(chain.c.posted.is_(None), chain.c.posted != expected))
        .order_by(chain.c.id)
    )
    for row in rows:
        subject = f"transfer {row.reference} of {name_account(tx, row.account_id)}"
        yield Difference("the balance after continues the one before", subject, row.expected, row.posted)


def check_kinds(tx: Connection) -> Iterator[Difference]:
    """Check that credit moved between accounts of one kind only; a seller's account holds voice credit."""
    debit, credit = account.alias("debit"), account.alias("credit")
    sold = (SellerKind.SELLER.value, Kind.VOICE.value)
    rows = tx.execute(
        sa.select(transfer.c.reference, debit.c.kind.label("from_kind"), credit.c.kind.label("to_kind"))
        .join(debit, debit.c.id == transfer.c.debit_account_id)
        .join(credit, credit.c.id == transfer.c.credit_account_id)
        .where(debit.c.kind != credit.c.kind, sa.not_(sa.and_(debit.c.kind.in_(sold), credit.c.kind.in_(sold))))
        .order_by(transfer.c.id)
    )
    for row in rows:
        yield Difference(
            "credit keeps its kind", f"transfer {row.reference}", f"{row.from_kind} to {row.from_kind}", row.to_kind
        )


def check_held(tx: Connection) -> Iterator[Difference]:
    """Check law 2: held = the sum of the open holds."""
    sums = (
        sa.select(hold.c.account_id, sa.func.sum(hold.c.amount).label("total"))
        .where(hold.c.state == HoldState.OPEN)
        .group_by(hold.c.account_id)
        .subquery()
    )
    expected = sa.func.coalesce(sums.c.total, 0)
    rows = tx.execute(
        sa.select(account.c.id, account.c.held, expected.label("expected"))
        .outerjoin(sums, sums.c.account_id == account.c.id)
        .where(account.c.held != expected)
        .order_by(account.c.id)
    )
    for row in rows:
        yield Difference("held is the sum of the open holds", name_account(tx, row.id), int(row.expected), row.held)


def check_spent(tx: Connection) -> Iterator[Difference]:
    """Check that what a limited account has spent in its last day and month is what it was charged since they began.

    The operator's time zone is a setting, so charges within 14 hours of a beginning may be on either side of it.
    """
    limited = sa.or_(account.c.day_limit.is_not(None), account.c.month_limit.is_not(None))
    for row in tx.execute(sa.select(account).where(limited, account.c.spent_on.is_not(None)).order_by(account.c.id)):
        for name, first in (("day", row.spent_on), ("month", row.spent_on.replace(day=1))):
            began = datetime.combine(first, time(), UTC)
            most, least = (_charged(tx, row.id, began + slack) for slack in (-_ZONES_APART, _ZONES_APART))
            found = row.spent_day if name == "day" else row.spent_month
            if not least <= found <= most:
                law, expected = f"what was spent in a {name} is its charges", least if found < least else most
                yield Difference(law, name_account(tx, row.id), expected, found)


_ZONES_APART = timedelta(hours=14)
"""The farthest that a time zone is from UTC."""


def _charged(tx: Connection, account_id: int, since: datetime) -> int:
    is_spent = sa.and_(transfer.c.origin.in_(SPENDING), not_undone())
    which = (transfer.c.debit_account_id == account_id, is_spent, transfer.c.at >= since)
    return int(tx.execute(sa.select(sa.func.coalesce(sa.func.sum(transfer.c.amount), 0)).where(*which)).scalar_one())
