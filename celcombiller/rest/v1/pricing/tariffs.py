"""``/api/v1/tariffs``: price lists, their versions and their rates."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from celcombiller.core.access.changes import tariff_changes
from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.tariffs import Service, Step
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.reports.tariff_views import (
    TariffRateView,
    TariffView,
    VersionView,
    view_rate,
    view_tariff,
    view_version,
)
from celcombiller.core.tariffs import tariff_records, versions
from celcombiller.core.tariffs.rate_checks import AMOUNT_MAX, STEPS_MAX
from celcombiller.core.tariffs.rate_records import list_rates, place_of
from celcombiller.core.tariffs.rate_row import RateRow, encode_steps
from celcombiller.core.tariffs.tariff_records import CREDITS_PER_UNIT_MAX
from celcombiller.core.tariffs.versions import NewVersion, RateKey
from celcombiller.http.pagination import Cursor, Limit, Page, RowId, decode_cursor, make_page
from celcombiller.http.route import Response
from celcombiller.rest.v1.groups import LongName

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.tariffs.versions import VersionRecord
    from celcombiller.http.route import Request

Currency = Annotated[str, Meta(pattern=rf"^[^{UNPRINTABLE}0-9.,+-]{{0,16}}$(?!\n)", description="such as R$ or EUR")]
CreditsPerUnit = Annotated[
    int, Meta(ge=1, le=CREDITS_PER_UNIT_MAX, description="the credits of one unit of the currency")
]
Zone = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9_+/-]{1,64}$(?!\n)", description="a name of the IANA list, such as America/Sao_Paulo"),
]
Amount = Annotated[int, Meta(ge=0, le=AMOUNT_MAX, description=f"credits from 0 to {AMOUNT_MAX}")]
Start = Annotated[int, Meta(ge=0, le=AMOUNT_MAX, description=f"a number of units from 0 to {AMOUNT_MAX}")]
Units = Annotated[int, Meta(ge=1, le=AMOUNT_MAX, description=f"a number of units from 1 to {AMOUNT_MAX}")]
Prefix = Annotated[
    str, Meta(pattern=r"^\+?[0-9*#]{0,20}$(?!\n)", description="the first digits of numbers; empty: all others")
]
Destination = Annotated[
    str, Meta(pattern=rf"^[^{UNPRINTABLE}]{{0,200}}$(?!\n)", description="up to 200 characters on one line")
]
WindowText = Annotated[
    str,
    Meta(
        pattern=r"^[ -~]{0,100}$(?!\n)",
        description="times of the week, such as mon-fri 08:00-18:00 or sat,sun,holiday 00:00-24:00; empty: all others",
    ),
]
Moment = Annotated[datetime, Meta(tz=True, description="an RFC 3339 time with its zone")]
VersionNumber = Annotated[int, Meta(ge=1, le=2**31 - 1, description="the number of a version")]
Note = Annotated[
    str, Meta(pattern=rf"^[^{UNPRINTABLE}]{{0,200}}$(?!\n)", description="up to 200 characters on one line")
]
Searched = Annotated[str, Meta(pattern=r"^[^\x00]{0,64}$", description="at most 64 characters: a part of the name")]
RatePlaceKey = tuple[
    Annotated[str, Meta(pattern=r"^[a-z]{1,8}\Z")], Annotated[str, Meta(pattern=r"^[0-9*#]{0,20}\Z")], RowId
]


class NewTariff(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A tariff to make, without a version: it prices nothing yet."""

    name: LongName
    currency: Currency = ""
    credits_per_unit: CreditsPerUnit = 1
    time_zone: Zone | None = None


class TariffChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A change. Fields that are not named stay as they are. Of all tariffs, one or none is the default."""

    name: LongName | UnsetType = UNSET
    currency: Currency | UnsetType = UNSET
    credits_per_unit: CreditsPerUnit | UnsetType = UNSET
    time_zone: Zone | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET


class NewStep(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """From ``start`` units on, ``price`` credits buy ``per`` units, in whole increments."""

    start: Start = 0
    increment: Units = 1
    price: Amount
    per: Units = 1


class NewRate(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The prices of a destination at some times. Service, prefix, on_net, window and valid_from name the rate."""

    service: Service = Service.VOICE
    prefix: Prefix = ""
    on_net: bool = False
    name: Destination = ""
    window: WindowText = ""
    valid_from: Moment | None = None
    valid_until: Moment | None = None
    connect_fee: Amount = 0
    minimum_charge: Amount = 0
    grace: Start = 0
    steps: Annotated[list[NewStep], Meta(min_length=1, max_length=STEPS_MAX, description="in order of their start")]


class GoneRate(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A rate to take out."""

    service: Service = Service.VOICE
    prefix: Prefix = ""
    on_net: bool = False
    window: WindowText = ""
    valid_from: Moment | None = None


class VersionOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A version to write: the rates that it sets and takes out. All others stay, unless it is ``whole``."""

    rates: Annotated[list[NewRate], Meta(description="rates to add, or to change")] = []
    removed: Annotated[list[GoneRate], Meta(description="rates to take out")] = []
    whole: Annotated[bool, Meta(description="whether the rates are all that it has")] = False
    holidays: (
        Annotated[list[date], Meta(max_length=1000, description="dates; not named: as in the version before")]
        | UnsetType
    ) = UNSET
    effective_at: (
        Annotated[
            datetime, Meta(tz=True, description="from when on it counts: an RFC 3339 time with its zone; null: at once")
        ]
        | None
    ) = None
    note: Note = ""


class TariffQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The size of a page, and the cursor."""

    limit: Limit = 50
    cursor: Cursor | None = None


class RateQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of rates. Without a version and a time, those in force now."""

    version: VersionNumber | None = None
    at: Moment | None = None
    service: Service | None = None
    prefix: Prefix | None = None
    name: Searched | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


class VersionMade(msgspec.Struct, kw_only=True):
    """A version that was written, and how many rates it changes."""

    version: VersionView
    added: Annotated[int, Meta(description="number of rates added")]
    changed: Annotated[int, Meta(description="number of rates changed")]
    removed: Annotated[int, Meta(description="number of rates taken out")]


# -- tariffs ---------------------------------------------------------------------------------------------------------


def list_all(tx: Connection, request: Request) -> Page[TariffView]:
    """List tariffs, in the order in which they were made."""
    query: TariffQuery = request.query
    rows = tariff_records.list_all(tx, after_id=decode_cursor(query.cursor, RowId) or 0, limit=query.limit + 1)
    return make_page(rows, query.limit, lambda each: each.id, lambda each: view_tariff(tx, each, request.now))


def show(tx: Connection, request: Request) -> TariffView:
    """Show one tariff."""
    return view_tariff(tx, tariff_records.find_by_id(tx, request.path["id"]), request.now)


def add(tx: Connection, request: Request) -> Response:
    """Make a tariff. It prices something when it has a version, and is somebody's or the default."""
    body: NewTariff = request.body
    made = tariff_changes.add(
        tx,
        request.actor,
        name=body.name,
        currency=body.currency,
        credits_per_unit=body.credits_per_unit,
        time_zone=body.time_zone or request.config.schedules.zone,
        now=request.now,
    )
    where = f"{request.base_url}/api/v1/tariffs/{made.id}"
    return Response(view_tariff(tx, made, request.now), headers={"Location": where})


def change(tx: Connection, request: Request) -> TariffView:
    """Change a tariff, or make it the default. Prices change by a version."""
    body: TariffChange = request.body
    tariff = tariff_records.find_by_id(tx, request.path["id"])
    given: dict[str, Any] = {
        name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET
    }
    is_default = given.pop("is_default", tariff.is_default)
    if given:
        tariff_changes.change(tx, request.actor, tariff.id, given, request.now)
    if is_default != tariff.is_default:
        tariff_changes.set_default(tx, request.actor, tariff.id if is_default else None, request.now)
    return show(tx, request)


def delete(tx: Connection, request: Request) -> Response:
    """Delete a tariff that nothing uses. What was charged by it still names its versions."""
    tariff_changes.delete(tx, request.actor, request.path["id"], request.now)
    return Response()


# -- versions --------------------------------------------------------------------------------------------------------


def list_versions(tx: Connection, request: Request) -> Page[VersionView]:
    """List the versions of a tariff, newest first."""
    query: TariffQuery = request.query
    tariff = tariff_records.find_by_id(tx, request.path["id"])
    in_force = versions.find_version_at(tx, tariff.id, request.now)
    before = decode_cursor(query.cursor, RowId)
    rows = versions.list_versions(tx, tariff.id, before=before, limit=query.limit + 1)
    return make_page(
        rows, query.limit, lambda each: each.number, lambda each: view_version(each, in_force, request.now)
    )


def show_version(tx: Connection, request: Request) -> VersionView:
    """Show one version of a tariff."""
    tariff = tariff_records.find_by_id(tx, request.path["id"])
    version = versions.find_version(tx, tariff.id, request.path["number"])
    return view_version(version, versions.find_version_at(tx, tariff.id, request.now), request.now)


def add_version(tx: Connection, request: Request) -> Response:
    """Write a version. It takes effect at its time on all nodes at once; calls keep the rates that they began with."""
    body: VersionOrder = request.body
    tariff = tariff_records.find_by_id(tx, request.path["id"])
    new = NewVersion(
        rates=[
            RateRow(
                each.service,
                each.prefix,
                each.on_net,
                each.name,
                each.window,
                each.valid_from,
                each.valid_until,
                each.connect_fee,
                each.minimum_charge,
                each.grace,
                encode_steps(tuple(Step(step.start, step.increment, step.price, step.per) for step in each.steps)),
            )
            for each in body.rates
        ],
        removed=[
            RateKey(each.service, each.prefix.removeprefix("+"), each.on_net, each.window, each.valid_from)
            for each in body.removed
        ],
        whole=body.whole,
        holidays=None if body.holidays is UNSET else frozenset(body.holidays),
        effective_at=body.effective_at,
        author=request.actor.name,
        note=body.note,
    )
    # Now, and not when the request came: it may have waited, and all nodes need the time until the switch.
    written = tariff_changes.write_version(tx, request.actor, tariff.id, new, datetime.now(UTC))
    if written.version is None:
        raise InvalidValue("nothing to change: the tariff has just these rates", {"rates": "are those it has"})
    changes, version = written.changes, written.version
    where = f"{request.base_url}/api/v1/tariffs/{tariff.id}/versions/{version.number}"
    made = VersionMade(
        version=view_version(version, None, request.now),
        added=len(changes.added),
        changed=len(changes.changed),
        removed=len(changes.removed),
    )
    return Response(made, headers={"Location": where})


def withdraw(tx: Connection, request: Request) -> Response:
    """Withdraw a version that waits for its time. It stays in the list, and never takes effect."""
    tariff_changes.withdraw(tx, request.actor, request.path["id"], request.path["number"], request.now)
    return Response()


def list_tariff_rates(tx: Connection, request: Request) -> Page[TariffRateView]:
    """List the rates of a version, by service and prefix. By default, of the version in force now."""
    query: RateQuery = request.query
    tariff = tariff_records.find_by_id(tx, request.path["id"])
    version = _find_wanted(tx, tariff.id, query, request.now)
    after = decode_cursor(query.cursor, RatePlaceKey)
    rows = [] if version is None else list_rates(
        tx,
        tariff.id,
        version.number,
        after=after,
        limit=query.limit + 1,
        service=query.service,
        prefix=query.prefix and query.prefix.removeprefix("+"),
        text=query.name,
    )  # fmt: skip
    return make_page(
        rows, query.limit, place_of, lambda each: view_rate(each.row, tariff.currency, tariff.credits_per_unit)
    )


def _find_wanted(tx: Connection, tariff_id: int, query: RateQuery, now: datetime) -> VersionRecord | None:
    if query.version is not None:
        if query.at is not None:
            raise InvalidValue("name a version or a time, not both", {"at": "is not for a version by number"})
        return versions.find_version(tx, tariff_id, query.version)
    return versions.find_version_at(tx, tariff_id, query.at or now)
