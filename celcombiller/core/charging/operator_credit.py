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
    """Do a credit by itself for an operator, with its row of the trail; tell whether it was not done before.

    Raises what `perform` answers: `UnknownSubscriber`, `InsufficientBalance`, `TransferConflict`, `InvalidValue`.
    """
    state = ChargingBatch.load(tx, [request])
    is_new = request.reference not in state.book.transfers
    made = state.credit(request, now)
    state.save(tx)
    if is_new:
        audit_trail.record(tx, actor, "credit", f"subscriber:{request.username}", after=made, now=now)
    return made, is_new
