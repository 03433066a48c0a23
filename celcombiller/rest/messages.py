"""``/api/v1/messages``: text messages, sent and to be sent. What they say is not shown, nor kept once they are sent."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller import messages, subscribers, trail
from celcombiller.errors import Forbidden, NotFound
from celcombiller.model import Kind, MessageOrigin, MessageState, Route
from celcombiller.rest.paging import Cursor, Limit, Place, Since, Until, page_of, position_of
from celcombiller.rest.routes import Answer
from celcombiller.rest.subscribers import Payer, whose
from celcombiller.sms import Encoding

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.messages import Recorded
    from celcombiller.rest.routes import Asked

Number = Annotated[
    str, Meta(pattern=r"^\+?[0-9*#]{1,32}$(?!\n)", description="the number it goes to: digits, * and #, a + before")
]
Text = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+$",
        description="what it says: at least one character, and no control characters but line ends and tabs",
    ),
]


class NewMessage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A message to send."""

    to: Number
    text: Text
    username: (
        Annotated[
            str,
            Meta(description="who pays and whom it comes from; null: who asks, or for the staff nobody, it is free"),
        ]
        | None
    ) = None


class MessageShown(msgspec.Struct, kw_only=True):
    """A message, without what it says."""

    id: Annotated[int, Meta(description="the number of its row; a later one is larger")]
    reference: Annotated[str, Meta(description="the id of its hold and of its charge in the ledger")]
    origin: Annotated[
        MessageOrigin, Meta(description="whose it is: a phone's (free: of one elsewhere), the API's, or a notice's")
    ]
    username: Annotated[str, Meta(description="who pays")] | None
    from_number: Annotated[str, Meta(description="the number or name it comes from")]
    to_number: Annotated[str, Meta(description="the number it goes to")]
    route: Annotated[Route, Meta(description="which way it goes")]
    encoding: Annotated[Encoding, Meta(description="the alphabet it needs: gsm7 or ucs2")]
    parts: Annotated[int, Meta(description="the number of short messages it takes")]
    cost: Annotated[int, Meta(description="credits: held while it is open, charged once it is accepted")]
    kind: Annotated[Kind, Meta(description="which account pays: voice or sms; null: none, it is free")] | None
    state: Annotated[
        MessageState,
        Meta(
            description="queued or sending; then accepted (charged), refused or expired (not charged); an accepted one"
            " may be delivered, or failed (given back)"
        ),
    ]
    queued_at: Annotated[datetime, Meta(tz=True, description="since when (RFC 3339, UTC)")]
    expires_at: Annotated[datetime, Meta(tz=True, description="until when it is tried at most (RFC 3339, UTC)")]
    ended_at: (
        Annotated[datetime, Meta(tz=True, description="when the network took or refused it (RFC 3339, UTC)")] | None
    )
    attempts: Annotated[int, Meta(description="the number of times it was tried in vain")]
    note: str


class MessageQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which messages: all that match every field that is given."""

    since: Since | None = None
    until: Until | None = None
    username: Payer | None = None
    state: Annotated[MessageState, Meta(description="one of the states of a message")] | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


class MessagePage(msgspec.Struct, kw_only=True):
    """Messages, newest first."""

    items: list[MessageShown]
    next: Annotated[str | None, Meta(description="the cursor of the next page; null: this is the last")]


def list_all(tx: Connection, asked: Asked) -> MessagePage:
    """List messages."""
    query: MessageQuery = asked.query
    who = whose(tx, asked, query.username)
    rows = messages.listed(
        tx,
        limit=query.limit + 1,
        subscriber_id=None if who is None else who.id,
        state=query.state,
        since=query.since,
        until=query.until,
        after=position_of(query.cursor, Place),
    )
    found, following = page_of(rows, query.limit, lambda each: (each.message.queued_at, each.id))
    return MessagePage(items=list(map(shown, found)), next=following)


def show(tx: Connection, asked: Asked) -> MessageShown:
    """Show one message."""
    found = messages.find(tx, asked.path["id"])
    if found is None:
        raise NotFound("there is no such message")
    asked.check_own(found.message.subscriber_id or 0)
    return shown(found)


def add(tx: Connection, asked: Asked) -> Answer:
    """Have a message sent, once for an Idempotency-Key: the same again gets the first answer."""
    body: NewMessage = asked.body
    payer = body.username
    if asked.only_subscriber_id is not None:
        if payer not in (None, asked.principal.username):
            raise Forbidden("you may send in your own name only")
        payer = asked.principal.username
    elif payer is not None:
        asked.check_manages(subscribers.find(tx, payer).level)
    found = send(tx, asked, to_number=body.to, text=body.text, payer=payer)
    return Answer(shown(found), headers={"Location": f"{asked.base_url}/api/v1/messages/{found.id}"})


def send(tx: Connection, asked: Asked, *, to_number: str, text: str, payer: str | None) -> Recorded:
    """Queue a message of the API's, with its row of the trail."""
    posting = messages.submit(
        tx,
        asked.config.sms.terms,
        reference=asked.reference,
        to_number=to_number,
        text=text,
        now=asked.now,
        payer=payer,
        origin=MessageOrigin.API,
    )
    found = messages.by_reference(tx, posting.message.reference)
    if found is None:
        raise LookupError(posting.message.reference)
    if posting.first:
        what = replace(posting.message, text=None)
        trail.record(tx, asked.actor, "send", f"message:{found.id}", after=what, now=asked.now)
    return found


def shown(each: Recorded) -> MessageShown:
    """Show a message."""
    message = each.message
    return MessageShown(
        id=each.id,
        reference=message.reference,
        origin=message.origin,
        username=each.username or None,
        from_number=message.from_number,
        to_number=message.to_number,
        route=message.route,
        encoding=Encoding(message.encoding),
        parts=message.parts,
        cost=message.cost,
        kind=each.kind,
        state=message.state,
        queued_at=message.queued_at,
        expires_at=message.expires_at,
        ended_at=message.ended_at,
        attempts=each.attempts,
        note=message.note,
    )
