"""``/api/v1/cdr-differences``: how Asterisk's call detail records differ from the ledger, as it was found."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.reconciliation.difference_records import DifferenceState, list_differences
from celcombiller.core.reconciliation.differences import DifferenceKind
from celcombiller.http.pagination import Cursor, Limit, Page, RowId, decode_cursor, make_page

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.reconciliation.difference_records import RecordedDifference
    from celcombiller.http.route import Request


class CdrDifferenceView(msgspec.Struct, kw_only=True):
    """One difference between the records of a channel and the ledger. It was found once, and stays as it was found."""

    id: Annotated[int, Meta(description="the number of its row; a later one is larger")]
    server: Annotated[str, Meta(description="the Asterisk that wrote the record")]
    uniqueid: Annotated[str, Meta(description="Asterisk's id of the channel")]
    kind: Annotated[
        DifferenceKind,
        Meta(
            description="`missing`: not in the ledger; `open`: open in the ledger, and over; `duration`: another"
            " duration; `no_cdr`: charged, without a record"
        ),
    ]
    started_at: Annotated[datetime, Meta(tz=True, description="when the call, or its talk, began (RFC 3339, UTC)")]
    source: Annotated[str, Meta(description="where the record stands: a file, or a database without its password")]
    row: Annotated[int | None, Meta(description="the number of its row there")]
    channel: str
    context: Annotated[str, Meta(description="the context of the dialplan")]
    from_number: str
    to_number: str
    cdr_ms: Annotated[int | None, Meta(description="milliseconds of talk by the records")]
    ledger_ms: Annotated[int | None, Meta(description="milliseconds of talk in the ledger; null: none is known")]
    reference: Annotated[str | None, Meta(description="the call in the ledger")]
    cost: Annotated[int | None, Meta(description="the credits of a settlement; not settled: what it would cost")]
    state: Annotated[
        DifferenceState,
        Meta(description="`found`: only reported; `settled` by the record; `refused`: cannot be charged"),
    ]
    refusal: Annotated[str, Meta(description="why it cannot be charged")]
    found_at: Annotated[datetime, Meta(tz=True, description="when it was found (RFC 3339, UTC)")]
    settled_at: Annotated[datetime, Meta(tz=True, description="when the record settled it (RFC 3339, UTC)")] | None


class CdrDifferenceQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of differences: those that match all given fields."""

    kind: DifferenceKind | None = None
    state: DifferenceState | None = None
    server: Annotated[str, Meta(pattern=r"^[^\x00]{0,64}$", description="at most 64 characters")] | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


def list_all(tx: Connection, request: Request) -> Page[CdrDifferenceView]:
    """List how Asterisk's call detail records differ from the ledger, newest first."""
    query: CdrDifferenceQuery = request.query
    rows = list_differences(
        tx,
        limit=query.limit + 1,
        before_id=decode_cursor(query.cursor, RowId),
        kind=query.kind,
        state=query.state,
        server=query.server,
    )
    return make_page(rows, query.limit, lambda each: each.id, _to_view)


def _to_view(each: RecordedDifference) -> CdrDifferenceView:
    return CdrDifferenceView(**dataclasses.asdict(each))
