"""``/api/v1/schedules``: recurring credit for groups, its runs and its forecast."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from celcombiller.core.access.changes import schedule_changes
from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.schedules import (
    CatchUp,
    CreditOutcome,
    Joining,
    Recurrence,
    RunState,
    ScheduleKind,
    WhenShort,
)
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.reports.views import make_view
from celcombiller.core.schedules import forecast, runs, schedule_records
from celcombiller.core.schedules.due_dates import last_come, next_due_date
from celcombiller.core.schedules.fee_terms import DAYS_MAX, REMINDERS_MAX, parse_days
from celcombiller.core.schedules.schedule_records import COUNT_MAX, INTERVAL_DAYS_MAX
from celcombiller.http.pagination import Cursor, Limit, Page, RowId, decode_cursor, make_page
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.model.schedules import Run, Schedule
    from celcombiller.http.route import Request

ScheduleName = Annotated[
    str, Meta(pattern=rf"^[^{UNPRINTABLE}]{{1,200}}$(?!\n)", description="1 to 200 characters on one line")
]
Kinds = Annotated[
    Literal["voice", "data", "both", "sms"], Meta(description="voice, data, both (the value of each) or sms")
]
KindsGiven = Annotated[
    Literal["voice", "data", "both", "sms", "bundle", "fee"],
    Meta(
        description="voice, data, both (the value of each), sms, bundle: one of the offer, or fee: it takes the value"
    ),
]
OfferId = Annotated[
    int,
    Meta(ge=1, le=2**63 - 1, description=f"the number of an offer, from 1 to {2**63 - 1}: each gets a bundle of it"),
]
Value = Annotated[
    int, Meta(ge=0, le=AMOUNT_MAX, description=f"credits from 0 to {AMOUNT_MAX}: to each member on each due date")
]
Rhythm = Annotated[Recurrence, Meta(description="monthly, weekly, days (every interval_days) or once")]
Day = Annotated[
    int,
    Meta(
        ge=1,
        le=31,
        description="a day number of: the month (1 to 31; its last, where it is shorter) or week (1 is Monday)",
    ),
]
Step = Annotated[
    int, Meta(ge=1, le=INTERVAL_DAYS_MAX, description=f"days from one due date to the next, 1 to {INTERVAL_DAYS_MAX}")
]
Count = Annotated[int, Meta(ge=0, le=COUNT_MAX, description=f"a number of runs from 0 to {COUNT_MAX}")]
Zone = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9_+/-]{1,64}$(?!\n)", description="a name of the IANA list, such as America/Sao_Paulo"),
]
CatchUpWord = Annotated[CatchUp, Meta(description="which missed dates are caught up: all, last or none")]
Date = Annotated[date, Meta(description="a date such as 2026-12-01, in the schedule's zone")]

Short = Annotated[
    WhenShort,
    Meta(description="a fee that the balance does not pay: retry (until it does), part (take what there is), wait"),
]
JoiningRule = Annotated[
    Joining, Meta(description="who joins between two due dates pays: whole, days (those left), next (nothing yet)")
]
RemindDays = Annotated[
    list[Annotated[int, Meta(ge=0, le=DAYS_MAX, description=f"a number of days from 0 to {DAYS_MAX}")]],
    Meta(max_length=REMINDERS_MAX, description="the days before a due date on which members are reminded; 0: on it"),
]
SuspendDays = Annotated[
    int, Meta(ge=0, le=DAYS_MAX, description=f"a number of unpaid days from 0 to {DAYS_MAX}, then they are suspended")
]

DUE_MEMBERS = 50
"""Members that a forecast names at most; its numbers count all members."""

UNCREDITED_MAX = 500
"""Uncredited members that a run names at most."""


class FeeTerms(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The terms of a fee: the schedule takes its value, and a paid fee buys its offer until the next due date."""

    when_short: Short = WhenShort.RETRY
    joining: JoiningRule = Joining.NEXT
    remind_days: RemindDays = []
    suspend_days: SuspendDays | None = None


class ScheduleView(msgspec.Struct, kw_only=True):
    """A schedule: the credit of its members, and when it is due."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    name: str
    kind: KindsGiven
    value: Annotated[
        int, Meta(description="credits: to each member on each due date; of an offer, what a bundle holds")
    ]
    offer_id: Annotated[int, Meta(description="the number of the offer that it gives a bundle of; null: none")] | None
    recurrence: Rhythm
    day: Annotated[int, Meta(description="day number of the month, or of the week (1 is Monday)")] | None
    interval_days: Annotated[int, Meta(description="days from one due date to the next")] | None
    first_on: Annotated[date, Meta(description="the first date on which it can be due")]
    next_on: Annotated[date, Meta(description="the next due date; null: there is none")] | None
    count: Annotated[int, Meta(description="number of runs of a new member")]
    time_zone: Annotated[str, Meta(description="the zone of its dates")]
    catch_up: CatchUpWord
    enabled: Annotated[bool, Meta(description="whether its due dates are credited")]
    created_at: Annotated[datetime, Meta(tz=True, description="when it was made (RFC 3339, UTC)")]
    fee: Annotated[FeeTerms, Meta(description="the terms of a fee; null: it gives")] | None


class NewSchedule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A schedule to make, without members."""

    name: ScheduleName
    kind: Kinds = "voice"
    value: Value | None = None
    offer_id: OfferId | None = None
    recurrence: Rhythm = Recurrence.MONTHLY
    day: Day | None = None
    interval_days: Step | None = None
    first_on: Date | None = None
    count: Annotated[int, Meta(ge=0, le=COUNT_MAX, description="number of runs; 1, of a fee without end")] | None = None
    time_zone: Zone | None = None
    catch_up: CatchUpWord = CatchUp.ALL
    fee: Annotated[FeeTerms, Meta(description="it takes its value, by these terms")] | None = None


class ScheduleChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A change. Fields that are not named stay as they are; a new recurrence needs its own day or interval."""

    name: ScheduleName | UnsetType = UNSET
    kind: Kinds | UnsetType = UNSET
    value: Value | UnsetType = UNSET
    offer_id: OfferId | UnsetType = UNSET
    recurrence: Rhythm | UnsetType = UNSET
    day: Day | UnsetType | None = UNSET
    interval_days: Step | UnsetType | None = UNSET
    first_on: Date | UnsetType = UNSET
    count: Count | UnsetType = UNSET
    time_zone: Zone | UnsetType = UNSET
    catch_up: CatchUpWord | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    fee: FeeTerms | UnsetType = UNSET


class PageQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The size of a page, and the cursor."""

    limit: Limit = 50
    cursor: Cursor | None = None


class RunView(msgspec.Struct, kw_only=True):
    """A run: one due date of a schedule, with its value and the number of members credited."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    schedule_id: Annotated[int, Meta(description="the number of its schedule")]
    due_on: Annotated[date, Meta(description="the due date")]
    kind: KindsGiven
    value: Annotated[int, Meta(description="credits to each member; of an offer, what a bundle holds")]
    offer_id: Annotated[int, Meta(description="the number of the offer that it gave a bundle of; null: none")] | None
    state: Annotated[RunState, Meta(description="open (being credited), done or skipped")]
    opened_at: Annotated[datetime, Meta(tz=True, description="when it began (RFC 3339, UTC)")]
    closed_at: Annotated[datetime, Meta(tz=True, description="when it ended (RFC 3339, UTC)")] | None
    credited: Annotated[int, Meta(description="number of members credited")]
    passed: Annotated[int, Meta(description="number of members passed over, because they are disabled")]
    failed: Annotated[int, Meta(description="number of members who could not be credited")]
    undone_at: Annotated[datetime, Meta(tz=True, description="since when it is undone (RFC 3339, UTC)")] | None
    note: str


class UncreditedView(msgspec.Struct, kw_only=True):
    """A member that a run did not credit."""

    username: str
    outcome: Annotated[CreditOutcome, Meta(description="passed (disabled) or failed")]
    note: Annotated[str, Meta(description="why")]
    at: Annotated[datetime, Meta(tz=True, description="when it was decided (RFC 3339, UTC)")]


class RunWhole(RunView, kw_only=True):
    """A run, with the first 500 members that it did not credit."""

    uncredited: list[UncreditedView]


class DueQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The last date of a forecast."""

    until: Date | None = None


class DueView(msgspec.Struct, kw_only=True):
    """A due date that is being credited, or would be."""

    due_on: Annotated[date, Meta(description="the due date")]
    skipped: Annotated[str, Meta(description="why it would be skipped; empty: it would not")]
    value: Annotated[int, Meta(description="credits to each member")]
    credited: Annotated[int, Meta(description="number of members who would be credited")]
    passed: Annotated[int, Meta(description="number of members who would be passed over, because they are disabled")]
    failed: Annotated[int, Meta(description="number of members who could not be credited")]
    total_voice: Annotated[int, Meta(description="voice credits in total")]
    total_data: Annotated[int, Meta(description="data credits in total")]
    total_sms: Annotated[int, Meta(description="sms credits in total")]


class DueMemberView(msgspec.Struct, kw_only=True):
    """What a due date would credit to one member."""

    username: str
    due_on: Annotated[date, Meta(description="the due date")]
    outcome: CreditOutcome
    value: Annotated[int, Meta(description="credits of each of the schedule's kinds; of a fee, what is taken")]
    lacking: Annotated[int, Meta(description="credits that the balance lacks of a fee")]
    note: str


class Forecast(msgspec.Struct, kw_only=True):
    """What would be credited until a date, and the members who come first."""

    until: Annotated[date, Meta(description="the last date of the forecast")]
    dates: list[DueView]
    members: Annotated[list[DueMemberView], Meta(description=f"the first {DUE_MEMBERS} members")]


# -- schedules -------------------------------------------------------------------------------------------------------


def list_all(tx: Connection, request: Request) -> Page[ScheduleView]:
    """List schedules, in the order in which they were made."""
    query: PageQuery = request.query
    rows = schedule_records.list_all(tx, after_id=decode_cursor(query.cursor, RowId) or 0, limit=query.limit + 1)
    return make_page(rows, query.limit, lambda each: each.id, to_view)


def show(tx: Connection, request: Request) -> ScheduleView:
    """Show one schedule."""
    return to_view(schedule_records.find(tx, request.path["id"]))


def add(tx: Connection, request: Request) -> Response:
    """Make a schedule."""
    body: NewSchedule = request.body
    if body.value is None and body.offer_id is None:
        what = "is needed, or offer_id"
        raise InvalidValue(f"value {what}", {"value": what})
    fee = {} if body.fee is None else _columns_of(body.fee)
    made = schedule_changes.add(
        tx,
        request.actor,
        name=body.name,
        kind=_kind_from_word(body.kind),
        value=body.value or 0,
        offer_id=body.offer_id,
        recurrence=body.recurrence,
        day=body.day,
        interval_days=body.interval_days,
        first_on=body.first_on,
        count=body.count if body.count is not None else COUNT_MAX if fee else 1,
        time_zone=body.time_zone or request.config.schedules.zone,
        catch_up=body.catch_up,
        now=request.now,
        **fee,
    )
    return Response(to_view(made), headers={"Location": f"{request.base_url}/api/v1/schedules/{made.id}"})


def change(tx: Connection, request: Request) -> ScheduleView:
    """Change a schedule. A run that has begun goes on unchanged."""
    body: ScheduleChange = request.body
    given: dict[str, Any] = {
        name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET
    }
    if "kind" in given:
        given["kind"] = _kind_from_word(given["kind"])
    if "fee" in given:
        given |= _columns_of(given.pop("fee"))
    return to_view(schedule_changes.change(tx, request.actor, request.path["id"], given, request.now))


def delete(tx: Connection, request: Request) -> Response:
    """End a schedule and all memberships in it. Its records stay."""
    schedule_changes.delete(tx, request.actor, request.path["id"], request.now)
    return Response()


# -- forecast and runs -----------------------------------------------------------------------------------------------


def due(tx: Connection, request: Request) -> Forecast:
    """Forecast what a schedule would credit until a date; by default, what is due now."""
    query: DueQuery = request.query
    schedule, rules = schedule_records.find(tx, request.path["id"]), request.config.schedules.rules
    until = query.until or last_come(request.now, rules.run_at, schedule.time_zone)
    dues = forecast.due(tx, schedule, rules, until, request.now)
    return Forecast(
        until=until,
        dates=[
            make_view(
                DueView,
                each,
                due_on=each.run.due_on,
                skipped=each.run.note if each.run.state is RunState.SKIPPED else "",
                value=each.run.value,
                total_voice=each.total(Kind.VOICE),
                total_data=each.total(Kind.DATA),
                total_sms=each.total(Kind.SMS),
            )
            for each in dues
        ],
        members=[make_view(DueMemberView, each) for each in forecast.due_members(tx, dues, rules, limit=DUE_MEMBERS)],
    )


def list_runs(tx: Connection, request: Request) -> Page[RunView]:
    """List the runs of a schedule, latest due date first, and what they credited."""
    query: PageQuery = request.query
    schedule = schedule_records.find(tx, request.path["id"])
    before = decode_cursor(query.cursor, date)
    rows = runs.history(tx, schedule_id=schedule.id, before=before, limit=query.limit + 1)
    return make_page(rows, query.limit, lambda each: each.due_on, to_run_view)


def show_run(tx: Connection, request: Request) -> RunWhole:
    """Show a run, and the members that it did not credit, with the reasons."""
    run = runs.find_run(tx, request.path["id"])
    uncredited = runs.uncredited(tx, run, limit=UNCREDITED_MAX)
    return make_view(RunWhole, run, kind=run.kind_word, uncredited=uncredited)


def to_run_view(run: Run) -> RunView:
    """Return the view of a run."""
    return make_view(RunView, run, kind=run.kind_word)


def to_view(schedule: Schedule) -> ScheduleView:
    """Return the view of a schedule."""
    next_on = next_due_date(schedule, schedule.done_until)
    fee = None
    if schedule.takes:
        fee = make_view(FeeTerms, schedule, remind_days=parse_days(schedule.remind_days or ""))
    return make_view(ScheduleView, schedule, kind=schedule.kind_word, next_on=next_on, fee=fee)


def _columns_of(fee: FeeTerms) -> dict[str, Any]:
    return msgspec.structs.asdict(fee) | {"remind_days": " ".join(map(str, fee.remind_days))}


def _kind_from_word(word: str) -> ScheduleKind:
    return ScheduleKind[word.upper()]
