"""``/api/v1/reports/sellers``, ``/destinations`` and ``/trunks``: who sold, and where calls went and what they left."""

from __future__ import annotations

from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from celcombiller.core.reports import use_report
from celcombiller.core.reports.use_report import DestinationCalls, SellerDay, TrunkCalls
from celcombiller.core.reports.views import make_view
from celcombiller.rest.v1.reports.spans import Day, SpanQuery, download, read_span, zone_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request, Served


class SellerDayView(msgspec.Struct, kw_only=True):
    """The sales of a seller on a day, without those that were undone since."""

    day: Day
    username: str
    name: str
    sales: Annotated[int, Meta(description="number of sales")]
    sold: Annotated[int, Meta(description="credits that were sold")]
    commission: Annotated[int, Meta(description="credits that the seller got for them")]
    undone: Annotated[int, Meta(description="number of sales of the day that were undone")]


class CallSumsView(msgspec.Struct, kw_only=True):
    """Calls that began in the span, as they were charged at their end."""

    calls: Annotated[int, Meta(description="number of calls")]
    answered: Annotated[int, Meta(description="number of those that were answered")]
    talk_seconds: Annotated[int, Meta(description="seconds of talk")]
    credits: Annotated[int, Meta(description="credits that they took of balances")]
    trunk_cost: Annotated[int, Meta(description="credits that the providers charge, where that is known")]
    margin: Annotated[int, Meta(description="credits less trunk_cost, of the calls of which it is known")]


class DestinationView(CallSumsView, kw_only=True):
    """The calls to the numbers of one prefix."""

    prefix: Annotated[str, Meta(description="the prefix of the price list that priced them")]
    destination: Annotated[str, Meta(description="its name")]


class TrunkCallsView(CallSumsView, kw_only=True):
    """The calls by one trunk."""

    trunk: Annotated[str, Meta(description="the trunk that they went by last; null: by none")] | None


class SellerReport(msgspec.Struct, kw_only=True):
    """Sales, by day and username."""

    items: list[SellerDayView]


class DestinationReport(msgspec.Struct, kw_only=True):
    """Calls by destination, those of most credits first."""

    items: list[DestinationView]


class TrunkReport(msgspec.Struct, kw_only=True):
    """Calls by trunk, those of most credits first."""

    items: list[TrunkCallsView]


Rows = Annotated[int, Meta(ge=1, le=500, description="number of destinations, from 1 to 500; the CSV file has all")]


class DestinationQuery(SpanQuery, kw_only=True, forbid_unknown_fields=True):
    """A span of days, of 92 at most, and how many destinations to show."""

    limit: Rows = 100


def show_sellers(tx: Connection, request: Request) -> SellerReport:
    """Show what each seller sold on each day."""
    return SellerReport(items=[make_view(SellerDayView, each) for each in _sellers(tx, request)])


def show_destinations(tx: Connection, request: Request) -> DestinationReport:
    """Show the calls to each destination, with what providers charge for them and what is left."""
    found = _destinations(tx, request)[: request.query.limit]
    return DestinationReport(items=[make_view(DestinationView, each) for each in found])


def show_trunks(tx: Connection, request: Request) -> TrunkReport:
    """Show the calls by each trunk, with what its provider charges for them and what is left."""
    return TrunkReport(items=[make_view(TrunkCallsView, each) for each in _trunks(tx, request)])


def _sellers(tx: Connection, request: Request) -> list[SellerDay]:
    return use_report.sum_sales(tx, *read_span(request), zone_of(request))


def _destinations(tx: Connection, request: Request) -> list[DestinationCalls]:
    return use_report.sum_calls_by_destination(tx, *read_span(request), zone_of(request))


def _trunks(tx: Connection, request: Request) -> list[TrunkCalls]:
    return use_report.sum_calls_by_trunk(tx, *read_span(request), zone_of(request))


def _download(name: str, kind: type[Any], read: Callable[[Connection, Request], list[Any]]) -> Served:
    return download(name, [each.name for each in fields(kind)], lambda tx, request: map(astuple, read(tx, request)))


download_sellers = _download("sellers", SellerDay, _sellers)
download_destinations = _download("destinations", DestinationCalls, _destinations)
download_trunks = _download("trunks", TrunkCalls, _trunks)
