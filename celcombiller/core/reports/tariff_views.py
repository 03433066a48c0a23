"""Views of tariffs, their versions and rates, and of groups: what the API and the command show."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.model.tariffs import Service
from celcombiller.core.reports.views import make_view
from celcombiller.core.tariffs import versions
from celcombiller.core.tariffs.price_format import format_money, format_steps
from celcombiller.core.tariffs.rate_row import decode_steps
from celcombiller.core.tariffs.versions import VersionState

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.model.subscribers import Group
    from celcombiller.core.tariffs.rate_row import RateRow
    from celcombiller.core.tariffs.tariff_records import TariffRecord
    from celcombiller.core.tariffs.versions import VersionRecord


class TariffView(msgspec.Struct, kw_only=True):
    """A tariff: a price list of the ledger, and which of its versions counts."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    name: str
    currency: Annotated[str, Meta(description="how money is shown; it changes no price")]
    credits_per_unit: Annotated[int, Meta(description="the credits of one unit of the currency")]
    time_zone: Annotated[str, Meta(description="the zone of its times of the week and holidays")]
    is_default: Annotated[bool, Meta(description="whether it counts for who has none, and whose group has none")]
    version: Annotated[int, Meta(description="the number of the version in force; null: none is yet")] | None
    next_version: Annotated[int, Meta(description="the number of the next version that waits; null: none")] | None
    created_at: Annotated[datetime, Meta(tz=True, description="when it was made (RFC 3339, UTC)")]


class VersionView(msgspec.Struct, kw_only=True):
    """A version of a tariff. Its rates never change."""

    number: Annotated[int, Meta(description="the number of the version in its tariff")]
    state: Annotated[
        VersionState, Meta(description="waiting, in_force, past, or withdrawn (also: it was never finished)")
    ]
    effective_at: (
        Annotated[datetime, Meta(tz=True, description="from when on it counts (RFC 3339, UTC); null: it never does")]
        | None
    )
    holidays: Annotated[list[str], Meta(description="dates (ISO 8601) that are holidays to its times of the week")]
    created_at: Annotated[datetime, Meta(tz=True, description="when it was written (RFC 3339, UTC)")]
    created_by: Annotated[str, Meta(description="who wrote it")]
    note: str


class StepView(msgspec.Struct, kw_only=True):
    """From ``start`` units on, ``price`` credits buy ``per`` units, in whole increments."""

    start: Annotated[int, Meta(description="number of units before it")]
    increment: Annotated[int, Meta(description="number of units that are charged together")]
    price: Annotated[int, Meta(description="credits")]
    per: Annotated[int, Meta(description="number of units that the price buys")]


class TariffRateView(msgspec.Struct, kw_only=True):
    """The prices of a destination at some times, in credits. A unit is a second, a part of a message or an octet."""

    service: Annotated[Service, Meta(description="voice, sms or data")]
    prefix: Annotated[str, Meta(description="the first digits of the numbers; empty: all others")]
    on_net: Annotated[bool, Meta(description="whether it is for the subscribers of this biller")]
    name: Annotated[str, Meta(description="the destination")]
    window: Annotated[str, Meta(description="times of the week, such as mon-fri 08:00-18:00; empty: all others")]
    valid_from: Annotated[datetime, Meta(tz=True, description="not before (RFC 3339, UTC)")] | None
    valid_until: Annotated[datetime, Meta(tz=True, description="only before (RFC 3339, UTC)")] | None
    connect_fee: Annotated[int, Meta(description="credits, once")]
    minimum_charge: Annotated[int, Meta(description="credits: the least that a use costs")]
    grace: Annotated[int, Meta(description="number of units: a use of no more costs nothing")]
    steps: list[StepView]
    text: Annotated[str, Meta(description="the steps in words, in money where the tariff has a currency")]


class GroupView(msgspec.Struct, kw_only=True):
    """A group of subscribers, with a tariff and limits in common."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    name: str
    tariff_id: Annotated[int, Meta(description="the number of the tariff of members who have none of their own")] | None
    calls_max: Annotated[int, Meta(description="number of calls at once of all members together; null: any")] | None
    subscriber_calls_max: Annotated[int, Meta(description="number of calls at once of each member; null: any")] | None
    barred: Annotated[list[str], Meta(description="prefixes that members may not call")]
    allowed: Annotated[list[str], Meta(description="prefixes that members may call; none: all that are not barred")]
    call_seconds_max: Annotated[int, Meta(description="the longest call, in seconds; null: no limit")] | None
    call_cost_max: Annotated[int, Meta(description="the dearest call, in credits; null: no limit")] | None
    members: Annotated[int, Meta(description="number of its subscribers")]


def view_tariff(tx: Connection, tariff: TariffRecord, now: datetime) -> TariffView:
    """Return the view of a tariff."""
    in_force = versions.find_version_at(tx, tariff.id, now)
    waiting = versions.find_next_version(tx, tariff.id, now)
    return make_view(
        TariffView,
        tariff,
        version=None if in_force is None else in_force.number,
        next_version=None if waiting is None else waiting.number,
    )


def view_version(version: VersionRecord, in_force: VersionRecord | None, now: datetime) -> VersionView:
    """Return the view of a version, beside the one that is in force ``now``."""
    state = versions.state_of(version, in_force, now)
    return make_view(VersionView, version, state=state, holidays=version.holidays.split())


def view_rate(rate: RateRow, currency: str = "", credits_per_unit: int = 1) -> TariffRateView:
    """Return the view of a rate."""
    steps = decode_steps(rate.steps)
    text = format_steps(rate.service, steps, currency, credits_per_unit)
    if rate.connect_fee:
        fee = format_money(rate.connect_fee, currency, credits_per_unit) if currency else str(rate.connect_fee)
        text = f"{fee} + {text}"
    return make_view(TariffRateView, rate, steps=steps, text=text)


def view_group(group: Group, members: int) -> GroupView:
    """Return the view of a group."""
    return make_view(GroupView, group, members=members)
