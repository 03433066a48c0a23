"""The rows of transfers between subscribers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.errors import NotFound
from celcombiller.core.model.credit_transfers import CreditTransfer, CreditTransferState
from celcombiller.core.schema import tables
from celcombiller.core.schema.rows import value_from_row

if TYPE_CHECKING:
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

_transfer = tables.credit_transfer

_ASKED = _transfer.c.state == CreditTransferState.ASKED.value

TRANSFER, FEE = "credit_transfer", "transfer_fee"
"""The origins of the two rows of the ledger."""


def transfer_reference(transfer_id: int | str) -> str:
    """Return the reference of the credit in the ledger."""
    return f"credit-transfer:{transfer_id}"


def fee_reference(transfer_id: int | str) -> str:
    """Return the reference of the fee in the ledger."""
    return f"transfer-fee:{transfer_id}"


def add(tx: Connection, **values: Any) -> CreditTransfer:
    """Insert a transfer that is asked for."""
    values = {"state": CreditTransferState.ASKED.value, "note": ""} | values
    row = tx.execute(sa.insert(_transfer).values(values).returning(_transfer)).one()
    return value_from_row(row, CreditTransfer)


def find(tx: Connection, transfer_id: int) -> CreditTransfer:
    """Return a transfer. Raises `NotFound`."""
    row = tx.execute(sa.select(_transfer).where(_transfer.c.id == transfer_id)).first()
    if row is None:
        raise NotFound("there is no such transfer between subscribers")
    return value_from_row(row, CreditTransfer)


def find_by_reference(tx: Connection, reference: str) -> sa.Row[Any] | None:
    """Return the row of a request, and lock it."""
    return tx.execute(sa.select(_transfer).where(_transfer.c.reference == reference).with_for_update()).first()


def find_latest(tx: Connection, payer_id: int, transfer_id: int | None = None) -> sa.Row[Any] | None:
    """Return the row of the last transfer that the payer was asked to confirm, or of this one, and lock it."""
    which = [_transfer.c.payer_id == payer_id, _transfer.c.codes > 0]
    if transfer_id is not None:
        which.append(_transfer.c.id == transfer_id)
    return tx.execute(
        sa.select(_transfer).where(*which).order_by(_transfer.c.id.desc()).limit(1).with_for_update()
    ).first()


def change(tx: Connection, transfer_id: int, **values: Any) -> CreditTransfer:
    """Change a row, and return its transfer."""
    which = _transfer.c.id == transfer_id
    row = tx.execute(sa.update(_transfer).where(which).values(values).returning(_transfer)).one()
    return value_from_row(row, CreditTransfer)


def cancel_open(tx: Connection, payer_id: int, now: datetime) -> None:
    """Cancel what the payer has asked for and not confirmed."""
    which = (_transfer.c.payer_id == payer_id, _ASKED)
    tx.execute(sa.update(_transfer).where(*which).values(state=CreditTransferState.CANCELLED.value, ended_at=now))


def cancel_expired(tx: Connection, now: datetime) -> int:
    """Cancel what was not confirmed in time; return how many transfers that were."""
    which = (_ASKED, _transfer.c.expires_at <= now)
    return tx.execute(
        sa.update(_transfer).where(*which).values(state=CreditTransferState.CANCELLED.value, ended_at=now)
    ).rowcount


def sum_of_day(tx: Connection, payer_id: int, day: date) -> int:
    """Return the credits that count against the limit of this day."""
    which = (_transfer.c.payer_id == payer_id, _transfer.c.made_on == day, _transfer.c.day_limit.is_not(None))
    return int(tx.execute(sa.select(sa.func.coalesce(sa.func.sum(_transfer.c.amount), 0)).where(*which)).scalar_one())


def list_all(
    tx: Connection, *, limit: int, subscriber_id: int | None = None, before_id: int | None = None
) -> list[tuple[CreditTransfer, str, str]]:
    """Return the last transfers with the usernames of payer and recipient, newest first.

    ``subscriber_id``: only those that they gave or received.
    """
    payer, recipient = tables.subscriber.alias(), tables.subscriber.alias()
    which = [] if before_id is None else [_transfer.c.id < before_id]
    if subscriber_id is not None:
        which.append(sa.or_(_transfer.c.payer_id == subscriber_id, _transfer.c.recipient_id == subscriber_id))
    rows = tx.execute(
        sa.select(_transfer, payer.c.username.label("payer"), recipient.c.username.label("recipient"))
        .join(payer, payer.c.id == _transfer.c.payer_id)
        .join(recipient, recipient.c.id == _transfer.c.recipient_id)
        .where(*which)
        .order_by(_transfer.c.id.desc())
        .limit(limit)
    )
    return [(value_from_row(row, CreditTransfer), row.payer, row.recipient) for row in rows]
