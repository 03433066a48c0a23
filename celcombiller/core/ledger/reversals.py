"""Reverse a transfer once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.errors import NotFound, TransferConflict
from celcombiller.core.ledger.book import REVERSAL, Book
from celcombiller.core.ledger.spending import commission_reference, undo_reference
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.accounts import Transfer


def reverse(tx: Connection, reference: str, *, note: str, now: datetime) -> Transfer:
    """Reverse a transfer, once; the ``note`` says why.

    The same request again gets the first answer. Raises `NotFound` for an unknown transfer, `TransferConflict` when it
    was reversed with another note, would give back to a bundle that has ended, or has a receipt, and
    `InsufficientBalance` when its credit is no longer available.
    """
    table = tables.transfer
    row = tx.execute(sa.select(table).where(table.c.reference == reference)).first()
    if row is None:
        raise NotFound(f"there is no transfer {reference}")
    back = f"{REVERSAL}:{reference}"
    _refuse_receipted(tx, reference)
    book = Book()
    book.load(tx, (row.debit_account_id, row.credit_account_id))
    book.load_transfers(tx, [back])
    _refuse_ended(tx, row.debit_account_id)
    made = book.post(back, row.credit_account_id, row.debit_account_id, row.amount, origin=REVERSAL, now=now, note=note)
    if made.note != note:
        raise TransferConflict(f"{reference} is reversed already: {made.note}")
    book.save(tx)
    return made


def find_receipt(tx: Connection, reference: str) -> str | None:
    """Return the number of the receipt that a transfer, its bonus or its undoing is of; ``None`` if there is none."""
    receipt = tables.receipt
    own = reference.removeprefix(undo_reference("")).removeprefix(commission_reference(""))
    row = tx.execute(sa.select(receipt.c.series, receipt.c.number).where(receipt.c.reference == own)).first()
    return None if row is None else f"{row.series}-{row.number:06}"


def _refuse_receipted(tx: Connection, reference: str) -> None:
    """Raise `TransferConflict` for a transfer with a receipt, and for the bonus or the undoing of one."""
    which = find_receipt(tx, reference)
    if which is not None:
        raise TransferConflict(f"it has the receipt {which}: undo that (`celcombiller seller undo {which}`)")


def _refuse_ended(tx: Connection, account_id: int) -> None:
    """Raise `TransferConflict` where a locked account is of a bundle that has ended: nothing could use what it gets."""
    ended_at = tx.execute(sa.select(tables.bundle.c.ended_at).where(tables.bundle.c.account_id == account_id)).scalar()
    if ended_at is not None:
        raise TransferConflict("the bundle has ended: give the subscriber another one instead")
