"""Checks of payments: each that was credited has its transfer, and each transfer, also back, its payment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.audit.difference import Difference, list_references
from celcombiller.core.ledger.book import REVERSAL
from celcombiller.core.model.accounts import Kind
from celcombiller.core.payments.payment_records import ORIGIN
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

_payment, _transfer = tables.payment, tables.transfer
_OPERATOR = tables.OPERATOR_ACCOUNT_IDS[Kind.VOICE]
_REFERENCE = sa.literal(f"{ORIGIN}:") + _payment.c.provider + ":" + _payment.c.provider_id


def check_payments(tx: Connection) -> Iterator[Difference]:
    """Check that each payment with a subscriber is one transfer of its credits from the operator to their account."""
    is_credit = sa.and_(
        _transfer.c.reference == _REFERENCE,
        _transfer.c.debit_account_id == _OPERATOR,
        _transfer.c.credit_account_id == _payment.c.account_id,
        _transfer.c.amount == _payment.c.credits,
        _transfer.c.origin == ORIGIN,
    )
    rows = tx.execute(
        sa.select(_payment.c.id, _payment.c.credits)
        .outerjoin(_transfer, is_credit)
        .where(_payment.c.account_id.is_not(None), _transfer.c.id.is_(None))
        .order_by(_payment.c.id)
    )
    for row in rows:
        yield Difference("a payment is credited by its transfer", f"payment {row.id}", row.credits, None)


def check_payment_transfers(tx: Connection) -> Iterator[Difference]:
    """Check that each transfer of a payment has the payment, which knows its account."""
    paid = list_references(_REFERENCE, _payment.c.account_id.is_not(None))
    rows = tx.execute(
        sa.select(_transfer.c.reference, _transfer.c.amount)
        .outerjoin(paid, paid.c.reference == _transfer.c.reference)
        .where(_transfer.c.reference.like(f"{ORIGIN}:%"), paid.c.reference.is_(None))
        .order_by(_transfer.c.id)
    )
    for row in rows:
        yield Difference("a transfer of a payment has its payment", row.reference, None, row.amount)


def check_payment_reversals(tx: Connection) -> Iterator[Difference]:
    """Check that of a payment that was reversed all is taken back or a debt, and that it was taken by its transfers."""
    owed = sa.case((_payment.c.account_id.is_(None), 0), else_=_payment.c.credits)
    parts = (
        sa.select(_payment.c.id, sa.func.sum(_transfer.c.amount).label("taken"))
        .join(
            _transfer,
            sa.and_(
                _transfer.c.debit_account_id == _payment.c.account_id,
                _transfer.c.credit_account_id == _OPERATOR,
                _transfer.c.origin == REVERSAL,
                sa.or_(
                    _transfer.c.reference == sa.literal(f"{REVERSAL}:") + _REFERENCE,
                    _transfer.c.reference.like(sa.literal(f"{REVERSAL}:") + _escaped(_REFERENCE) + ":%", escape="!"),
                ),
            ),
        )
        .where(_payment.c.state == "reversed")
        .group_by(_payment.c.id)
        .subquery()
    )
    found = sa.func.coalesce(parts.c.taken, 0)
    rows = tx.execute(
        sa.select(_payment.c.id, _payment.c.credits, _payment.c.taken, _payment.c.debt, found.label("found"))
        .outerjoin(parts, parts.c.id == _payment.c.id)
        .where(
            sa.case(
                (
                    _payment.c.state == "reversed",
                    sa.or_(_payment.c.taken + _payment.c.debt != owed, found != _payment.c.taken),
                ),
                else_=sa.or_(_payment.c.taken != 0, _payment.c.debt != 0),
            )
        )
        .order_by(_payment.c.id)
    )
    for row in rows:
        yield Difference(
            "what a reversed payment gave is taken back or owed", f"payment {row.id}", row.taken + row.debt, row.found
        )


def _escaped(text: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    for sign in ("!", "%", "_"):
        text = sa.func.replace(text, sign, f"!{sign}")
    return text
