"""``POST /sms`` of the original program: a message from one subscriber to another. Here it is charged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from celcombiller.core.errors import Forbidden, InvalidValue, NotImplementedYet, UnknownSubscriber
from celcombiller.core.subscribers import subscriber_records
from celcombiller.rest.legacy.coercion import convert_leniently, find_named_subscriber
from celcombiller.rest.v1.messaging import messages
from celcombiller.rest.v1.messaging.messages import Text

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


class NewText(msgspec.Struct, kw_only=True):
    """A text message: the ``_id`` of its sender, the number it goes to, and its text."""

    id: int | str
    to: str
    msg: Text


def send(tx: Connection, request: Request) -> dict[str, Any]:
    """Send a message to a subscriber, at the sender's cost; once for each Idempotency-Key, if there is one."""
    if not request.config.sms.ways:
        raise NotImplementedYet("the biller sends no SMS: [sms] names no way")
    body = convert_leniently(NewText, request.body)
    sender = find_named_subscriber(tx, "id", body.id)
    if request.only_subscriber_id not in (None, sender.id):
        raise Forbidden("you may send in your own name only")
    try:
        subscriber_records.find_by_clid(tx, body.to)
    except UnknownSubscriber:
        raise UnknownSubscriber("User not found") from None
    try:
        messages.send(tx, request, to_number=body.to, text=body.msg, payer=sender.username)
    except InvalidValue as wrong:
        what = wrong.fields.get("text", str(wrong))
        raise InvalidValue(f"msg: {what}", {"msg": what}) from None
    return {}
