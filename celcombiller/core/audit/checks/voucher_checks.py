"""Checks of vouchers: each redeemed card was usable, and moved its credit or filled its bundle, in one transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.audit.difference import Difference, list_references
from celcombiller.core.model.accounts import Kind, SellerKind
from celcombiller.core.model.vouchers import VoucherState
from celcombiller.core.schema import tables
from celcombiller.core.vouchers.redemption import REDEEMED
from celcombiller.core.vouchers.voucher_batches import PAID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

account = tables.account


transfer = tables.transfer


batch = tables.voucher_batch


voucher = tables.voucher


redemption = tables.voucher_redemption


_ranges = tables.voucher_range


def _text(column: sa.ColumnElement[int]) -> sa.ColumnElement[str]:
    return sa.cast(column, sa.Text)


_REFERENCE = sa.literal("voucher:") + _text(redemption.c.batch_id) + sa.literal(":") + _text(redemption.c.serial)


def check_cards(tx: Connection) -> Iterator[Difference]:
    """Check that a complete batch has all its cards, with the serial numbers from 1 on."""
    made = (
        sa.select(
            voucher.c.batch_id,
            sa.func.count().label("cards"),
            sa.func.min(voucher.c.serial).label("first"),
            sa.func.max(voucher.c.serial).label("last"),
        )
        .group_by(voucher.c.batch_id)
        .subquery()
    )
    rows = tx.execute(
        sa.select(batch.c.id, batch.c.cards, made.c.cards.label("made"))
        .outerjoin(made, made.c.batch_id == batch.c.id)
        .where(
            batch.c.completed_at.is_not(None),
            sa.or_(made.c.cards.is_distinct_from(batch.c.cards), made.c.first != 1, made.c.last != batch.c.cards),
        )
        .order_by(batch.c.id)
    )
    for row in rows:
        yield Difference("a batch of vouchers has all its cards", f"voucher batch {row.id}", row.cards, row.made)


def check_redemptions(tx: Connection) -> Iterator[Difference]:
    """Check that each redeemed card was active, not over and not revoked when it was, and moved what it gives once."""
    operators = sa.case(
        *((account.c.kind == kind.value, number) for kind, number in tables.OPERATOR_ACCOUNT_IDS.items()), else_=None
    )
    is_own = sa.and_(transfer.c.reference == _REFERENCE, transfer.c.origin == REDEEMED)
    paid = sa.and_(
        transfer.c.amount == batch.c.value,
        transfer.c.debit_account_id == operators,
        account.c.kind == batch.c.kind,
        account.c.subscriber_id == redemption.c.subscriber_id,
    )
    rows = tx.execute(
        sa.select(redemption.c.batch_id, redemption.c.serial, batch.c.value, transfer.c.amount)
        .join(batch, batch.c.id == redemption.c.batch_id)
        .outerjoin(transfer, is_own)
        .outerjoin(account, account.c.id == transfer.c.credit_account_id)
        .where(sa.func.coalesce(sa.case((paid, 1), else_=0), 0) == 0)
        .order_by(redemption.c.batch_id, redemption.c.serial)
    )
    for row in rows:
        yield Difference("a redeemed voucher has its transfer", _name(row), row.value, row.amount)
    yield from _check_usable(tx)


def _check_usable(tx: Connection) -> Iterator[Difference]:
    def lies_in(state: VoucherState) -> sa.ColumnElement[bool]:
        found = sa.select(_ranges.c.id).where(
            _ranges.c.batch_id == redemption.c.batch_id,
            redemption.c.serial.between(_ranges.c.first_serial, _ranges.c.last_serial),
            _ranges.c.state == state.value,
        )
        return sa.exists(found.correlate(redemption))

    rows = tx.execute(
        sa.select(redemption.c.batch_id, redemption.c.serial, redemption.c.at, batch.c.valid_until)
        .join(batch, batch.c.id == redemption.c.batch_id)
        .where(
            sa.or_(
                sa.not_(lies_in(VoucherState.ACTIVE)),
                batch.c.completed_at.is_(None),
                redemption.c.at >= batch.c.valid_until,
            )
        )
        .order_by(redemption.c.batch_id, redemption.c.serial)
    )
    for row in rows:
        yield Difference("a redeemed voucher was active", _name(row), "active", f"redeemed at {row.at.isoformat()}")


def check_redeemed_bundles(tx: Connection) -> Iterator[Difference]:
    """Check that each card of an offer that was redeemed filled a bundle of that offer, and no other card one."""
    bundle = tables.bundle
    same = (bundle.c.subscriber_id == redemption.c.subscriber_id, bundle.c.offer_id == batch.c.offer_id)
    rows = tx.execute(
        sa.select(redemption.c.batch_id, redemption.c.serial)
        .join(batch, batch.c.id == redemption.c.batch_id)
        .outerjoin(bundle, sa.and_(bundle.c.reference == _REFERENCE, *same))
        .where(batch.c.offer_id.is_not(None), bundle.c.account_id.is_(None))
        .order_by(redemption.c.batch_id, redemption.c.serial)
    )
    for row in rows:
        yield Difference("a redeemed voucher of an offer has its bundle", _name(row), "a bundle", None)


def check_voucher_transfers(tx: Connection) -> Iterator[Difference]:
    """Check that no transfer of a voucher is without its redemption."""
    redeemed = list_references(_REFERENCE)
    rows = tx.execute(
        sa.select(transfer.c.reference, transfer.c.amount)
        .outerjoin(redeemed, redeemed.c.reference == transfer.c.reference)
        .where(transfer.c.origin == REDEEMED, redeemed.c.reference.is_(None))
        .order_by(transfer.c.id)
    )
    for row in rows:
        yield Difference("a transfer of a voucher has its redemption", row.reference, None, row.amount)


def check_seller_payments(tx: Connection) -> Iterator[Difference]:
    """Check that a seller paid for the cards that were handed to them for a price, and for no others."""
    reference = (
        sa.literal("vouchers:")
        + _text(_ranges.c.batch_id)
        + sa.literal(":")
        + _text(_ranges.c.first_serial)
        + sa.literal("-")
        + _text(_ranges.c.last_serial)
    )
    is_sold = sa.and_(_ranges.c.state == VoucherState.ACTIVE.value, _ranges.c.price > 0)
    payments = (
        sa.select(transfer.c.reference, transfer.c.amount, transfer.c.credit_account_id, account.c.subscriber_id)
        .join(account, account.c.id == transfer.c.debit_account_id)
        .where(transfer.c.origin == PAID, account.c.kind == SellerKind.SELLER.value)
        .subquery()
    )
    rows = tx.execute(
        sa.select(_ranges, payments.c.amount)
        .outerjoin(payments, payments.c.reference == reference)
        .where(
            is_sold,
            sa.or_(
                payments.c.amount.is_distinct_from(_ranges.c.price),
                payments.c.subscriber_id != _ranges.c.seller_id,
                payments.c.credit_account_id != tables.OPERATOR_ACCOUNT_IDS[Kind.VOICE],
            ),
        )
        .order_by(_ranges.c.id)
    )
    for row in rows:
        cards = f"voucher batch {row.batch_id}, cards {row.first_serial} to {row.last_serial}"
        yield Difference("a seller pays for the cards that they got", cards, row.price, row.amount)
    strays = tx.execute(
        sa.select(transfer.c.reference, transfer.c.amount)
        .outerjoin(_ranges, sa.and_(reference == transfer.c.reference, is_sold))
        .where(transfer.c.origin == PAID, _ranges.c.id.is_(None))
        .order_by(transfer.c.id)
    )
    for row in strays:
        yield Difference("a payment for cards has its cards", row.reference, None, row.amount)


def _name(row: Any) -> str:
    return f"voucher {row.batch_id}:{row.serial}"
