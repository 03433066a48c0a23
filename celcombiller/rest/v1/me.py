"""``/api/v1/me``, ``/sessions`` and ``/rates``: the principal, browser sessions, and the price list."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.access import principal
from celcombiller.core.access import sessions as access_sessions
from celcombiller.core.access.principal import Scope
from celcombiller.core.errors import NotFound
from celcombiller.core.model.subscribers import Level
from celcombiller.core.reports.views import make_view
from celcombiller.http.pagination import Cursor, Limit, NamedPlace, Page, decode_cursor, make_page
from celcombiller.http.route import Response
from celcombiller.rest.v1.calls import RateView
from celcombiller.rest.v1.pricing.bundles import BundleView, views_of
from celcombiller.rest.v1.subscribers import LevelNumber, visible_subscriber

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


class Me(msgspec.Struct, kw_only=True):
    """The principal of a request, and what they may do."""

    id: Annotated[int, Meta(description="the number of the subscriber's row; it never changes")]
    username: str
    level: LevelNumber
    scopes: Annotated[list[Scope], Meta(description="what the token may be used for")] | None
    token_id: Annotated[int, Meta(description="the number of the token; null: this is a session")] | None
    bundles: Annotated[list[BundleView], Meta(description="your bundles that have not ended, as they are spent")]


class SessionView(msgspec.Struct, kw_only=True):
    """A browser that is logged in."""

    id: Annotated[str, Meta(description="64 hexadecimal digits; it is not the secret")]
    username: str
    name: Annotated[str, Meta(description="the subscriber's name")]
    address: Annotated[str, Meta(description="the IP address that logged in")]
    created_at: Annotated[datetime, Meta(tz=True, description="since when (RFC 3339, UTC)")]
    expires_at: Annotated[datetime, Meta(tz=True, description="until when (RFC 3339, UTC)")]
    current: Annotated[bool, Meta(description="whether this request belongs to it")]


class SessionQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of sessions; administrators may name any subscriber."""

    username: (
        Annotated[
            str,
            Meta(pattern=r"^[^\x00]{0,64}$", description="at most 64 characters: whose sessions; default: your own"),
        ]
        | None
    ) = None
    limit: Limit = 50
    cursor: Cursor | None = None


class RateList(msgspec.Struct, kw_only=True):
    """The price list of the settings."""

    items: list[RateView]


def me(tx: Connection, request: Request) -> Me:
    """Show the principal of the request, and what they may do."""
    who = request.principal
    scopes = None if who.scopes is None else sorted(who.scopes)
    return Me(
        id=who.subscriber_id,
        username=who.username,
        level=who.level,
        scopes=scopes,
        token_id=who.token_id,
        bundles=views_of(tx, who.subscriber_id, who.username, request.now),
    )


def sessions(tx: Connection, request: Request) -> Page[SessionView]:
    """List your sessions, newest first. Administrators may name another subscriber."""
    query: SessionQuery = request.query
    who = request.principal
    owner_id = who.subscriber_id
    if query.username not in (None, who.username):
        if who.level is not Level.ADMINISTRATOR:
            raise NotFound("there is no such thing, or it is not yours")
        owner = visible_subscriber(tx, request, query.username)
        owner_id = owner_id if owner is None else owner.id
    after = decode_cursor(query.cursor, NamedPlace)
    rows = access_sessions.sessions(tx, owner_id, request.now, limit=query.limit + 1, after=after)
    current = None if request.secret is None else principal.hash_secret(request.secret)

    return make_page(
        rows,
        query.limit,
        lambda each: (each.created_at, each.id),
        lambda each: make_view(SessionView, each, current=each.id == current),
    )


def revoke(tx: Connection, request: Request) -> Response:
    """End a session. Its cookie is invalid from now on."""
    found = access_sessions.session(tx, request.path["id"])
    if request.principal.level is not Level.ADMINISTRATOR and found.subscriber_id != request.principal.subscriber_id:
        raise NotFound("there is no such session")
    access_sessions.revoke_session(tx, request.actor, found.id, request.now)
    return Response()


def rates(_tx: Connection, request: Request) -> RateList:
    """Show the price list."""
    return RateList(items=[make_view(RateView, each) for each in request.config.rates])
