"""Orders to live calls by an author, who must be allowed to, with their rows of the audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.access import audit_trail
from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.rows import check_line
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.voice import call_orders, call_queries

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.voice.call_orders import CallOrder, OrderKind

REASON_CHARACTERS_MAX = 500


def order(tx: Connection, actor: Actor, call_id: int, kind: OrderKind, reason: str, now: datetime) -> CallOrder:
    """Order an open call to end, or to say something. The same order again, while one waits, is that one.

    Subscribers may order their own calls; others need to manage the subscriber who pays. Raises `UnknownCall` where the
    call is not open, `InvalidValue` and `Forbidden`.
    """
    call = call_queries.find_open(tx, call_id)
    if actor.subscriber_id != call.subscriber_id:
        actor.check_manages(subscriber_records.level_of(tx, call.subscriber_id))
    if not check_line("reason", reason, REASON_CHARACTERS_MAX).strip():
        what = "is needed: it stands in the audit trail"
        raise InvalidValue(f"reason {what}", {"reason": what})
    last = call_orders.find_last(tx, [call.reference]).get(call.reference)
    if last is not None and last.waits and last.kind is kind:
        return last
    made = call_orders.add(tx, reference=call.reference, kind=kind, reason=reason, actor=actor.name, now=now)
    audit_trail.record(tx, actor, kind.value, f"call:{call_id}", before=call, after=made, now=now)
    return made
