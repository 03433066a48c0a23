"""``/api/v1/data-sessions``: what NASes told of data, and what was charged for it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from celcombiller import history
from celcombiller.datasessions import Closing, DataState
from celcombiller.rest.paging import Cursor, Limit, Place, Since, Until, page_of, position_of
from celcombiller.rest.subscribers import Payer, whose

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.history import RecordedSession
    from celcombiller.rest.routes import Asked


class DataSessionShown(msgspec.Struct, kw_only=True):
    """A session of data."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    reference: Annotated[str, Meta(description="what the ids of its holds and charges in the ledger begin with")]
    username: Annotated[str, Meta(description="who pays")]
    said_username: Annotated[str, Meta(description="the User-Name that the NAS told")]
    nas: Annotated[str, Meta(description="the client of the settings, and which NAS of it")]
    session_id: Annotated[str, Meta(description="the NAS's own id of it (Acct-Session-Id)")]
    framed_address: Annotated[str, Meta(description="the IP address that the user was given")]
    station: Annotated[str, Meta(description="the user's device (Calling-Station-Id)")]
    state: Annotated[DataState, Meta(description="open or closed")]
    started_at: Annotated[datetime, Meta(tz=True, description="when it began, or was heard first (RFC 3339, UTC)")]
    heard_at: Annotated[datetime, Meta(tz=True, description="when it was told of last (RFC 3339, UTC)")]
    ended_at: Annotated[datetime, Meta(tz=True, description="when it was over (RFC 3339, UTC)")] | None
    octets_in: Annotated[int, Meta(description="number of octets from the user")]
    octets_out: Annotated[int, Meta(description="number of octets to the user")]
    octets: Annotated[int, Meta(description="number of octets in both directions: the highest total that was told")]
    octets_per_credit: Annotated[int, Meta(description="number of octets that a credit buys")]
    charged: Annotated[int, Meta(description="credits charged so far")]
    closed_by: (
        Annotated[
            Closing, Meta(description="stop: its NAS told; restart: its NAS began anew; silence: nobody told of it")
        ]
        | None
    )
    cause: Annotated[str, Meta(description="why it ended, in the NAS's words (Acct-Terminate-Cause)")]
    note: str
    disconnect: Annotated[str, Meta(description="why the NAS was asked to end it; empty: it was not")]
    disconnect_said: Annotated[str, Meta(description="what the NAS said to that: ACK, NAK and its Error-Cause")]


class DataSessionQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which sessions: all that match every field that is given, and how many on a page."""

    since: Since | None = None
    until: Until | None = None
    username: Payer | None = None
    state: Annotated[DataState, Meta(description="open or closed")] | None = None
    nas: (
        Annotated[
            str, Meta(pattern=r"^[^\x00]{0,300}$", description="at most 300 characters: a NAS, as `nas` shows it")
        ]
        | None
    ) = None
    limit: Limit = 50
    cursor: Cursor | None = None


class DataSessionPage(msgspec.Struct, kw_only=True):
    """Sessions, newest first."""

    items: list[DataSessionShown]
    next: Annotated[str | None, Meta(description="the cursor of the next page; null: this is the last")]


def list_all(tx: Connection, asked: Asked) -> DataSessionPage:
    """List sessions of data."""
    query: DataSessionQuery = asked.query
    who = whose(tx, asked, query.username)
    rows = history.data_sessions(
        tx,
        limit=query.limit + 1,
        subscriber_id=None if who is None else who.id,
        since=query.since,
        until=query.until,
        state=query.state,
        nas=query.nas,
        after=position_of(query.cursor, Place),
    )
    found, following = page_of(rows, query.limit, lambda each: (each.session.started_at, each.id))
    return DataSessionPage(items=list(map(shown, found)), next=following)


def show(tx: Connection, asked: Asked) -> DataSessionShown:
    """Show one session of data."""
    found = history.data_session(tx, asked.path["id"])
    asked.check_own(found.session.subscriber_id)
    return shown(found)


_OF_SESSION = tuple(
    name for name in DataSessionShown.__struct_fields__ if name not in ("id", "username", "said_username")
)


def shown(each: RecordedSession) -> DataSessionShown:
    """Show a session."""
    facts: dict[str, Any] = {name: getattr(each.session, name) for name in _OF_SESSION}
    return DataSessionShown(id=each.id, username=each.username, said_username=each.session.username, **facts)
