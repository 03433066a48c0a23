"""``/api/v1/calls``: calls, as a list and as a CSV file."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, cast
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.accounts import HoldState
from celcombiller.core.model.calls import CallState, Witness
from celcombiller.core.reports import history
from celcombiller.core.reports.explanation.call_explanation import explain_call
from celcombiller.core.reports.history import CallCriteria, RecordedCall
from celcombiller.core.reports.views import make_view
from celcombiller.http.pagination import Cursor, Limit, Page, Place, Since, Until, decode_cursor, make_page
from celcombiller.http.route import Response
from celcombiller.http.transport.streaming import CSV_TYPE, format_csv, send
from celcombiller.rest.v1.subscribers import Payer, visible_subscriber

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.calls import Call
    from celcombiller.core.reports.explanation.call_views import CallExplanation
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

PIECE_ROWS = 500
"""Rows of a file that are read at once, in some milliseconds of a reader's thread."""


class RateView(msgspec.Struct, kw_only=True):
    """The price of calls to numbers with a prefix. The longest prefix of a number counts."""

    prefix: Annotated[str, Meta(description="digits that a number begins with; empty: every number")]
    name: str
    connect_fee: Annotated[int, Meta(description="credits, once, for an answered call")]
    price: Annotated[int, Meta(description="credits for each increment that is begun")]
    increment_seconds: Annotated[int, Meta(description="seconds of one increment")]


class CallView(msgspec.Struct, kw_only=True):
    """One billed leg of a call."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    reference: Annotated[str, Meta(description="the id of its hold and of its charge in the ledger")]
    server: Annotated[str, Meta(description="the Asterisk server of the call")]
    uniqueid: Annotated[str, Meta(description="Asterisk's id of the caller's channel")]
    leg: Annotated[int, Meta(description="which dial of that channel, counted from 0")]
    username: Annotated[str, Meta(description="the caller, who pays")]
    name: Annotated[str, Meta(description="the subscriber's name")]
    from_number: Annotated[str, Meta(description="the number of the caller: digits")]
    to_number: Annotated[str, Meta(description="the number that was called")]
    rate: RateView
    granted_seconds: Annotated[int, Meta(description="seconds of talk that were granted")]
    started_at: Annotated[datetime, Meta(tz=True, description="when it was authorized (RFC 3339, UTC)")]
    state: Annotated[
        CallState,
        Meta(
            description="open; then settled (answered), released (not answered) or expired (its end was never reported)"
        ),
    ]
    answered_at: Annotated[datetime, Meta(tz=True, description="when the callee answered (RFC 3339, UTC)")] | None
    ended_at: Annotated[datetime, Meta(tz=True, description="when the talk was over (RFC 3339, UTC)")] | None
    talk_ms: Annotated[int, Meta(description="milliseconds of talk")] | None
    cost: Annotated[int, Meta(description="credits charged")] | None
    witness: Annotated[Witness, Meta(description="who reported its end first")] | None
    outcome: Annotated[str, Meta(description="Asterisk's DIALSTATUS, or the word that stands for it")]
    note: str
    tariff_version_id: (
        Annotated[int, Meta(description="the number of the version of the tariff that priced it; null: the settings")]
        | None
    )
    trunk: Annotated[str, Meta(description="the trunk that it went by, the last one tried; shown to staff")] | None
    trunks_tried: Annotated[list[str], Meta(description="the trunks that failed before it; shown to staff")]
    trunk_cost: (
        Annotated[int, Meta(description="credits that the trunk's provider charges; null: not known; shown to staff")]
        | None
    )
    margin: Annotated[int, Meta(description="credits: cost less trunk_cost; null: not known; shown to staff")] | None


class CallHold(msgspec.Struct, kw_only=True):
    """The credit that was set aside for the call."""

    amount: Annotated[int, Meta(description="credits")]
    state: HoldState
    opened_at: Annotated[datetime, Meta(tz=True, description="since when (RFC 3339, UTC)")]
    expires_at: Annotated[datetime, Meta(tz=True, description="until when at most (RFC 3339, UTC)")]
    ended_at: Annotated[datetime, Meta(tz=True, description="when it ended (RFC 3339, UTC)")] | None


class WitnessReportView(msgspec.Struct, kw_only=True):
    """The report of one witness of the call's end."""

    witness: Witness
    at: Annotated[datetime, Meta(tz=True, description="when it reported (RFC 3339, UTC)")]
    answered: bool
    talk_ms: Annotated[int, Meta(description="milliseconds of talk, by its report")] | None
    outcome: str
    difference_ms: (
        Annotated[int, Meta(description="milliseconds more than were charged for; null: it was first")] | None
    )
    discrepancy: Annotated[bool, Meta(description="whether it differs by more than a second")]
    note: str


class CallWhole(CallView, kw_only=True):
    """A call with its hold, its charge and the reports of its end."""

    hold: CallHold | None
    transfer_id: (
        Annotated[int, Meta(description="the number of the transfer that charged it; null: it cost nothing")] | None
    )
    testimonies: list[WitnessReportView]


class CallFilter(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of calls: those that match all given fields."""

    since: Since | None = None
    until: Until | None = None
    username: Payer | None = None
    state: Annotated[CallState, Meta(description="open, settled, released or expired")] | None = None
    server: (
        Annotated[str, Meta(pattern=r"^[^\x00]{0,64}$", description="at most 64 characters: an Asterisk server's name")]
        | None
    ) = None
    number: (
        Annotated[
            str,
            Meta(
                pattern=r"^[^\x00]{0,64}$",
                description="a caller's or called number, whole; with it give username or since",
            ),
        ]
        | None
    ) = None


class CallQuery(CallFilter, kw_only=True, forbid_unknown_fields=True):
    """A filter of calls, and the size of a page."""

    limit: Limit = 50
    cursor: Cursor | None = None


def list_all(tx: Connection, request: Request) -> Page[CallView]:
    """List calls, newest first."""
    query: CallQuery = request.query
    after = decode_cursor(query.cursor, Place)
    rows = history.list_calls(tx, _criteria(tx, request, query), limit=query.limit + 1, after=after)
    trunks = _trunks_shown(tx, request, rows)
    return make_page(rows, query.limit, _place, lambda each: _to_view(each, trunks))


def show(tx: Connection, request: Request) -> CallWhole:
    """Show one call, with its hold and the reports of its end."""
    found = history.find_call(tx, request.path["id"])
    call = found.call
    request.check_own(call.subscriber_id)
    charge = history.find_transfer_by_reference(tx, call.reference)
    return make_view(
        CallWhole,
        call,
        id=found.id,
        username=found.username,
        name=found.name,
        **_by_trunk(call, _trunks_shown(tx, request, [found])),
        hold=history.find_hold(tx, call.reference),
        transfer_id=None if charge is None else charge.line.id,
        testimonies=history.list_witness_reports(tx, call.reference),
    )


def explain(tx: Connection, request: Request) -> CallExplanation:
    """Say why a call cost what it cost: prices, pieces, rounding, holds, balances and witnesses, in data and words."""
    found = history.find_call(tx, request.path["id"])
    request.check_own(found.call.subscriber_id)
    zone = ZoneInfo(request.config.schedules.zone)
    return explain_call(tx, found, zone, with_trunks=request.only_subscriber_id is None)


async def download(api: Api, http_request: HttpRequest, request: Request) -> Response | None:
    """Download calls as CSV, newest first, without pages."""
    request.check_export()
    headers = {"Content-Type": CSV_TYPE, "Content-Disposition": 'attachment; filename="calls.csv"'}
    if http_request.method == b"HEAD":
        return Response(headers=headers)

    def piece(tx: Connection, after: history.Place | None) -> tuple[bytes, history.Place | None]:
        admitted = api.readmit(tx, request)
        criteria = _criteria(tx, admitted, request.query)
        rows = history.list_calls(tx, criteria, limit=PIECE_ROWS, after=after)
        trunks = _trunks_shown(tx, admitted, rows)
        lines = [_cells(each, trunks) for each in rows]
        text = format_csv(lines if after is not None else [COLUMNS, *lines])
        return text, None if len(rows) < PIECE_ROWS else _place(rows[-1])

    await send(http_request, api.reader, headers, piece)
    return None


_OF_RATE = {"prefix": "rate_prefix", "name": "rate_name"}
_BY_TRUNK = ("trunk", "trunks_tried", "trunk_cost", "margin")
_LATER = ("name", *_BY_TRUNK, "tariff_version_id")
_FIELDS = (*(name for name in CallView.__struct_fields__ if name not in _LATER), *_LATER)
"""The fields of a call in a file; the last came later, so that those before kept their columns."""
COLUMNS = tuple(
    column
    for name in _FIELDS
    for column in ([_OF_RATE.get(each, each) for each in RateView.__struct_fields__] if name == "rate" else [name])
)
"""The first line of the file: the fields of a call, with those of its rate."""


def _criteria(tx: Connection, request: Request, query: CallFilter) -> CallCriteria:
    """Return the criteria of a filter.

    Numbers have no index, so a search for one must be limited to a subscriber or a time. Raises `InvalidValue` if it
    is not.
    """
    who = visible_subscriber(tx, request, query.username)
    if query.number is not None and who is None and query.since is None:
        raise InvalidValue("number: give username or since with it", {"number": "needs username or since with it"})
    return CallCriteria(
        subscriber_id=None if who is None else who.id,
        since=query.since,
        until=query.until,
        state=query.state,
        server=query.server,
        number=query.number,
    )


def _place(each: RecordedCall) -> tuple[datetime, int]:
    return each.call.started_at, each.id


def _trunks_shown(tx: Connection, request: Request, rows: Sequence[RecordedCall]) -> Mapping[int, str] | None:
    """Return the names of the trunks of calls, by id; ``None`` for who may not see what calls cost the operator."""
    return history.find_trunk_names(tx, [each.call for each in rows]) if request.only_subscriber_id is None else None


def _by_trunk(call: Call, trunks: Mapping[int, str] | None) -> dict[str, object]:
    """Return the facts of a call's trunk."""
    if trunks is None:
        return {"trunk": None, "trunks_tried": [], "trunk_cost": None, "margin": None}
    return {
        "trunk": None if call.trunk_id is None else trunks[call.trunk_id],
        "trunks_tried": [trunks[each] for each in call.trunks_tried],
        "trunk_cost": call.trunk_cost,
        "margin": call.margin,
    }


def _to_view(each: RecordedCall, trunks: Mapping[int, str] | None) -> CallView:
    facts = _by_trunk(each.call, trunks)
    return make_view(CallView, each.call, id=each.id, username=each.username, name=each.name, **facts)


def _cells(each: RecordedCall, trunks: Mapping[int, str] | None) -> list[object]:
    """Return a call as the cells of a line, in the order of `COLUMNS`."""
    call = each.call
    cells: list[object] = []
    by_trunk = _by_trunk(call, trunks)
    by_trunk["trunks_tried"] = " ".join(cast("list[str]", by_trunk["trunks_tried"]))
    for name in _FIELDS:
        if name == "rate":
            cells += (getattr(call.rate, field) for field in RateView.__struct_fields__)
        elif name in ("id", "username", "name"):
            cells.append(getattr(each, name))
        elif name in by_trunk:
            cells.append(by_trunk[name])
        else:
            value = getattr(call, name)
            cells.append(f"{value:%Y-%m-%dT%H:%M:%S.%fZ}" if isinstance(value, datetime) else value)
    return cells
