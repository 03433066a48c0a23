"""``/api/v1/trunks`` and ``/api/v1/routes``: the ways of calls to numbers outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from celcombiller.core.access.changes import routing_changes
from celcombiller.core.model.routing import RouteTrunk, TrunkChoice
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.reports.views import make_view
from celcombiller.core.routing import route_records, trunk_records
from celcombiller.core.routing.route_records import TRUNKS_MAX, WEIGHT_MAX
from celcombiller.core.routing.trunk_dial import DIAL_CHARACTERS_MAX
from celcombiller.core.routing.trunk_records import CALLS_MAX
from celcombiller.http.pagination import Page, RowId, decode_cursor, make_page
from celcombiller.http.route import ID_MAX, Response

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.model.routing import CallRoute, Trunk
    from celcombiller.http.route import Request
    from celcombiller.rest.v1.schedules import PageQuery

TrunkName = Annotated[
    str, Meta(pattern=rf"^[^{UNPRINTABLE}\s]{{1,64}}$(?!\n)", description="1 to 64 characters without spaces")
]
Dial = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=DIAL_CHARACTERS_MAX,
        description="its dial string, such as PJSIP/{number}@provider, without commas",
    ),
]
NumberPart = Annotated[
    str, Meta(pattern=r"^\+?[0-9*#]{0,16}$(?!\n)", description="up to 16 digits, * and #, with or without a + before")
]
CallerId = Annotated[
    str,
    Meta(
        pattern=r"^\+?[0-9*#]{0,32}(\{number\}[0-9*#]{0,32})?$(?!\n)",
        description="digits, with {number} at most once for the caller's own number; empty: that number as it is",
    ),
]
CallsMax = Annotated[int, Meta(ge=0, le=CALLS_MAX, description=f"number of calls at once, from 0 to {CALLS_MAX}")]
TariffId = Annotated[int, Meta(ge=1, le=ID_MAX, description="the number of a tariff")]
RoutePrefix = Annotated[
    str,
    Meta(
        pattern=r"^\+?[0-9*#]{0,32}$(?!\n)",
        description="up to 32 digits, * and #, that numbers begin with, with or without a + before; empty: all numbers",
    ),
]
Choice = Annotated[
    TrunkChoice,
    Meta(description="the first trunk: as they stand (order), by lot (weight) or the cheapest (cost)"),
]


class TrunkView(msgspec.Struct, kw_only=True):
    """A trunk: a way out, to a provider."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    name: str
    dial: Annotated[str, Meta(description="its dial string")]
    strip: Annotated[str, Meta(description="what is taken away where a number begins with it")]
    prepend: Annotated[str, Meta(description="what is put before the number then")]
    caller_id: Annotated[str, Meta(description="the caller's number that is shown; empty: as it is")]
    tariff_id: Annotated[int, Meta(description="the number of its provider's tariff; null: unknown cost")] | None
    calls_max: Annotated[int, Meta(description="number of calls at once at most; null: any")] | None
    enabled: Annotated[bool, Meta(description="whether calls may go by it")]
    open_calls: Annotated[int, Meta(description="number of calls that go by it now")]


class NewTrunk(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A trunk to make. No route has it yet."""

    name: TrunkName
    dial: Dial
    strip: NumberPart = ""
    prepend: NumberPart = ""
    caller_id: CallerId = ""
    tariff_id: TariffId | None = None
    calls_max: CallsMax | None = None
    enabled: bool = True


class TrunkChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A change. Fields that are not named stay as they are."""

    name: TrunkName | UnsetType = UNSET
    dial: Dial | UnsetType = UNSET
    strip: NumberPart | UnsetType = UNSET
    prepend: NumberPart | UnsetType = UNSET
    caller_id: CallerId | UnsetType = UNSET
    tariff_id: TariffId | UnsetType | None = UNSET
    calls_max: CallsMax | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class TrunkOfRoute(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A trunk of a route."""

    trunk_id: Annotated[int, Meta(ge=1, le=ID_MAX, description="the number of a trunk")]
    weight: Annotated[
        int,
        Meta(
            ge=1,
            le=WEIGHT_MAX,
            description=f"number of lots, from 1 to {WEIGHT_MAX}: with twice as many it is first twice as often",
        ),
    ] = 1


Trunks = Annotated[
    list[TrunkOfRoute],
    Meta(min_length=1, max_length=TRUNKS_MAX, description=f"1 to {TRUNKS_MAX} trunks, each once, in their order"),
]


class RouteView(msgspec.Struct, kw_only=True):
    """A route: the trunks for numbers that begin with a prefix. The longest prefix of a number counts."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    prefix: Annotated[str, Meta(description="digits that a number begins with; empty: every number")]
    choose: Choice
    trunks: Annotated[list[TrunkOfRoute], Meta(description="its trunks, in their order")]


class NewRoute(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A route to make."""

    prefix: RoutePrefix
    choose: Choice = TrunkChoice.ORDER
    trunks: Trunks


class RouteChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A change. Fields that are not named stay as they are; trunks replace all that it had."""

    prefix: RoutePrefix | UnsetType = UNSET
    choose: Choice | UnsetType = UNSET
    trunks: Trunks | UnsetType = UNSET


def list_trunks(tx: Connection, request: Request) -> Page[TrunkView]:
    """List trunks, in the order in which they were made."""
    query: PageQuery = request.query
    rows = trunk_records.list_all(tx, after_id=decode_cursor(query.cursor, RowId) or 0, limit=query.limit + 1)
    busy = trunk_records.count_open_calls(tx, [each.id for each in rows])
    return make_page(
        rows,
        query.limit,
        lambda each: each.id,
        lambda each: make_view(TrunkView, each, open_calls=busy.get(each.id, 0)),
    )


def show_trunk(tx: Connection, request: Request) -> TrunkView:
    """Show one trunk, and how many calls go by it."""
    return _trunk_view(tx, trunk_records.find_by_id(tx, request.path["id"]))


def add_trunk(tx: Connection, request: Request) -> Response:
    """Make a trunk."""
    made = routing_changes.add_trunk(tx, request.actor, now=request.now, **msgspec.structs.asdict(request.body))
    return Response(_trunk_view(tx, made), headers={"Location": f"{request.base_url}/api/v1/trunks/{made.id}"})


def change_trunk(tx: Connection, request: Request) -> TrunkView:
    """Change a trunk, from the next call on."""
    changed = routing_changes.change_trunk(tx, request.actor, request.path["id"], _given(request.body), request.now)
    return _trunk_view(tx, changed)


def delete_trunk(tx: Connection, request: Request) -> Response:
    """Delete a trunk that no route has. Calls that go by it go on."""
    routing_changes.delete_trunk(tx, request.actor, request.path["id"], request.now)
    return Response()


def list_routes(tx: Connection, request: Request) -> Page[RouteView]:
    """List routes, in the order in which they were made."""
    query: PageQuery = request.query
    rows = route_records.list_all(tx, after_id=decode_cursor(query.cursor, RowId) or 0, limit=query.limit + 1)
    return make_page(rows, query.limit, lambda each: each.id, _route_view)


def show_route(tx: Connection, request: Request) -> RouteView:
    """Show one route."""
    return _route_view(route_records.find_by_id(tx, request.path["id"]))


def add_route(tx: Connection, request: Request) -> Response:
    """Make a route."""
    body: NewRoute = request.body
    made = routing_changes.add_route(
        tx, request.actor, prefix=body.prefix, choose=body.choose, trunks=_places(body.trunks), now=request.now
    )
    return Response(_route_view(made), headers={"Location": f"{request.base_url}/api/v1/routes/{made.id}"})


def change_route(tx: Connection, request: Request) -> RouteView:
    """Change a route, from the next call on."""
    given = _given(request.body)
    if "trunks" in given:
        given["trunks"] = _places(given["trunks"])
    return _route_view(routing_changes.change_route(tx, request.actor, request.path["id"], given, request.now))


def delete_route(tx: Connection, request: Request) -> Response:
    """Delete a route. Its numbers then have the route of a shorter prefix, if there is one."""
    routing_changes.delete_route(tx, request.actor, request.path["id"], request.now)
    return Response()


def _given(body: TrunkChange | RouteChange) -> dict[str, Any]:
    return {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET}


def _places(trunks: list[TrunkOfRoute]) -> tuple[RouteTrunk, ...]:
    return tuple(RouteTrunk(each.trunk_id, each.weight) for each in trunks)


def _trunk_view(tx: Connection, trunk: Trunk) -> TrunkView:
    return make_view(TrunkView, trunk, open_calls=trunk_records.count_open_calls(tx, [trunk.id]).get(trunk.id, 0))


def _route_view(route: CallRoute) -> RouteView:
    return make_view(RouteView, route)
