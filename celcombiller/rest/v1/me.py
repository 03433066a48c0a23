"""``/api/v1/me``, ``/sessions`` and ``/rates``: the principal, browser sessions, and the prices in force."""

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
from celcombiller.core.model.tariffs import Service, Step
from celcombiller.core.reports.tariff_views import view_rate
from celcombiller.core.reports.views import make_view
from celcombiller.core.tariffs.rate_records import list_rates, place_of
from celcombiller.core.tariffs.rate_row import RateRow, decode_steps, encode_steps
from celcombiller.core.tariffs.tariff_records import SETTINGS_NAME
from celcombiller.http.pagination import Cursor, Limit, NamedPlace, Page, decode_cursor, make_page
from celcombiller.http.route import Response
from celcombiller.rest.v1.calls import RateView
from celcombiller.rest.v1.pricing.bundles import BundleView, views_of
from celcombiller.rest.v1.pricing.tariffs import RatePlaceKey
from celcombiller.rest.v1.subscribers import LevelNumber, Payer, visible_subscriber

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.config.tables import RateRow as Setting
    from celcombiller.core.catalogue.catalogue import CatalogueTariff, TariffVersion
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


class RateInForce(RateView, kw_only=True):
    """A price of calls that is in force. Of what has several steps, `price` and `increment_seconds` are the first's."""

    price: Annotated[int, Meta(description="credits for each increment that is begun, rounded up; see text")]
    on_net: Annotated[bool, Meta(description="whether it is for the subscribers of this biller")]
    window: Annotated[str, Meta(description="times of the week, such as mon-fri 08:00-18:00; empty: all others")]
    valid_from: Annotated[datetime, Meta(tz=True, description="not before (RFC 3339, UTC)")] | None
    valid_until: Annotated[datetime, Meta(tz=True, description="only before (RFC 3339, UTC)")] | None
    text: Annotated[str, Meta(description="fee and steps in words, in money where the tariff has a currency")]


class RateList(msgspec.Struct, kw_only=True):
    """The prices of calls that are in force for a subscriber, by prefix: a page of them."""

    tariff: Annotated[str, Meta(description="the tariff; `settings`: the rates of the settings file")]
    version: Annotated[int, Meta(description="the number of its version in force; null: the settings have none")] | None
    items: list[RateInForce]
    next: Annotated[str | None, Meta(description="the cursor of the next page; null: this is the last")]


class PriceQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Whose prices, and the size of a page. Staff may name any subscriber."""

    username: Payer | None = None
    limit: Limit = 500
    cursor: Cursor | None = None


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


def rates(tx: Connection, request: Request) -> RateList:
    """List the prices of calls that are in force for you; staff may name another subscriber."""
    query: PriceQuery = request.query
    payer = visible_subscriber(tx, request, query.username or request.principal.username)
    if payer is None:
        raise NotFound("there is no such subscriber")
    _, version_id = request.catalogue.tariff_for(payer, Service.VOICE, request.now)
    for tariff in request.catalogue.tariffs.values():
        for version in tariff.versions:
            if version.id == version_id:
                return _list_rates_of(tx, query, tariff, version)
    items = [_view_rate(_row_of_setting(each)) for each in request.config.rates]
    return RateList(tariff=SETTINGS_NAME, version=None, items=items, next=None)


def _list_rates_of(tx: Connection, query: PriceQuery, tariff: CatalogueTariff, version: TariffVersion) -> RateList:
    after = decode_cursor(query.cursor, RatePlaceKey)
    rows = list_rates(tx, tariff.id, version.number, after=after, limit=query.limit + 1, service=Service.VOICE)
    money = (tariff.currency, tariff.credits_per_unit)
    page = make_page(rows, query.limit, place_of, lambda each: _view_rate(each.row, *money))
    return RateList(tariff=tariff.name, version=version.number, items=page.items, next=page.next)


def _row_of_setting(rate: Setting) -> RateRow:
    steps = (Step(0, rate.increment_seconds, rate.price, rate.increment_seconds),)
    prefix = rate.prefix.removeprefix("+")
    return RateRow(Service.VOICE, prefix, False, rate.name, "", None, None, rate.connect_fee, 0, 0, encode_steps(steps))


def _view_rate(row: RateRow, currency: str = "", credits_per_unit: int = 1) -> RateInForce:
    first = decode_steps(row.steps)[0]
    price = -(-first.price * first.increment // first.per)
    text = view_rate(row, currency, credits_per_unit).text
    return make_view(RateInForce, row, price=price, increment_seconds=first.increment, text=text)
