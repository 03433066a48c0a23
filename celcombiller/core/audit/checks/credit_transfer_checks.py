"""Checks of transfers between subscribers: each moved its credit and its fee once, within the limit of its day."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.audit.difference import Difference
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.credit_transfers import CreditTransferState
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

ledger = tables.transfer


made = tables.credit_transfer


_IS_MADE = made.c.state == CreditTransferState.MADE.value


def check_credit_transfers(tx: Connection) -> Iterator[Difference]:
    """Check that each transfer that was made is one of the ledger, between the voice accounts of its two sides."""
    payer, recipient = tables.account.alias(), tables.account.alias()
    is_it = sa.and_(
        ledger.c.reference == sa.literal("credit-transfer:") + sa.cast(made.c.id, sa.Text),
        ledger.c.debit_account_id == payer.c.id,
        ledger.c.credit_account_id == recipient.c.id,
    )
    rows = tx.execute(
        sa.select(made.c.id, made.c.amount, ledger.c.amount.label("moved"))
        .join(payer, sa.and_(payer.c.subscriber_id == made.c.payer_id, payer.c.kind == Kind.VOICE.value))
        .join(
            recipient, sa.and_(recipient.c.subscriber_id == made.c.recipient_id, recipient.c.kind == Kind.VOICE.value)
        )
        .outerjoin(ledger, is_it)
        .where(_IS_MADE, ledger.c.amount.is_distinct_from(made.c.amount))
        .order_by(made.c.id)
    )
    for row in rows:
        yield Difference("a transfer moves its credit", f"credit transfer {row.id}", row.amount, row.moved)


def check_transfer_fees(tx: Connection) -> Iterator[Difference]:
    """Check that the payer of each transfer that was made paid its fee to the operator."""
    payer = tables.account.alias()
    is_it = sa.and_(
        ledger.c.reference == sa.literal("transfer-fee:") + sa.cast(made.c.id, sa.Text),
        ledger.c.debit_account_id == payer.c.id,
        ledger.c.credit_account_id == tables.OPERATOR_ACCOUNT_IDS[Kind.VOICE],
    )
    rows = tx.execute(
        sa.select(made.c.id, made.c.fee, sa.func.coalesce(ledger.c.amount, 0).label("moved"))
        .join(payer, sa.and_(payer.c.subscriber_id == made.c.payer_id, payer.c.kind == Kind.VOICE.value))
        .outerjoin(ledger, is_it)
        .where(_IS_MADE, sa.func.coalesce(ledger.c.amount, 0) != made.c.fee)
        .order_by(made.c.id)
    )
    for row in rows:
        yield Difference("a transfer has its fee", f"credit transfer {row.id}", row.fee, row.moved)


def check_transfer_rows(tx: Connection) -> Iterator[Difference]:
    """Check that what moved as a transfer, or as its fee, belongs to a transfer that was made."""
    of_transfer = sa.literal("credit-transfer:") + sa.cast(made.c.id, sa.Text)
    of_fee = sa.literal("transfer-fee:") + sa.cast(made.c.id, sa.Text)
    for origin, reference in (("credit_transfer", of_transfer), ("transfer_fee", of_fee)):
        rows = tx.execute(
            sa.select(ledger.c.reference, ledger.c.amount)
            .outerjoin(made, sa.and_(_IS_MADE, reference == ledger.c.reference))
            .where(ledger.c.origin == origin, made.c.id.is_(None))
            .order_by(ledger.c.id)
        )
        for row in rows:
            yield Difference("credit moves for a transfer that was made", row.reference, None, row.amount)


def check_transfer_days(tx: Connection) -> Iterator[Difference]:
    """Check that no subscriber transferred more on a day than they might."""
    most, total = sa.func.max(made.c.day_limit), sa.func.sum(made.c.amount)
    rows = tx.execute(
        sa.select(made.c.payer_id, made.c.made_on, most.label("most"), total.label("total"))
        .where(_IS_MADE, made.c.day_limit.is_not(None))
        .group_by(made.c.payer_id, made.c.made_on)
        .having(total > most)
        .order_by(made.c.payer_id, made.c.made_on)
    )
    for row in rows:
        subject = f"subscriber {row.payer_id} on {row.made_on}"
        yield Difference("transfers keep the limit of their day", subject, row.most, int(row.total))
