"""``/api/v1/fees``: what subscribers owe for the periods of schedules that take a fee."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.access.changes import schedule_changes
from celcombiller.core.access.changes.schedule_changes import NOTE_CHARACTERS_MAX
from celcombiller.core.model.schedules import FeeState, WhenShort
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.reports.views import make_view
from celcombiller.core.schedules import fee_periods, schedule_records
from celcombiller.core.schedules.fee_periods import ListedFee
from celcombiller.core.subscribers import subscriber_records
from celcombiller.http.pagination import Cursor, Limit, Page, RowId, decode_cursor, make_page
from celcombiller.rest.v1.schedules import RunView, to_run_view
from celcombiller.rest.v1.subscribers import Sought, visible_subscriber

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.model.schedules import FeePeriod
    from celcombiller.http.route import Request

_ID_MAX = 2**63 - 1

ScheduleId = Annotated[int, Meta(ge=1, le=_ID_MAX, description=f"the number of a schedule, from 1 to {_ID_MAX}")]
Reason = Annotated[
    str,
    Meta(
        pattern=rf"^[^{UNPRINTABLE}]{{0,{NOTE_CHARACTERS_MAX}}}$(?!\n)",
        description=f"why: up to {NOTE_CHARACTERS_MAX} characters on one line",
    ),
]


class FeeView(msgspec.Struct, kw_only=True):
    """The fee of one subscriber for the period that begins on one due date."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    schedule_id: Annotated[int, Meta(description="the number of its schedule")]
    schedule: Annotated[str, Meta(description="the name of its schedule")]
    username: Annotated[str, Meta(description="who pays")]
    due_on: Annotated[date, Meta(description="the due date with which the period begins")]
    state: Annotated[
        FeeState,
        Meta(
            description="owed, paid, waived, passed (they were disabled), cancelled (they left), or undone with its run"
        ),
    ]
    amount: Annotated[int, Meta(description="voice credits")]
    paid: Annotated[int, Meta(description="credits of it that were taken")]
    left: Annotated[int, Meta(description="credits of it that are owed now")]
    when_short: Annotated[WhenShort, Meta(description="where the balance is too low: retry, part or wait")]
    due_at: Annotated[datetime, Meta(tz=True, description="since when it is owed (RFC 3339, UTC)")]
    ends_at: (
        Annotated[datetime, Meta(tz=True, description="when what it buys ends (RFC 3339, UTC); null: as the offer")]
        | None
    )
    suspend_at: (
        Annotated[datetime, Meta(tz=True, description="when it suspends, if it is unpaid (RFC 3339, UTC)")] | None
    )
    suspended_at: (
        Annotated[datetime, Meta(tz=True, description="when it suspended the subscriber (RFC 3339, UTC)")] | None
    )
    closed_at: Annotated[datetime, Meta(tz=True, description="when it was paid, or ended (RFC 3339, UTC)")] | None
    bundle_reference: Annotated[str, Meta(description="the reference of the bundle that it bought")] | None
    note: str


class FeeQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of fees: those that match all given fields."""

    username: Sought | None = None
    schedule_id: ScheduleId | None = None
    state: FeeState | None = None
    overdue: Annotated[bool, Meta(description="true: those owed for longer than their schedule allows")] = False
    limit: Limit = 50
    cursor: Cursor | None = None


class FeeReason(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The reason for a waiver, or for undoing a run."""

    note: Reason = ""


def list_all(tx: Connection, request: Request) -> Page[FeeView]:
    """List fees, newest first; subscribers see their own."""
    query: FeeQuery = request.query
    who = visible_subscriber(tx, request, query.username)
    rows = fee_periods.list_all(
        tx,
        schedule_id=query.schedule_id,
        subscriber_id=None if who is None else who.id,
        state=query.state,
        overdue_at=request.now if query.overdue else None,
        before_id=decode_cursor(query.cursor, RowId),
        limit=query.limit + 1,
    )
    return make_page(rows, query.limit, lambda each: each.period.id, _to_view)


def show(tx: Connection, request: Request) -> FeeView:
    """Show one fee."""
    found = fee_periods.find(tx, request.path["id"])
    request.check_own(found.subscriber_id)
    return _view(tx, found)


def pay(tx: Connection, request: Request) -> FeeView:
    """Take what is owed of a fee now; subscribers pay their own."""
    found = fee_periods.find(tx, request.path["id"])
    request.check_own(found.subscriber_id)
    return _view(tx, schedule_changes.pay_fee(tx, request.actor, found.id, request.now))


def waive(tx: Connection, request: Request) -> FeeView:
    """Waive a fee: nothing is owed of it, what was paid is given back, and what it buys is given."""
    body: FeeReason = request.body
    return _view(tx, schedule_changes.waive_fee(tx, request.actor, request.path["id"], note=body.note, now=request.now))


def undo_run(tx: Connection, request: Request) -> RunView:
    """Undo a run that takes a fee: within a minute all that it took is given back, and what it bought ends."""
    body: FeeReason = request.body
    return to_run_view(
        schedule_changes.undo_run(tx, request.actor, request.path["id"], note=body.note, now=request.now)
    )


def _view(tx: Connection, period: FeePeriod) -> FeeView:
    who = subscriber_records.usernames_of(tx, [period.subscriber_id])[period.subscriber_id]
    return _to_view(ListedFee(who, schedule_records.name_of(tx, period.schedule_id), period))


def _to_view(listed: ListedFee) -> FeeView:
    return make_view(FeeView, listed.period, username=listed.username, schedule=listed.schedule)
