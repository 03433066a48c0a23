"""Checks of sellers: each sale has its receipt, receipts have no gaps, and a stock is what came less what went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.audit.difference import Difference, list_references, name_account
from celcombiller.core.ledger.spending import commission_reference, undo_reference
from celcombiller.core.model.accounts import Kind, SellerKind
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

account = tables.account


transfer = tables.transfer


receipt = tables.receipt


series = tables.receipt_series


_OPERATOR_ID = tables.OPERATOR_ACCOUNT_IDS[Kind.VOICE]


def check_receipt_numbers(tx: Connection) -> Iterator[Difference]:
    """Check that the receipts of a series have all numbers from 1 to its last one."""
    count, last = sa.func.count(receipt.c.id), sa.func.coalesce(sa.func.max(receipt.c.number), 0)
    rows = tx.execute(
        sa.select(series.c.name, series.c.last_number, count.label("issued"), last.label("highest"))
        .outerjoin(receipt, receipt.c.series == series.c.name)
        .group_by(series.c.name, series.c.last_number)
        .having(sa.or_(count != series.c.last_number, last != series.c.last_number))
        .order_by(series.c.name)
    )
    for row in rows:
        found = row.issued if row.issued != row.last_number else row.highest
        yield Difference("receipts have no gaps", f"series {row.name}", row.last_number, found)


def check_receipt_transfers(tx: Connection) -> Iterator[Difference]:
    """Check that each receipt is for its transfer: of this amount, from its giver's account to its taker's."""
    debit, credit = account.alias("debit"), account.alias("credit")
    is_return = receipt.c.kind == "return"
    taker = sa.case((is_return, sa.null()), else_=receipt.c.taker_id)
    seller, voice = SellerKind.SELLER.value, Kind.VOICE.value
    kinds = sa.or_(
        sa.and_(receipt.c.kind == "sale", debit.c.kind == seller, credit.c.kind == voice),
        sa.and_(receipt.c.kind == "refill", debit.c.kind.in_((seller, voice)), credit.c.kind == seller),
        sa.and_(is_return, debit.c.kind == seller, credit.c.id == _OPERATOR_ID),
        sa.and_(receipt.c.kind == "credit", credit.c.kind.in_([each.value for each in Kind])),
    )
    is_it = sa.and_(
        transfer.c.amount == receipt.c.amount,
        debit.c.subscriber_id.is_not_distinct_from(receipt.c.giver_id),
        credit.c.subscriber_id.is_not_distinct_from(taker),
        kinds,
    )
    rows = tx.execute(
        sa.select(receipt.c.series, receipt.c.number, receipt.c.amount, transfer.c.amount.label("moved"))
        .outerjoin(transfer, transfer.c.reference == receipt.c.reference)
        .outerjoin(debit, debit.c.id == transfer.c.debit_account_id)
        .outerjoin(credit, credit.c.id == transfer.c.credit_account_id)
        .where(sa.or_(transfer.c.id.is_(None), sa.not_(is_it)))
        .order_by(receipt.c.id)
    )
    for row in rows:
        yield Difference("a receipt is for its transfer", _label(row), row.amount, row.moved)


def check_sales(tx: Connection) -> Iterator[Difference]:
    """Check that each sale and each refill has its receipt, and each bonus the one of its sale."""
    for prefix, reference in (
        ("sale:", receipt.c.reference),
        ("refill:", receipt.c.reference),
        (commission_reference("sale:"), _of(commission_reference(""))),
    ):
        issued = list_references(reference)
        rows = tx.execute(
            sa.select(transfer.c.reference, transfer.c.amount)
            .outerjoin(issued, issued.c.reference == transfer.c.reference)
            .where(transfer.c.reference.like(f"{prefix}%"), issued.c.reference.is_(None))
            .order_by(transfer.c.id)
        )
        for row in rows:
            yield Difference("a sale has its receipt", f"transfer {row.reference}", None, row.amount)


def check_commissions(tx: Connection) -> Iterator[Difference]:
    """Check that the operator gave the seller the bonus that the receipt of a sale says."""
    own = account.alias()
    is_bonus = sa.and_(
        transfer.c.reference == _of(commission_reference("")), transfer.c.debit_account_id == _OPERATOR_ID
    )
    moved = sa.func.coalesce(transfer.c.amount, 0)
    rows = tx.execute(
        sa.select(receipt.c.series, receipt.c.number, receipt.c.commission, moved.label("moved"))
        .outerjoin(transfer, is_bonus)
        .outerjoin(own, own.c.id == transfer.c.credit_account_id)
        .where(
            sa.or_(
                moved != receipt.c.commission,
                sa.and_(transfer.c.id.is_not(None), own.c.kind != SellerKind.SELLER.value),
                sa.and_(transfer.c.id.is_not(None), own.c.subscriber_id.is_distinct_from(receipt.c.giver_id)),
            )
        )
        .order_by(receipt.c.id)
    )
    for row in rows:
        yield Difference("a sale has its bonus", _label(row), row.commission, row.moved)


def check_voids(tx: Connection) -> Iterator[Difference]:
    """Check that a receipt is void where its transfers went back, and nowhere else."""
    for prefix, amount in (("", receipt.c.amount), (commission_reference(""), receipt.c.commission)):
        first, back = transfer.alias("first"), transfer.alias("back")
        sides = sa.and_(
            back.c.debit_account_id == first.c.credit_account_id, back.c.credit_account_id == first.c.debit_account_id
        )
        expected = sa.case((receipt.c.voided_at.is_not(None), amount), else_=0)
        moved = sa.case((sides, back.c.amount), else_=0)
        rows = tx.execute(
            sa.select(receipt.c.series, receipt.c.number, expected.label("expected"), moved.label("moved"))
            .outerjoin(first, first.c.reference == _of(prefix))
            .outerjoin(back, back.c.reference == _of(undo_reference(prefix)))
            .where(expected != moved)
            .order_by(receipt.c.id)
        )
        for row in rows:
            yield Difference("a void receipt's credit went back", _label(row), row.expected, row.moved)


def check_stocks(tx: Connection) -> Iterator[Difference]:
    """Check that a seller's account has what their receipts say, without the void ones: in, less out, and bonuses.

    What they paid for vouchers went out too.
    """
    valid = receipt.c.voided_at.is_(None)
    into = sa.select(receipt.c.taker_id.label("seller_id"), receipt.c.amount.label("value")).where(
        valid, receipt.c.kind == "refill"
    )
    out = sa.select(receipt.c.giver_id, receipt.c.commission - receipt.c.amount).where(
        valid, receipt.c.giver_id.is_not(None)
    )
    cards = tables.voucher_range
    paid = sa.select(cards.c.seller_id, -cards.c.price).where(cards.c.price > 0)
    moves = sa.union_all(into, out, paid).subquery()
    sums = sa.select(moves.c.seller_id, sa.func.sum(moves.c.value).label("total")).group_by(moves.c.seller_id)
    total = sums.subquery()
    expected = sa.func.coalesce(total.c.total, 0)
    rows = tx.execute(
        sa.select(account.c.id, account.c.posted, tables.seller.c.subscriber_id, expected.label("expected"))
        .outerjoin(tables.seller, tables.seller.c.account_id == account.c.id)
        .outerjoin(total, total.c.seller_id == account.c.subscriber_id)
        .where(
            account.c.kind == SellerKind.SELLER.value,
            sa.or_(
                account.c.posted != expected, tables.seller.c.subscriber_id.is_distinct_from(account.c.subscriber_id)
            ),
        )
        .order_by(account.c.id)
    )
    for row in rows:
        law = "a stock is refills less sales, with bonuses"
        yield Difference(law, name_account(tx, row.id), int(row.expected), row.posted)


def _of(prefix: str) -> sa.ColumnElement[str]:
    """Return the reference of what belongs to a receipt's transfer."""
    return sa.literal(prefix).concat(receipt.c.reference)


def _label(row: Any) -> str:
    return f"receipt {row.series}-{row.number:06}"
