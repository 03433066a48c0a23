"""``/api/v1/reports/days``: what was sold and used, by day or month."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.ledger.day_sums import count_uncounted
from celcombiller.core.model.day_sums import Direction, Movement
from celcombiller.core.reports import day_report
from celcombiller.core.reports.day_report import Heading, Period
from celcombiller.core.reports.views import AccountWord, make_view
from celcombiller.rest.v1.reports.spans import Day, SpanQuery, download, read_span, zone_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from celcombiller.core.reports.day_report import PeriodSums
    from celcombiller.http.route import Request

DAYS_MAX = {Period.DAY: 366, Period.MONTH: 3660}

Transfers = Annotated[int, Meta(description="number of transfers")]
Credits = Annotated[int, Meta(description="their credits")]
Kind = Annotated[
    Movement,
    Meta(description="the origin of the transfers; `operator`: credited by hand, under any other word"),
]
Way = Annotated[Direction, Meta(description="in: to subscribers; out: from subscribers; between: from one to another")]


class DayMovementView(msgspec.Struct, kw_only=True):
    """The transfers of one kind."""

    movement: Kind
    direction: Way
    transfers: Transfers
    credits: Credits


class DayView(msgspec.Struct, kw_only=True):
    """What moved on accounts of one kind in a day or a month, in credits."""

    day: Annotated[Day, Meta(description="the day, or the first day of the month, in the operator's time zone")]
    account: AccountWord
    sold: Annotated[int, Meta(description="credits that came in: sold, paid, or given by hand or by a schedule")]
    calls: Annotated[int, Meta(description="credits that calls took")]
    messages: Annotated[int, Meta(description="credits that text messages took")]
    data: Annotated[int, Meta(description="credits that data took")]
    plans: Annotated[int, Meta(description="credits that offers took")]
    fees: Annotated[int, Meta(description="credits that fees took")]
    used: Annotated[int, Meta(description="credits: calls, messages, data, plans and fees together")]
    expired: Annotated[int, Meta(description="credits whose time was over")]
    given_back: Annotated[int, Meta(description="credits that came back to subscribers")]
    taken_back: Annotated[int, Meta(description="credits that were taken back, or otherwise from subscribers")]
    movements: list[DayMovementView]


class DayReport(msgspec.Struct, kw_only=True):
    """Sums by day or month, by kind of account."""

    items: list[DayView]
    uncounted: Annotated[int, Meta(description="number of the newest transfers that are not in the sums yet, about")]


class DayQuery(SpanQuery, kw_only=True, forbid_unknown_fields=True):
    """A span of at most 366 days, or 3660 by month; without one the last 30 days."""

    by: Annotated[Period, Meta(description="day or month: what one item is of")] = Period.DAY
    account: AccountWord | None = None


def show(tx: Connection, request: Request) -> DayReport:
    """Show what was sold and used by day or month, from sums that are a few seconds old."""
    items = [
        make_view(DayView, each, **{heading.value: each.total(heading) for heading in Heading})
        for each in _read(tx, request)
    ]
    return DayReport(items=items, uncounted=count_uncounted(tx, zone_of(request)))


def _read(tx: Connection, request: Request) -> list[PeriodSums]:
    query: DayQuery = request.query
    first, until = read_span(request, DAYS_MAX[query.by])
    return day_report.sum_up(tx, first, until, by=query.by, account=query.account)


COLUMNS = ("day", "account", "heading", *DayMovementView.__struct_fields__)


def _lines(tx: Connection, request: Request) -> Iterator[tuple[object, ...]]:
    for each in _read(tx, request):
        for sums in each.movements:
            yield each.day, each.account, sums.heading or "", *astuple(sums)


download_days = download("days", COLUMNS, _lines)
