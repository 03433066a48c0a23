"""``POST /sms`` as the original had it: a message of one subscriber to another, which is charged now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from celcombiller import schema
from celcombiller.errors import Forbidden, NotImplementedYet, UnknownSubscriber
from celcombiller.rest import messages
from celcombiller.rest.messages import Text
from celcombiller.rest.original.loose import loosely, subscriber_said
from celcombiller.subscribers import LIVING

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.rest.routes import Asked


class NewText(msgspec.Struct, kw_only=True):
    """A text message: whose (``_id``), to which number, and what it says."""

    id: int | str
    to: str
    msg: Text


def send(tx: Connection, asked: Asked) -> dict[str, Any]:
    """Have a message sent to a subscriber, at the cost of who sends it; with an Idempotency-Key once for that."""
    if not asked.config.sms.ways:
        raise NotImplementedYet("the biller sends no SMS: [sms] names no way")
    said = loosely(NewText, asked.body)
    sender = subscriber_said(tx, "id", said.id)
    if asked.only_subscriber_id not in (None, sender.id):
        raise Forbidden("you may send in your own name only")
    if asked.only_subscriber_id is None:
        asked.check_manages(sender.level)
    callee = sa.select(schema.subscriber.c.id).where(schema.subscriber.c.clid == said.to, LIVING)
    if tx.execute(callee).first() is None:
        raise UnknownSubscriber("User not found")
    messages.send(tx, asked, to_number=said.to, text=said.msg, payer=sender.username)
    return {}
