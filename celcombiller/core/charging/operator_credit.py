"""A single credit with its audit-trail row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.access import audit_trail
from celcombiller.core.charging.batch import ChargingBatch

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.audit_trail import Actor
    from celcombiller.core.charging.requests import Credit
    from celcombiller.core.model.accounts import Transfer


def credit(tx: Connection, request: Credit, actor: Actor, now: datetime) -> tuple[Transfer, bool]:
    """Credit a subscriber for an operator, with an audit-trail row; return the transfer and whether it is new.

    Raises `UnknownSubscriber`, `InsufficientBalance`, `TransferConflict`, `InvalidValue`.
    """
    batch = ChargingBatch.load(tx, [request])
    is_new = request.reference not in batch.book.transfers
    made = batch.credit(request, now)
    batch.save(tx)
    if is_new:
        audit_trail.record(tx, actor, "credit", f"subscriber:{request.username}", after=made, now=now)
    return made, is_new
