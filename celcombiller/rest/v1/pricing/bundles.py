"""``/api/v1/bundles``: pots of seconds, messages, octets or credits that are spent before the balance."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.access.changes import bundle_changes
from celcombiller.core.bundles import bundle_records, offers
from celcombiller.core.errors import NotFound
from celcombiller.core.ledger import statement as ledger_statement
from celcombiller.core.model.bundles import BundleState
from celcombiller.core.reports.history import RecordedTransfer
from celcombiller.core.reports.views import make_view
from celcombiller.core.schedules.due_dates import local_date
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.subscribers.fields import Username
from celcombiller.http.pagination import Cursor, Limit, Page, RowId, decode_cursor, make_page
from celcombiller.http.route import Response
from celcombiller.rest.v1.pricing.offers import (
    Amount,
    BundleName,
    CallPart,
    Destinations,
    Hours,
    KindOfBundle,
    Priority,
    Renews,
    Services,
    Unlimited,
    terms_of,
)
from celcombiller.rest.v1.subscribers import Sought, visible_subscriber
from celcombiller.rest.v1.transfers import Note, TransferView
from celcombiller.rest.v1.transfers import to_view as to_transfer_view

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.model.bundles import Bundle
    from celcombiller.http.route import Request

_ID_MAX = 2**63 - 1


class BundleView(msgspec.Struct, kw_only=True):
    """A bundle of a subscriber, and what is left of it."""

    id: Annotated[int, Meta(description="the number of its account; it never changes")]
    reference: Annotated[str, Meta(description="the id of the transfer that filled it")]
    username: Annotated[str, Meta(description="whose it is")]
    name: str
    offer_id: Annotated[int, Meta(description="the number of its offer; null: it was given by hand")] | None
    kind: KindOfBundle
    amount: Annotated[int, Meta(description="number of seconds, messages, octets or credits at its beginning")]
    left: Annotated[int, Meta(description="number of them that are not spent, with those held")]
    held: Annotated[int, Meta(description="number of them that uses in progress set aside")]
    services: Services
    destinations: Annotated[list[str], Meta(description="prefixes of numbers, and on-net; none: everywhere")]
    priority: Annotated[int, Meta(description="the number of its place: the bundle of the lowest is spent first")]
    valid_from: Annotated[datetime, Meta(tz=True, description="since when it pays (RFC 3339, UTC)")]
    valid_until: Annotated[datetime, Meta(tz=True, description="until when it pays (RFC 3339, UTC)")]
    renews: Renews
    state: Annotated[
        BundleState, Meta(description="coming, valid, ending (its time is over, not all uses of it are) or ended")
    ]
    ended_at: Annotated[datetime, Meta(tz=True, description="when what was left went back (RFC 3339, UTC)")] | None
    unlimited: Unlimited
    call_seconds_max: Annotated[int, Meta(description="seconds of one call that it pays at most; null: all")] | None


class BundleList(msgspec.Struct, kw_only=True):
    """The bundles of a subscriber that have not ended, in the order in which they are spent."""

    items: list[BundleView]


class NewBundle(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A bundle to give."""

    username: Username
    name: BundleName
    kind: KindOfBundle
    amount: Amount | None = None
    unlimited: Unlimited = False
    call_seconds_max: CallPart | None = None
    services: Services = []
    destinations: Destinations = []
    priority: Priority = 0
    valid_hours: Hours
    valid_from: Annotated[datetime, Meta(tz=True, description="since when (RFC 3339); without it, now")] | None = None
    note: Note = ""


class BundlePlanView(msgspec.Struct, kw_only=True):
    """A bundle that could be given now, to be looked at before it is."""

    username: Annotated[str, Meta(description="whose it would be")]
    subscriber: Annotated[str, Meta(description="their name")]
    clid: Annotated[str, Meta(description="their phone number: digits")]
    name: str
    kind: KindOfBundle
    amount: Annotated[int, Meta(description="number of seconds, messages, octets or credits at its beginning")]
    unlimited: Unlimited
    services: Services
    destinations: Annotated[list[str], Meta(description="prefixes of numbers, and on-net; none: everywhere")]
    priority: Annotated[int, Meta(description="the number of its place: the bundle of the lowest is spent first")]
    valid_from: Annotated[datetime, Meta(tz=True, description="since when it would pay (RFC 3339, UTC)")]
    valid_until: Annotated[datetime, Meta(tz=True, description="until when it would pay (RFC 3339, UTC)")]
    call_seconds_max: Annotated[int, Meta(description="seconds of one call that it pays at most; null: all")] | None


class Purchase(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An offer to buy."""

    offer_id: Annotated[int, Meta(ge=1, le=_ID_MAX, description=f"the number of the offer, from 1 to {_ID_MAX}")]
    renews: (
        Annotated[bool, Meta(description="whether it is bought again at its end; without it, as the offer says")] | None
    ) = None


class BundleChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A change of a bundle."""

    renews: Renews


class BundleEnd(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The reason for ending a bundle before its time."""

    note: Note = ""


class BundleQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of bundles: those that match all given fields."""

    username: Sought | None = None
    ended: Annotated[bool, Meta(description="true: only those that have ended; false: only the others")] | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


class BundleStatementQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A page of a bundle's statement."""

    limit: Limit = 50
    cursor: Cursor | None = None


def list_all(tx: Connection, request: Request) -> Page[BundleView]:
    """List bundles, newest first."""
    query: BundleQuery = request.query
    who = visible_subscriber(tx, request, query.username)
    rows = bundle_records.list_all(
        tx,
        subscriber_id=None if who is None else who.id,
        ended=query.ended,
        before_id=decode_cursor(query.cursor, RowId),
        limit=query.limit + 1,
    )
    return make_page(
        rows, query.limit, lambda each: each[1].account_id, lambda each: to_view(each[1], each[0], request.now)
    )


def show(tx: Connection, request: Request) -> BundleView:
    """Show one bundle."""
    return _view(tx, request, _find(tx, request))


def give(tx: Connection, request: Request) -> Response:
    """Give a subscriber a free bundle, once for each Idempotency-Key."""
    body: NewBundle = request.body
    terms = terms_of(body)
    made, _ = bundle_changes.give(
        tx,
        request.actor,
        body.username,
        terms,
        valid_hours=body.valid_hours,
        valid_from=body.valid_from,
        reference=request.find_reference(tx),
        note=body.note,
        now=request.now,
    )
    return _answer_made(tx, request, made)


def plan(tx: Connection, request: Request) -> BundlePlanView:
    """Show who would get a bundle, and what of it. Nothing is given."""
    body: NewBundle = request.body
    who, terms, begins, ends = bundle_changes.plan_gift(
        tx,
        request.actor,
        body.username,
        terms_of(body),
        valid_hours=body.valid_hours,
        valid_from=body.valid_from,
        note=body.note,
        now=request.now,
    )
    return make_view(
        BundlePlanView,
        terms,
        username=who.username,
        subscriber=who.name,
        clid=who.clid,
        unlimited=body.unlimited,
        valid_from=begins,
        valid_until=ends,
    )


def list_of(tx: Connection, request: Request) -> BundleList:
    """List a subscriber's bundles that have not ended, in the order in which they are spent."""
    who = subscriber_records.find(tx, request.path["username"])
    return BundleList(items=views_of(tx, who.id, who.username, request.now))


def list_own(tx: Connection, request: Request) -> BundleList:
    """List your bundles that have not ended, in the order in which they are spent."""
    who = request.principal
    return BundleList(items=views_of(tx, who.subscriber_id, who.username, request.now))


def buy(tx: Connection, request: Request) -> Response:
    """Buy an offer from a subscriber's voice balance, once for each Idempotency-Key."""
    return _buy(tx, request, request.path["username"])


def buy_own(tx: Connection, request: Request) -> Response:
    """Buy an offer from your voice balance, once for each Idempotency-Key."""
    return _buy(tx, request, request.principal.username)


def change(tx: Connection, request: Request) -> BundleView:
    """Change whether a bundle of an offer is bought again at its end."""
    body: BundleChange = request.body
    found = _find(tx, request)
    changed = bundle_changes.set_renewal(tx, request.actor, found.account_id, renews=body.renews, now=request.now)
    return _view(tx, request, changed)


def end(tx: Connection, request: Request) -> BundleView:
    """End a bundle before its time: what is left goes back. With uses in progress it ends when they have."""
    body: BundleEnd = request.body
    ended = bundle_changes.end(tx, request.actor, request.path["id"], note=body.note, now=request.now)
    return _view(tx, request, ended)


def statement(tx: Connection, request: Request) -> Page[TransferView]:
    """List the movements of a bundle, newest first, with what was left after each."""
    query: BundleStatementQuery = request.query
    bundle = _find(tx, request)
    who = bundle_records.find_owner(tx, bundle)
    lines = ledger_statement.statement(
        tx, bundle_records.account_of(bundle), limit=query.limit + 1, before_id=decode_cursor(query.cursor, RowId)
    )
    return make_page(
        lines,
        query.limit,
        lambda line: line.id,
        lambda line: to_transfer_view(RecordedTransfer(bundle.subscriber_id, who.username, who.name, who.level, line)),
    )


def views_of(tx: Connection, subscriber_id: int, username: str, now: datetime) -> list[BundleView]:
    """Return the views of a subscriber's bundles that have not ended, in the order in which they are spent."""
    return [to_view(each, username, now) for each in bundle_records.list_of(tx, subscriber_id)]


def to_view(bundle: Bundle, username: str, now: datetime) -> BundleView:
    """Return the view of a bundle, as it is now."""
    return make_view(
        BundleView,
        bundle,
        id=bundle.account_id,
        username=username,
        left=bundle.posted,
        services=sorted(bundle.services_paid),
        state=bundle.state_at(now),
    )


def _find(tx: Connection, request: Request) -> Bundle:
    found = bundle_records.find(tx, request.path["id"])
    request.check_own(found.subscriber_id)
    return found


def _view(tx: Connection, request: Request, bundle: Bundle) -> BundleView:
    return to_view(bundle, bundle_records.find_owner(tx, bundle).username, request.now)


def _buy(tx: Connection, request: Request, username: str) -> Response:
    body: Purchase = request.body
    offer = offers.find(tx, body.offer_id)
    if not (offer.enabled or request.principal.is_staff):
        raise NotFound(f"there is no offer {offer.id}")
    made, _ = bundle_changes.buy(
        tx,
        request.actor,
        username,
        offer,
        renews=body.renews,
        reference=request.find_reference(tx),
        today=local_date(request.now, request.config.schedules.zone),
        now=request.now,
    )
    return _answer_made(tx, request, made)


def _answer_made(tx: Connection, request: Request, made: Bundle) -> Response:
    headers = {"Location": f"{request.base_url}/api/v1/bundles/{made.account_id}"}
    return Response(_view(tx, request, made), headers=headers)
