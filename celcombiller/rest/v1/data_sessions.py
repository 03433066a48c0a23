"""``/api/v1/data-sessions``: data sessions, as NASes reported them, with their charges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.data.session import DataState
from celcombiller.core.reports import history
from celcombiller.core.reports.views import DataSessionView, data_session_view
from celcombiller.http.pagination import Cursor, Limit, Page, Place, Since, Until, decode_cursor, make_page
from celcombiller.rest.v1.subscribers import Payer, visible_subscriber

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


class DataSessionQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of data sessions: those that match all given fields."""

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


def list_all(tx: Connection, request: Request) -> Page[DataSessionView]:
    """List data sessions, newest first."""
    query: DataSessionQuery = request.query
    who = visible_subscriber(tx, request, query.username)
    rows = history.list_data_sessions(
        tx,
        limit=query.limit + 1,
        subscriber_id=None if who is None else who.id,
        since=query.since,
        until=query.until,
        state=query.state,
        nas=query.nas,
        after=decode_cursor(query.cursor, Place),
    )
    return make_page(rows, query.limit, lambda each: (each.session.started_at, each.id), data_session_view)


def show(tx: Connection, request: Request) -> DataSessionView:
    """Show one data session."""
    found = history.find_data_session(tx, request.path["id"])
    request.check_own(found.session.subscriber_id)
    return data_session_view(found)
