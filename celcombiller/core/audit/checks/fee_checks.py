"""Checks of fees: each period has exactly its transfers, what it bought, what was given back; who is suspended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.audit.difference import Difference
from celcombiller.core.ledger.book import REVERSAL
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.schedules import FeeState
from celcombiller.core.schedules.fee_terms import ORIGIN
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

account, transfer, period = tables.account, tables.transfer, tables.fee_period
bundle, subscriber = tables.bundle, tables.subscriber

_BUNDLE = ":bundle"

_REFERENCE = (
    sa.literal(f"{ORIGIN}:")
    + sa.cast(period.c.schedule_id, sa.Text)
    + ":"
    + sa.cast(period.c.subscriber_id, sa.Text)
    + ":"
    + sa.cast(period.c.due_on, sa.Text)
)


def _parts() -> sa.Subquery:
    """Return the reference of each transfer that the periods must have: the first without a number, then 2, 3, ..."""
    number = sa.select(sa.literal(2).label("n")).cte("numbers", recursive=True)
    most = sa.select(sa.func.max(period.c.parts)).scalar_subquery()
    number = number.union_all(sa.select(number.c.n + 1).where(number.c.n < most))
    first = sa.select(period.c.id.label("period_id"), sa.cast(_REFERENCE, sa.Text).label("reference"))
    later = sa.select(period.c.id, sa.cast(_REFERENCE + ":" + sa.cast(number.c.n, sa.Text), sa.Text)).join(
        number, number.c.n <= period.c.parts
    )
    return sa.union_all(first.where(period.c.parts > 0), later.where(period.c.parts > 1)).subquery()


def check_fee_transfers(tx: Connection) -> Iterator[Difference]:
    """Check that each fee period was paid by exactly its transfers, from the voice account of its subscriber."""
    parts = _parts()
    taken = (
        sa.select(parts.c.period_id, sa.func.sum(transfer.c.amount).label("amount"), sa.func.count().label("number"))
        .join(transfer, transfer.c.reference == parts.c.reference)
        .join(account, account.c.id == transfer.c.debit_account_id)
        .join(period, period.c.id == parts.c.period_id)
        .where(
            account.c.subscriber_id == period.c.subscriber_id,
            account.c.kind == Kind.VOICE.value,
            transfer.c.credit_account_id == tables.OPERATOR_ACCOUNT_IDS[Kind.VOICE],
            transfer.c.origin == ORIGIN,
        )
        .group_by(parts.c.period_id)
        .subquery()
    )
    amount, number = sa.func.coalesce(taken.c.amount, 0), sa.func.coalesce(taken.c.number, 0)
    rows = tx.execute(
        sa.select(period, amount.label("taken"))
        .outerjoin(taken, taken.c.period_id == period.c.id)
        .where(sa.or_(amount != period.c.paid, number != period.c.parts))
        .order_by(period.c.id)
    )
    for row in rows:
        yield Difference("a fee period has exactly its transfers", _name(row), row.paid, int(row.taken))
    strays = tx.execute(
        sa.select(transfer.c.reference, transfer.c.amount)
        .outerjoin(parts, parts.c.reference == transfer.c.reference)
        .where(
            transfer.c.origin == ORIGIN,
            transfer.c.reference.not_like(f"%{_BUNDLE}"),
            parts.c.reference.is_(None),
        )
        .order_by(transfer.c.id)
    )
    for stray in strays:
        yield Difference("a transfer of a fee has its period", stray.reference, None, stray.amount)


def check_fees_given_back(tx: Connection) -> Iterator[Difference]:
    """Check that all that was taken for a period is given back when it was waived or undone."""
    parts, back = _parts(), transfer.alias()
    rows = tx.execute(
        sa.select(period, parts.c.reference, transfer.c.amount.label("taken"), back.c.amount.label("returned"))
        .join(parts, parts.c.period_id == period.c.id)
        .join(transfer, transfer.c.reference == parts.c.reference)
        .outerjoin(back, back.c.reference == sa.literal(f"{REVERSAL}:") + parts.c.reference)
        .where(
            period.c.state.in_([FeeState.WAIVED.value, FeeState.UNDONE.value]),
            back.c.amount.is_distinct_from(transfer.c.amount),
        )
        .order_by(period.c.id)
    )
    for row in rows:
        yield Difference("a waived or undone fee is given back", row.reference, row.taken, row.returned)


def check_fee_bundles(tx: Connection) -> Iterator[Difference]:
    """Check that what a fee bought is a bundle of its offer and its subscriber, of a period that was paid or waived."""
    of_period = sa.and_(
        bundle.c.reference == period.c.bundle_reference,
        bundle.c.subscriber_id == period.c.subscriber_id,
        bundle.c.offer_id == period.c.offer_id,
    )
    bought = [each.value for each in (FeeState.PAID, FeeState.WAIVED, FeeState.UNDONE)]
    rows = tx.execute(
        sa.select(period, bundle.c.account_id)
        .outerjoin(bundle, of_period)
        .where(
            period.c.bundle_reference.is_not(None),
            sa.or_(bundle.c.account_id.is_(None), period.c.state.not_in(bought)),
        )
        .order_by(period.c.id)
    )
    for row in rows:
        yield Difference("what a fee bought is a bundle of its offer", _name(row), row.bundle_reference, row.account_id)
    strays = tx.execute(
        sa.select(bundle.c.reference, bundle.c.account_id)
        .outerjoin(period, period.c.bundle_reference == bundle.c.reference)
        .where(bundle.c.reference.like(f"{ORIGIN}:%{_BUNDLE}"), period.c.id.is_(None))
        .order_by(bundle.c.account_id)
    )
    for stray in strays:
        yield Difference("a bundle of a fee has its period", stray.reference, None, stray.account_id)


def check_suspensions(tx: Connection) -> Iterator[Difference]:
    """Check that a subscriber is suspended just while a period is owed that was unpaid too long."""
    because = (
        sa.select(period.c.subscriber_id)
        .where(period.c.state == FeeState.OWED.value, period.c.suspended_at.is_not(None))
        .distinct()
        .subquery()
    )
    is_suspended, has_cause = subscriber.c.suspended_at.is_not(None), because.c.subscriber_id.is_not(None)
    rows = tx.execute(
        sa.select(subscriber.c.id, subscriber.c.username, is_suspended.label("found"), has_cause.label("expected"))
        .outerjoin(because, because.c.subscriber_id == subscriber.c.id)
        .where(is_suspended != has_cause)
        .order_by(subscriber.c.id)
    )
    for row in rows:
        subject = f"subscriber {row.id} ({row.username})"
        yield Difference("who is suspended owes a fee too long", subject, bool(row.expected), bool(row.found))
    early = sa.or_(period.c.suspend_at.is_(None), period.c.suspended_at < period.c.suspend_at)
    for row in tx.execute(sa.select(period).where(period.c.suspended_at.is_not(None), early).order_by(period.c.id)):
        law = "a fee suspends only after its unpaid days"
        yield Difference(law, _name(row), str(row.suspend_at), str(row.suspended_at))


def _name(row: Any) -> str:
    return f"schedule {row.schedule_id}, due on {row.due_on}, subscriber {row.subscriber_id}, fee {row.id}"
