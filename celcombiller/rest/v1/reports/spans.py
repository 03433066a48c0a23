"""The days of a report, and its download."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.day_sums import day_of
from celcombiller.http.route import Response
from celcombiller.http.transport.streaming import CSV_TYPE, format_csv, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request, Served
    from celcombiller.http.transport.http_request import HttpRequest

DAYS_MAX = 92
"""Most days of a report that reads the rows themselves."""

DAYS_SHOWN = 30

_DAY = timedelta(days=1)
_FIRST, _LAST = date(1970, 1, 1), date(9999, 1, 1)

From = Annotated[date, Meta(description="the first day, such as 2026-11-01; without it: 30 days")]
Before = Annotated[date, Meta(description="the day before which it ends; without it: today is the last day")]
Day = Annotated[date, Meta(description="the day, in the operator's time zone (`[schedules] time_zone`)")]


class SpanQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A span of days, of 92 at most; without one the last 30 days."""

    from_: From | None = msgspec.field(default=None, name="from")
    until: Before | None = None


def zone_of(request: Request) -> ZoneInfo:
    """Return the operator's time zone."""
    return ZoneInfo(request.config.schedules.zone)


def read_span(request: Request, days_max: int = DAYS_MAX) -> tuple[date, date]:
    """Return the first day, and the one before which the span ends. Raises `InvalidValue`."""
    asked: SpanQuery = request.query
    until = asked.until or day_of(request.now, zone_of(request)) + _DAY
    first = asked.from_ or max(_FIRST, min(until, _LAST) - DAYS_SHOWN * _DAY)
    if not (_FIRST <= first < until <= _LAST and (until - first).days <= days_max):
        what = f"must be before until, by at most {days_max} days"
        raise InvalidValue(f"from: {what}", {"from": what})
    return first, until


def download(name: str, columns: Sequence[str], read: Callable[[Connection, Request], Iterable[Any]]) -> Served:
    """Return what sends the rows of a report as CSV."""
    headers = {"Content-Type": CSV_TYPE, "Content-Disposition": f'attachment; filename="{name}.csv"'}

    async def serve(api: Api, http_request: HttpRequest, request: Request) -> Response | None:
        """Download a report as CSV."""
        request.check_export()
        if http_request.method == b"HEAD":
            return Response(headers=headers)

        def piece(tx: Connection, after: None) -> tuple[bytes, None]:
            return format_csv([columns, *read(tx, api.readmit(tx, request))]), after

        await send(http_request, api.reader, headers, piece)
        return None

    serve.__name__ = f"download_{name}"
    return serve
