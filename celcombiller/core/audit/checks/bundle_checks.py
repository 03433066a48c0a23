"""Checks of bundles: each filled once, paid where it has a price, never overdrawn, and empty when it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.audit.difference import Difference, name_account
from celcombiller.core.bundles.bundle_records import end_reference, price_reference
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

account = tables.account


transfer = tables.transfer


bundle = tables.bundle


def check_pots(tx: Connection) -> Iterator[Difference]:
    """Check that a bundle's account is of its subscriber, holds no more than it has, and is empty when it has ended."""
    is_pot = account.c.kind.in_([each.value for each in BundleKind])
    rows = tx.execute(
        sa.select(account, bundle.c.subscriber_id.label("owner_id"), bundle.c.ended_at)
        .outerjoin(bundle, bundle.c.account_id == account.c.id)
        .where(
            is_pot,
            account.c.subscriber_id.is_not(None),
            sa.or_(
                bundle.c.subscriber_id.is_distinct_from(account.c.subscriber_id),
                account.c.held > account.c.posted,
                sa.and_(bundle.c.ended_at.is_not(None), sa.or_(account.c.posted != 0, account.c.held != 0)),
            ),
        )
        .order_by(account.c.id)
    )
    for row in rows:
        subject = f"bundle {row.id}, {name_account(tx, row.id)}"
        if row.owner_id != row.subscriber_id:
            yield Difference("a bundle's account is of its subscriber", subject, row.owner_id, row.subscriber_id)
        elif row.ended_at is not None:
            yield Difference("a bundle that has ended is empty", subject, 0, row.posted)
        else:
            yield Difference("a bundle holds no more than it has", subject, row.posted, row.held)
    strays = sa.select(bundle.c.account_id, account.c.kind).join(account, account.c.id == bundle.c.account_id)
    for row in tx.execute(strays.where(sa.not_(is_pot)).order_by(account.c.id)):
        yield Difference("a bundle's account is of its subscriber", f"bundle {row.account_id}", "a bundle", row.kind)


def check_fillings(tx: Connection) -> Iterator[Difference]:
    """Check that each bundle was filled once, by the operator, in the transfer of its reference."""
    operators = sa.case(
        *((account.c.kind == kind.value, tables.OPERATOR_ACCOUNT_IDS[kind]) for kind in BundleKind), else_=None
    )
    is_filling = sa.and_(
        transfer.c.reference == bundle.c.reference,
        transfer.c.credit_account_id == bundle.c.account_id,
        transfer.c.debit_account_id == operators,
    )
    rows = tx.execute(
        sa.select(bundle.c.account_id, bundle.c.reference)
        .join(account, account.c.id == bundle.c.account_id)
        .outerjoin(transfer, is_filling)
        .where(transfer.c.id.is_(None))
        .order_by(bundle.c.account_id)
    )
    for row in rows:
        yield Difference("a bundle is filled by its transfer", f"bundle {row.account_id}", row.reference, None)


def check_prices(tx: Connection) -> Iterator[Difference]:
    """Check that what was paid for an offer was paid by the subscriber who got a bundle of it."""
    paid = transfer.alias()
    is_payment = sa.and_(
        paid.c.reference == sa.literal(price_reference("")).concat(bundle.c.reference),
        bundle.c.offer_id.is_not(None),
        account.c.subscriber_id == bundle.c.subscriber_id,
        account.c.kind == Kind.VOICE.value,
    )
    rows = tx.execute(
        sa.select(paid.c.reference, paid.c.amount)
        .join(account, account.c.id == paid.c.debit_account_id)
        .outerjoin(bundle, is_payment)
        .where(
            paid.c.reference.like(f"{price_reference('')}%"),
            bundle.c.account_id.is_(None),
        )
        .order_by(paid.c.id)
    )
    for row in rows:
        yield Difference("who pays for an offer gets a bundle of it", row.reference, None, row.amount)


def check_ends(tx: Connection) -> Iterator[Difference]:
    """Check that what is taken back from a bundle is taken from one that has ended, and once."""
    is_end = sa.and_(
        transfer.c.reference == sa.literal(end_reference("")).concat(bundle.c.reference),
        transfer.c.debit_account_id == bundle.c.account_id,
        bundle.c.ended_at == transfer.c.at,
    )
    rows = tx.execute(
        sa.select(transfer.c.reference, transfer.c.amount)
        .outerjoin(bundle, is_end)
        .where(
            transfer.c.reference.like(f"{end_reference('')}%"),
            bundle.c.account_id.is_(None),
        )
        .order_by(transfer.c.id)
    )
    for row in rows:
        yield Difference("what is taken back is of a bundle that ended", row.reference, None, row.amount)
