"""Settlement sheets: what each seller had, got, paid and sold in a period. Read only, from the ledger itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.ledger.spending import UNDO
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

_OWN_ORIGINS = ("refill", "sale", "commission", UNDO)

_seller, _subscriber, _transfer, _receipt = tables.seller, tables.subscriber, tables.transfer, tables.receipt


@dataclass(frozen=True, slots=True)
class Settlement:
    """One seller in a period; all in credits.

    ``closing`` is ``opening + refilled - returned - given - sold - cards + commission + undone``. ``given`` went to
    sellers below, ``returned`` to the operator, ``cards`` for vouchers. ``undone`` is what all undoing of the period
    changed, with bonuses. ``paid`` is what was paid for refills, less what was paid back.
    """

    username: str
    name: str
    seller_class: str
    opening: int
    refilled: int
    paid: int
    returned: int
    given: int
    sales: int
    sold: int
    cards: int
    commission: int
    undone: int
    closing: int


def settle(
    tx: Connection, since: datetime, until: datetime, *, seller_id: int | None = None, parent_id: int | None = None
) -> list[Settlement]:
    """Return the sheet from ``since`` to before ``until``, by username; of one seller, or of those below one."""
    wanted = []
    if seller_id is not None:
        wanted.append(_seller.c.subscriber_id == seller_id)
    if parent_id is not None:
        wanted.append(_seller.c.parent_id == parent_id)
    people = tx.execute(
        sa.select(_seller, _subscriber.c.username, _subscriber.c.name)
        .join(_subscriber, _subscriber.c.id == _seller.c.subscriber_id)
        .where(*wanted, _seller.c.created_at < until)
        .order_by(_subscriber.c.username, _seller.c.subscriber_id)
    ).all()
    moves = {row.account_id: row for row in tx.execute(_moves(since, until))}
    paid = {row.taker_id: int(row.paid) for row in tx.execute(_payments(since, until))}
    return [_row(each, moves.get(each.account_id), paid.get(each.subscriber_id, 0)) for each in people]


def _moves(since: datetime, until: datetime) -> sa.Select[Any]:
    """Return the query of what moved on each seller's account until the end of a period."""
    columns = ("origin", "at", "amount")
    operator_id = tables.OPERATOR_ACCOUNT_IDS
    sides = [
        sa.select(
            _seller.c.account_id,
            (sign * _transfer.c.amount).label("value"),
            other.in_(operator_id.values()).label("is_operators"),
            *(_transfer.c[name] for name in columns),
        )
        .join(_transfer, own == _seller.c.account_id)
        .where(_transfer.c.at < until)
        for own, other, sign in (
            (_transfer.c.credit_account_id, _transfer.c.debit_account_id, 1),
            (_transfer.c.debit_account_id, _transfer.c.credit_account_id, -1),
        )
    ]
    moved = sa.union_all(*sides).subquery()
    within = moved.c.at >= since

    def total(name: str, *conditions: sa.ColumnElement[bool], value: Any = moved.c.value) -> sa.Label[Any]:
        return sa.func.coalesce(sa.func.sum(sa.case((sa.and_(*conditions), value), else_=0)), 0).label(name)

    refill, out = moved.c.origin == "refill", moved.c.value < 0
    return sa.select(
        moved.c.account_id,
        total("opening", sa.not_(within)),
        total("refilled", within, refill, sa.not_(out)),
        total("returned", within, refill, out, moved.c.is_operators, value=moved.c.amount),
        total("given", within, refill, out, sa.not_(moved.c.is_operators), value=moved.c.amount),
        total("sales", within, moved.c.origin == "sale", value=1),
        total("sold", within, moved.c.origin == "sale", value=moved.c.amount),
        total("cards", within, moved.c.origin.not_in(_OWN_ORIGINS), value=-moved.c.value),
        total("commission", within, moved.c.origin == "commission"),
        total("undone", within, moved.c.origin == UNDO),
        total("closing", sa.true()),
    ).group_by(moved.c.account_id)


def _payments(since: datetime, until: datetime) -> sa.Select[Any]:
    """Return the query of what each seller paid in a period: for refills, less for returns, less what was undone."""
    price = sa.case((_receipt.c.kind == "return", -_receipt.c.paid), else_=_receipt.c.paid)
    was_paid = sa.and_(_receipt.c.at >= since, _receipt.c.at < until)
    was_undone = sa.and_(_receipt.c.voided_at >= since, _receipt.c.voided_at < until)
    parts = (sa.case((was_paid, price), else_=0), sa.case((was_undone, -price), else_=0))
    return (
        sa.select(_receipt.c.taker_id, sa.func.sum(parts[0] + parts[1]).label("paid"))
        .where(_receipt.c.kind.in_(("refill", "return")), sa.or_(was_paid, was_undone))
        .group_by(_receipt.c.taker_id)
    )


def _row(each: Any, moved: Any, paid: int) -> Settlement:
    names = ("opening", "refilled", "returned", "given", "sales", "sold", "cards", "commission", "undone", "closing")
    facts = {name: 0 if moved is None else int(getattr(moved, name)) for name in names}
    return Settlement(each.username, each.name, each.seller_class, paid=paid, **facts)
