"""``/api/v1/offers``: bundles that can be bought."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Protocol

import msgspec
from msgspec import UNSET, Meta, UnsetType

from celcombiller.core.access.changes import bundle_changes
from celcombiller.core.bundles import offers
from celcombiller.core.bundles.terms import (
    CALL_SECONDS_MAX,
    DESTINATIONS_MAX,
    HOURS_MAX,
    NAME_CHARACTERS_MAX,
    PRIORITY_MAX,
    BundleTerms,
    unlimited_amount,
)
from celcombiller.core.errors import InvalidValue, NotFound
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.bundles import ON_NET
from celcombiller.core.model.tariffs import Service
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.reports.views import make_view
from celcombiller.http.pagination import Cursor, Limit, Page, RowId, decode_cursor, make_page
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.model.bundles import Offer
    from celcombiller.http.route import Request

BundleName = Annotated[
    str,
    Meta(
        pattern=rf"^[^{UNPRINTABLE}]{{1,{NAME_CHARACTERS_MAX}}}$(?!\n)",
        description=f"1 to {NAME_CHARACTERS_MAX} characters on one line, not a number only",
    ),
]
KindOfBundle = Annotated[
    BundleKind, Meta(description="what it holds: seconds of talk, messages (parts), octets, or money (voice credits)")
]
Amount = Annotated[
    int,
    Meta(ge=1, le=AMOUNT_MAX, description=f"a number of seconds, messages, octets or credits from 1 to {AMOUNT_MAX}"),
]
Services = Annotated[
    list[Service],
    Meta(max_length=3, description="the services it pays for: voice, sms, data; none: those of its kind"),
]
Destination = Annotated[
    str,
    Meta(
        pattern=rf"^(\+?[0-9*#]{{1,20}}|{ON_NET})$(?!\n)",
        description=f"a prefix of numbers (at most 20 digits), or {ON_NET}: this biller's subscribers",
    ),
]
Destinations = Annotated[
    list[Destination],
    Meta(max_length=DESTINATIONS_MAX, description=f"where to it pays, at most {DESTINATIONS_MAX}; none: everywhere"),
]
Hours = Annotated[
    int, Meta(ge=1, le=HOURS_MAX, description=f"a number of hours from 1 to {HOURS_MAX}: how long it is valid")
]
Priority = Annotated[
    int,
    Meta(
        ge=-PRIORITY_MAX,
        le=PRIORITY_MAX,
        description=f"the number of its place from -{PRIORITY_MAX} to {PRIORITY_MAX}; the lowest is spent first",
    ),
]
Price = Annotated[int, Meta(ge=0, le=AMOUNT_MAX, description=f"voice credits from 0 to {AMOUNT_MAX}")]
CallPart = Annotated[
    int,
    Meta(
        ge=1,
        le=CALL_SECONDS_MAX,
        description=f"a number of seconds from 1 to {CALL_SECONDS_MAX}: of one call it pays no more; of seconds only",
    ),
]
Unlimited = Annotated[bool, Meta(description="whether it is without limit; its amount is one that is never used up")]
Renews = Annotated[bool, Meta(description="whether a bundle is bought again at its end, if the balance is enough")]
ForSale = Annotated[bool, Meta(description="whether it can be bought")]


class OfferView(msgspec.Struct, kw_only=True):
    """An offer: what a bundle of it holds, its price, and for how long it is valid."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    name: str
    price: Annotated[int, Meta(description="voice credits")]
    kind: KindOfBundle
    amount: Annotated[int, Meta(description="number of seconds, messages, octets or credits")]
    services: Services
    destinations: Annotated[list[str], Meta(description="prefixes of numbers, and on-net; none: everywhere")]
    valid_hours: Annotated[int, Meta(description="the number of hours for which it is valid")]
    priority: Annotated[int, Meta(description="the number of its place: the bundle of the lowest is spent first")]
    renews: Renews
    enabled: ForSale
    unlimited: Unlimited
    call_seconds_max: Annotated[int, Meta(description="seconds of one call that it pays at most; null: all")] | None


class NewOffer(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An offer to make."""

    name: BundleName
    price: Price
    kind: KindOfBundle
    amount: Amount | None = None
    unlimited: Unlimited = False
    call_seconds_max: CallPart | None = None
    services: Services = []
    destinations: Destinations = []
    valid_hours: Hours
    priority: Priority = 0
    renews: Renews = False
    enabled: ForSale = True


class OfferChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A change, for the bundles that are bought from then on. Fields that are not named stay as they are."""

    name: BundleName | UnsetType = UNSET
    price: Price | UnsetType = UNSET
    amount: Amount | UnsetType = UNSET
    services: Services | UnsetType = UNSET
    destinations: Destinations | UnsetType = UNSET
    valid_hours: Hours | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    renews: Renews | UnsetType = UNSET
    enabled: ForSale | UnsetType = UNSET
    call_seconds_max: CallPart | UnsetType | None = UNSET


class OfferQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A page of offers."""

    limit: Limit = 50
    cursor: Cursor | None = None


def list_all(tx: Connection, request: Request) -> Page[OfferView]:
    """List the offers, in the order in which they were made; subscribers see those that can be bought."""
    query: OfferQuery = request.query
    enabled = None if request.principal.is_staff else True
    after_id = decode_cursor(query.cursor, RowId) or 0
    rows = offers.list_all(tx, enabled=enabled, after_id=after_id, limit=query.limit + 1)
    return make_page(rows, query.limit, lambda each: each.id, to_view)


def show(tx: Connection, request: Request) -> OfferView:
    """Show one offer."""
    found = offers.find(tx, request.path["id"])
    if not (found.enabled or request.principal.is_staff):
        raise NotFound(f"there is no offer {found.id}")
    return to_view(found)


def add(tx: Connection, request: Request) -> Response:
    """Make an offer."""
    body: NewOffer = request.body
    terms = terms_of(body)
    made = bundle_changes.add_offer(
        tx,
        request.actor,
        terms,
        price=body.price,
        valid_hours=body.valid_hours,
        renews=body.renews,
        enabled=body.enabled,
        now=request.now,
    )
    return Response(to_view(made), headers={"Location": f"{request.base_url}/api/v1/offers/{made.id}"})


def change(tx: Connection, request: Request) -> OfferView:
    """Change an offer. Bundles that were bought before stay as they are."""
    body: OfferChange = request.body
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name in body.__struct_fields__
        if (value := getattr(body, name)) is not UNSET
    }
    return to_view(bundle_changes.change_offer(tx, request.actor, request.path["id"], given, request.now))


def delete(tx: Connection, request: Request) -> Response:
    """Delete an offer. Bundles of it go on, and are not bought again."""
    bundle_changes.delete_offer(tx, request.actor, request.path["id"], request.now)
    return Response()


class Content(Protocol):
    """What a bundle or an offer is to be made of."""

    name: str
    kind: BundleKind
    amount: int | None
    unlimited: bool
    call_seconds_max: int | None
    services: list[Service]
    destinations: list[str]
    priority: int


def terms_of(body: Content) -> BundleTerms:
    """Return the terms of a body. Raise `InvalidValue` unless it has either an amount or is unlimited."""
    if (body.amount is None) is not body.unlimited:
        what = "is needed, or unlimited, and not both"
        raise InvalidValue(f"amount {what}", {"amount": what})
    return BundleTerms(
        body.name,
        body.kind,
        unlimited_amount(body.kind) if body.amount is None else body.amount,
        tuple(body.services),
        tuple(body.destinations),
        body.priority,
        body.call_seconds_max,
    )


def to_view(offer: Offer) -> OfferView:
    """Return the view of an offer."""
    return make_view(OfferView, offer)
