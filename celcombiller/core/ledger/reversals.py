"""Reverse a transfer once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.errors import NotFound, TransferConflict
from celcombiller.core.ledger.book import REVERSAL, Book
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.accounts import Transfer


def reverse(tx: Connection, reference: str, *, note: str, now: datetime) -> Transfer:
    """Move back what a transfer moved, once; the ``note`` says why.

    The same again gives the first answer. Raises `NotFound` for a transfer that was never made, `TransferConflict`
    when it was reversed for another reason, `InsufficientBalance` when what it gave is not there any more.
    """
    table = tables.transfer
    row = tx.execute(sa.select(table).where(table.c.reference == reference)).first()
    if row is None:
        raise NotFound(f"there is no transfer {reference}")
    back = f"{REVERSAL}:{reference}"
    book = Book()
    book.load(tx, (row.debit_account_id, row.credit_account_id))
    book.load_transfers(tx, [back])
    made = book.post(back, row.credit_account_id, row.debit_account_id, row.amount, origin=REVERSAL, now=now, note=note)
    if made.note != note:
        raise TransferConflict(f"{reference} is reversed already: {made.note}")
    book.save(tx)
    return made
