"""Views: the fields that users see of a value, each with its description. The API and the command share two of them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from celcombiller.core.data.session import Closing, DataState
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.messages import MessageOrigin, MessageState, Route
from celcombiller.core.sms.encoding import Encoding

if TYPE_CHECKING:
    from celcombiller.core.reports.history import RecordedSession
    from celcombiller.core.sms.message_queries import RecordedMessage

AccountWord = Annotated[
    Literal["voice", "data", "sms", "seconds", "messages", "octets", "money", "seller"],
    Meta(description="which account: voice, data or sms; what a bundle holds; or seller, what a seller has to sell"),
]


V = TypeVar("V", bound=msgspec.Struct)


def make_view(view: type[V], value: object, /, **facts: object) -> V:
    """Return a view of ``value``: each field is the fact of its name, or else the attribute of its name.

    Values inside it become views in the same way. Raises `AttributeError` if there is neither, and
    `msgspec.ValidationError` if the type is another.
    """
    found = {name: getattr(value, name) for name in view.__struct_fields__ if name not in facts}
    return msgspec.convert(found | facts, view, from_attributes=True)


class DataSessionView(msgspec.Struct, kw_only=True):
    """A data session."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    reference: Annotated[str, Meta(description="what the ids of its holds and charges in the ledger begin with")]
    username: Annotated[str, Meta(description="the subscriber who pays")]
    name: Annotated[str, Meta(description="the subscriber's name")]
    said_username: Annotated[str, Meta(description="the User-Name that the NAS sent")]
    nas: Annotated[str, Meta(description="the client of the settings, and which NAS of it")]
    session_id: Annotated[str, Meta(description="the id of the session on the NAS (Acct-Session-Id)")]
    framed_address: Annotated[str, Meta(description="the IP address of the user")]
    station: Annotated[str, Meta(description="the user's device (Calling-Station-Id)")]
    state: Annotated[DataState, Meta(description="open or closed")]
    started_at: Annotated[datetime, Meta(tz=True, description="when it began, or was first reported (RFC 3339, UTC)")]
    heard_at: Annotated[datetime, Meta(tz=True, description="when it was last reported (RFC 3339, UTC)")]
    ended_at: Annotated[datetime, Meta(tz=True, description="when it ended (RFC 3339, UTC)")] | None
    octets_in: Annotated[int, Meta(description="number of octets from the user")]
    octets_out: Annotated[int, Meta(description="number of octets to the user")]
    octets: Annotated[int, Meta(description="number of octets in both directions: the highest total reported")]
    octets_per_credit: Annotated[int, Meta(description="number of octets that a credit buys")]
    charged: Annotated[int, Meta(description="credits charged so far")]
    closed_by: (
        Annotated[
            Closing, Meta(description="stop: its NAS reported it; restart: its NAS restarted; silence: no reports")
        ]
        | None
    )
    cause: Annotated[str, Meta(description="why it ended, by the NAS (Acct-Terminate-Cause)")]
    note: str
    disconnect: Annotated[str, Meta(description="why the NAS was asked to end it; empty: it was not")]
    disconnect_said: Annotated[str, Meta(description="the answer of the NAS: ACK, or NAK and its Error-Cause")]


def data_session_view(each: RecordedSession) -> DataSessionView:
    """Return the view of a data session."""
    session = each.session
    return make_view(
        DataSessionView, session, id=each.id, username=each.username, name=each.name, said_username=session.username
    )


class MessageView(msgspec.Struct, kw_only=True):
    """A message, without its text."""

    id: Annotated[int, Meta(description="the number of its row; a later one is larger")]
    reference: Annotated[str, Meta(description="the id of its hold and of its charge in the ledger")]
    origin: Annotated[
        MessageOrigin, Meta(description="where it comes from: a phone (free: from elsewhere), the API, or a notice")
    ]
    username: Annotated[str, Meta(description="the subscriber who pays")] | None
    name: Annotated[str, Meta(description="the subscriber's name")] | None
    from_number: Annotated[str, Meta(description="the number or name it comes from")]
    to_number: Annotated[str, Meta(description="the number it goes to")]
    route: Annotated[Route, Meta(description="the route it takes")]
    encoding: Annotated[Encoding, Meta(description="the alphabet it needs: gsm7 or ucs2")]
    parts: Annotated[int, Meta(description="the number of short messages it takes")]
    cost: Annotated[int, Meta(description="credits: held while it is open, charged once it is accepted")]
    kind: Annotated[Kind, Meta(description="which account pays: voice or sms; null: none, it is free")] | None
    state: Annotated[
        MessageState,
        Meta(
            description="queued or sending; then accepted (charged), refused or expired (not charged); an accepted one"
            " may be delivered, or failed (refunded)"
        ),
    ]
    queued_at: Annotated[datetime, Meta(tz=True, description="since when (RFC 3339, UTC)")]
    expires_at: Annotated[datetime, Meta(tz=True, description="when it expires (RFC 3339, UTC)")]
    ended_at: (
        Annotated[datetime, Meta(tz=True, description="when the network accepted or refused it (RFC 3339, UTC)")] | None
    )
    attempts: Annotated[int, Meta(description="the number of failed attempts")]
    note: str
    broadcast_id: Annotated[int, Meta(description="the number of its broadcast; null: it is of none")] | None


def message_view(each: RecordedMessage) -> MessageView:
    """Return the view of a message, without its text."""
    payer = {"username": each.username or None, "name": each.name or None}
    return make_view(MessageView, each.message, id=each.id, kind=each.kind, attempts=each.attempts, **payer)
