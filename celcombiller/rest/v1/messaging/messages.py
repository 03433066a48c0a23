"""``/api/v1/messages``: text messages. Their text is never shown, and not kept once they are sent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from celcombiller.core.access import audit_trail
from celcombiller.core.charging import messages
from celcombiller.core.errors import Forbidden, NotFound
from celcombiller.core.model.messages import MessageOrigin, MessageState
from celcombiller.core.reports.views import MessageView, message_view
from celcombiller.core.sms import message_queries
from celcombiller.core.subscribers import subscriber_records
from celcombiller.http.pagination import Cursor, Limit, Page, Place, Since, Until, decode_cursor, make_page
from celcombiller.http.route import ID_MAX, Response
from celcombiller.rest.v1.subscribers import Payer, visible_subscriber

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.sms.message_queries import RecordedMessage
    from celcombiller.http.route import Request

Number = Annotated[
    str, Meta(pattern=r"^\+?[0-9*#]{1,32}$(?!\n)", description="the number it goes to: digits, * and #, a + before")
]
Text = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+$",
        description="its text: at least one character, and no control characters but line ends and tabs",
    ),
]


class NewMessage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A message to send."""

    to: Number
    text: Text
    username: (
        Annotated[
            str,
            Meta(description="the sender, who pays; null: you are it, or as staff the operator, and it is free"),
        ]
        | None
    ) = None


class MessageQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of messages: those that match all given fields."""

    since: Since | None = None
    until: Until | None = None
    username: Payer | None = None
    broadcast_id: (
        Annotated[int, Meta(ge=1, le=ID_MAX, description="the number of a broadcast: only its messages")] | None
    ) = None
    state: Annotated[MessageState, Meta(description="one of the states of a message")] | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


def list_all(tx: Connection, request: Request) -> Page[MessageView]:
    """List messages, newest first."""
    query: MessageQuery = request.query
    who = visible_subscriber(tx, request, query.username)
    rows = message_queries.list_messages(
        tx,
        limit=query.limit + 1,
        subscriber_id=None if who is None else who.id,
        broadcast_id=query.broadcast_id,
        state=query.state,
        since=query.since,
        until=query.until,
        after=decode_cursor(query.cursor, Place),
    )
    return make_page(rows, query.limit, lambda each: (each.message.queued_at, each.id), message_view)


def show(tx: Connection, request: Request) -> MessageView:
    """Show one message."""
    found = message_queries.find(tx, request.path["id"])
    if found is None:
        raise NotFound("there is no such message")
    request.check_own(found.message.subscriber_id or 0)
    return message_view(found)


def add(tx: Connection, request: Request) -> Response:
    """Send a message, once for each Idempotency-Key. The same request again gets the first answer."""
    body: NewMessage = request.body
    payer = body.username
    if request.only_subscriber_id is not None:
        if payer not in (None, request.principal.username):
            raise Forbidden("you may send in your own name only")
        payer = request.principal.username
    found = send(tx, request, to_number=body.to, text=body.text, payer=payer)
    return Response(message_view(found), headers={"Location": f"{request.base_url}/api/v1/messages/{found.id}"})


def send(tx: Connection, request: Request, *, to_number: str, text: str, payer: str | None) -> RecordedMessage:
    """Queue a message of the API, and record it in the audit trail. Another's message is at the cost of who sends it.

    Raises `Forbidden` unless the principal manages who pays.
    """
    sender = None if payer is None else subscriber_records.find(tx, payer)
    if sender is not None and sender.id != request.only_subscriber_id:
        request.actor.check_manages(sender.level)
    posting = messages.submit(
        tx,
        request.config.message_policy,
        reference=request.find_reference(tx),
        to_number=to_number,
        text=text,
        now=request.now,
        payer=payer,
        origin=MessageOrigin.API,
        catalogue=request.catalogue,
        time_zone=ZoneInfo(request.config.schedules.zone),
    )
    found = message_queries.by_reference(tx, posting.message.reference)
    if found is None:
        raise LookupError(posting.message.reference)
    if posting.first:
        what = replace(posting.message, text=None)
        audit_trail.record(tx, request.actor, "send", f"message:{found.id}", after=what, now=request.now)
    return found
