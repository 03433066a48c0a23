"""Checks of credit that expired: its time was over, no top-up had given it more, and each is one transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.audit.difference import Difference
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schema import tables
from celcombiller.core.validity.end_dates import is_top_up
from celcombiller.core.validity.expiry import CREDIT, ORIGIN
from celcombiller.core.validity.validity_terms import TopUp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

_transfer, _expiry = tables.transfer, tables.credit_expiry

HOURS_LESS_MAX = 2
"""Hours that some days may have less: clocks are put forward."""


def check_expiries(tx: Connection) -> Iterator[Difference]:
    """Check that each transfer of expired credit has the record of why, and the record its transfer."""
    query = (
        sa.select(_expiry.c.reference, _transfer.c.id)
        .outerjoin(_transfer, sa.and_(_is_expiry(_transfer), _transfer.c.reference == _expiry.c.reference))
        .where(_transfer.c.id.is_(None))
        .order_by(_expiry.c.reference)
    )
    for row in tx.execute(query):
        yield Difference("credit that expired was taken by its transfer", row.reference, "a transfer", None)
    query = (
        sa.select(_transfer.c.reference, _transfer.c.amount)
        .outerjoin(_expiry, _expiry.c.reference == _transfer.c.reference)
        .where(_is_expiry(_transfer), _expiry.c.reference.is_(None))
        .order_by(_transfer.c.id)
    )
    for row in tx.execute(query):
        yield Difference("credit that expired has the record of its end", row.reference, None, row.amount)


def check_expiry_times(tx: Connection) -> Iterator[Difference]:
    """Check that no credit expired before its time, nor more than the account had, nor to another than the operator."""
    operators = sa.case(
        *((tables.account.c.kind == kind.value, tables.OPERATOR_ACCOUNT_IDS[kind]) for kind in Kind), else_=None
    )
    rows = tx.execute(
        sa.select(_expiry, _transfer.c.at, _transfer.c.debit_account_id, _transfer.c.debit_posted)
        .join(_transfer, _transfer.c.reference == _expiry.c.reference)
        .join(tables.account, tables.account.c.id == _expiry.c.account_id)
        .where(
            sa.or_(
                _transfer.c.at < _expiry.c.ended_at,
                _transfer.c.debit_account_id != _expiry.c.account_id,
                _transfer.c.credit_account_id.is_distinct_from(operators),
                _transfer.c.debit_posted < 0,
                _hours_of(tx) < _expiry.c.days * 24 - HOURS_LESS_MAX,
            )
        )
        .order_by(_transfer.c.id)
    )
    for row in rows:
        if row.debit_account_id != row.account_id or row.debit_posted < 0:
            yield Difference("expired credit is the subscriber's own", row.reference, row.account_id, row.debit_posted)
        else:
            yield Difference("credit expires at its time", row.reference, f"{row.ended_at}", f"{row.at}")


def check_expiry_top_ups(tx: Connection) -> Iterator[Difference]:
    """Check that no credit expired whose account had a later top-up than the one that was counted."""
    taken, later = _transfer, _transfer.alias()
    words = sa.literal(" ") + _expiry.c.top_ups + " "
    counts = [sa.and_(is_top_up([each], later), words.like(f"% {each.value} %")) for each in TopUp]
    rows = tx.execute(
        sa.select(_expiry.c.reference, sa.func.min(later.c.reference).label("top_up"))
        .join(taken, taken.c.reference == _expiry.c.reference)
        .join(later, sa.and_(later.c.credit_account_id == _expiry.c.account_id, later.c.id < taken.c.id))
        .where(later.c.at > _expiry.c.topped_up_at, sa.or_(*counts))
        .group_by(_expiry.c.reference)
        .order_by(_expiry.c.reference)
    )
    for row in rows:
        yield Difference("credit that was topped up does not expire", row.reference, row.top_up, None)


def _is_expiry(transfer: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(transfer.c.origin == ORIGIN, transfer.c.reference.like(f"{CREDIT}%"))


def _hours_of(tx: Connection) -> sa.ColumnElement[Any]:
    """Return the hours from the last top-up to the end."""
    if tx.dialect.name == "sqlite":
        return (sa.func.julianday(_expiry.c.ended_at) - sa.func.julianday(_expiry.c.topped_up_at)) * 24
    return sa.extract("epoch", _expiry.c.ended_at - _expiry.c.topped_up_at) / 3600
