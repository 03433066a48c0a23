"""``/api/schedule`` and ``/api/schedules``: the same schedules, by ``_id`` and by name.

The second is older, and accepts a first date and members.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, Meta, UnsetType
from twisted.web import http

from celcombiller.core.access.changes import schedule_changes
from celcombiller.core.errors import BrokenRequest, InvalidValue, UnknownSchedule
from celcombiller.core.ledger import rows
from celcombiller.core.model.schedules import Recurrence, Schedule, ScheduleKind
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.schedules import memberships, schedule_records
from celcombiller.core.schedules.due_dates import local_date
from celcombiller.core.schema import tables
from celcombiller.http.route import Response
from celcombiller.rest.legacy.coercion import convert_leniently, find_named_subscriber
from celcombiller.rest.legacy.collections import (
    MISSING,
    Collection,
    Source,
    answer_list,
    answer_object,
    make_address,
    read_object,
)
from celcombiller.rest.legacy.search import Field, Shape

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

MEMBERS_MAX = 200
"""Members that one request may add or remove. Calls wait for it."""

DAY_CLAMPED = 28
"""The last day that every month has. `/api/schedule` has always used it for later days."""

GroupName = Annotated[
    str, Meta(pattern=rf"^[^{UNPRINTABLE}/]{{1,200}}$(?!\n)", description="1 to 200 characters, without slashes")
]
Day = Annotated[int, Meta(ge=1, le=31, description="a day of the month, 1 to 31")]
Month = Annotated[int, Meta(ge=1, le=12, description="a month, 1 to 12")]
Year = Annotated[int, Meta(ge=1, le=9999, description="a year")]
Given = Annotated[int, Meta(ge=0, le=rows.AMOUNT_MAX, description="a whole number of credits from 0")]
Runs = Annotated[int, Meta(ge=0, le=schedule_records.COUNT_MAX, description="a whole number from 0 to 1000000")]
KindNumber = Annotated[int, Meta(ge=1, le=3, description="1 (voice), 2 (data) or 3 (both)")]
"""The kinds of the original. A schedule of sms is made elsewhere, and appears here as 4."""
Members = Annotated[
    list[int], Meta(max_length=MEMBERS_MAX, description=f"a list of at most {MEMBERS_MAX} _ids of users")
]

_schedule, _membership = tables.schedule, tables.membership
DAY = sa.case((_schedule.c.recurrence == Recurrence.MONTHLY, _schedule.c.day), else_=None)
"""The day of a monthly schedule. Clients of the original know no other recurrence."""


# -- collections -----------------------------------------------------------------------------------------------------


def _make_collection(name: str, key: str) -> Collection:
    def owned(subscriber_id: int) -> sa.ColumnElement[bool]:
        mine = sa.select(_membership.c.schedule_id).where(
            _membership.c.subscriber_id == subscriber_id, _membership.c.ended_at.is_(None)
        )
        return sa.and_(schedule_records.NOT_DELETED, _schedule.c.id.in_(mine))

    return Collection(
        name=name,
        key=key,
        fields={
            "_id": Field(Shape.WHOLE),
            "name": Field(Shape.TEXT),
            "day": Field(Shape.WHOLE, nullable=True),
            "value": Field(Shape.WHOLE),
            "kind": Field(Shape.WHOLE),
        },
        sources=(
            Source(
                table=_schedule,
                rows=schedule_records.NOT_DELETED,
                columns={
                    "_id": _schedule.c.id,
                    "name": _schedule.c.name,
                    "day": DAY,
                    "value": _schedule.c.value,
                    "kind": _schedule.c.kind,
                },
                owned=owned,
            ),
        ),
    )


BY_ID, BY_NAME = _make_collection("schedule", "_id"), _make_collection("schedules", "name")


def list_by_id(tx: Connection, request: Request) -> Response:
    """List schedules."""
    return answer_list(tx, request, BY_ID)


def list_by_name(tx: Connection, request: Request) -> Response:
    """List schedules, which have their names as keys."""
    return answer_list(tx, request, BY_NAME)


def show_by_id(tx: Connection, request: Request) -> Response:
    """Show a schedule."""
    return answer_object(tx, request, BY_ID, request.path["id"])


def show_by_name(tx: Connection, request: Request) -> Response:
    """Show a schedule."""
    return answer_object(tx, request, BY_NAME, request.path["name"])


# -- schedules -------------------------------------------------------------------------------------------------------


class NewSchedule(msgspec.Struct, kw_only=True):
    """A schedule to make: a value of a kind, each month on a day."""

    name: GroupName
    day: Day
    value: Given
    kind: KindNumber
    count: Runs = 1
    """The number of runs of a member who joins without a number."""


class NewGroup(msgspec.Struct, kw_only=True):
    """A schedule to make, with its first date and its members."""

    name: GroupName
    day: Day
    month: Month | None = None
    year: Year | None = None
    count: Runs = 1
    value: Given = 0
    kind: KindNumber = 1
    users: Members = []


class ScheduleChange(msgspec.Struct, kw_only=True):
    """A change. Fields that are not named stay as they are."""

    name: GroupName | UnsetType = UNSET
    day: Day | UnsetType = UNSET
    value: Given | UnsetType = UNSET
    kind: KindNumber | UnsetType = UNSET
    count: Runs | UnsetType = UNSET


class GroupChange(ScheduleChange, kw_only=True):
    """A change with members to add and to remove. ``updateGroup`` is ignored: schedules are credited by themselves."""

    newUser: Members = []
    removeUser: Members = []
    updateGroup: Any = None


def add_by_id(tx: Connection, request: Request) -> Response:
    """Make a schedule. Another one may have the same name."""
    body = convert_leniently(NewSchedule, request.body)
    made = _make_schedule(tx, request, body, _today(request), min(body.day, DAY_CLAMPED))
    return _answer_made(tx, request, BY_ID, made)


def add_by_name(tx: Connection, request: Request) -> Response:
    """Make a schedule with a unique name, a first date and members."""
    body = convert_leniently(NewGroup, request.body)
    _check_free(tx, body.name)
    made = _make_schedule(tx, request, body, _first_on(request, body), body.day)
    _join(tx, request, made, body.users, "users")
    return _answer_made(tx, request, BY_NAME, made)


def change_by_id(tx: Connection, request: Request) -> Response:
    """Change a schedule."""
    try:
        found = schedule_records.find(tx, request.path["id"])
    except UnknownSchedule:
        return MISSING
    _change(tx, request, found, convert_leniently(ScheduleChange, request.body))
    return Response(read_object(tx, BY_ID, found.id))


def change_by_name(tx: Connection, request: Request) -> Response:
    """Change a schedule and its members. An empty change answers with the schedule as it is."""
    body = convert_leniently(GroupChange, request.body)
    found = _find_by_name(tx, request.path["name"])
    if found is None:
        return MISSING
    if body.name is not UNSET and body.name != found.name:
        _check_free(tx, body.name)
    changed = _change(tx, request, found, body)
    _join(tx, request, changed, body.newUser, "newUser")
    _leave(tx, request, changed, body.removeUser)
    return Response(read_object(tx, BY_NAME, found.id))


def delete_by_id(tx: Connection, request: Request) -> Response:
    """End a schedule and all memberships in it."""
    try:
        found = schedule_records.find(tx, request.path["id"])
    except UnknownSchedule:
        return MISSING
    return _delete(tx, request, found)


def delete_by_name(tx: Connection, request: Request) -> Response:
    """End a schedule and all memberships in it."""
    found = _find_by_name(tx, request.path["name"])
    return MISSING if found is None else _delete(tx, request, found)


def _make_schedule(
    tx: Connection, request: Request, body: NewSchedule | NewGroup, first_on: date, day: int
) -> Schedule:
    return schedule_changes.add(
        tx,
        request.actor,
        name=body.name,
        names_repeat=True,
        kind=ScheduleKind(body.kind),
        value=body.value,
        recurrence=Recurrence.MONTHLY,
        day=day,
        interval_days=None,
        first_on=first_on,
        count=body.count,
        time_zone=request.config.schedules.zone,
        now=request.now,
    )


def _answer_made(tx: Connection, request: Request, collection: Collection, made: Schedule) -> Response:
    view = read_object(tx, collection, made.id)
    return Response(view, headers={"Location": make_address(request.url.partition("?")[0], collection, view)})


def _today(request: Request) -> date:
    return local_date(request.now, request.config.schedules.zone)


def _first_on(request: Request, body: NewGroup) -> date:
    if body.month is None and body.year is None:
        return _today(request)
    try:
        first_on = date(body.year or 0, body.month or 0, body.day)
    except ValueError:
        raise InvalidValue("Date not accept: day, month and year are no date") from None
    if first_on < _today(request):
        raise InvalidValue(f"Date not accept: {first_on} is past")
    return first_on


def _check_free(tx: Connection, name: str) -> None:
    if schedule_records.find_by_name(tx, name):
        raise InvalidValue("Already has this Group", {"name": "another schedule has it"})


def _find_by_name(tx: Connection, name: str) -> Schedule | None:
    found = schedule_records.find_by_name(tx, name)
    if len(found) > 1:
        raise BrokenRequest(f"{len(found)} schedules have this name: say which by /api/schedule/<_id>")
    return found[0] if found else None


def _change(tx: Connection, request: Request, was: Schedule, body: ScheduleChange) -> Schedule:
    given = {name: value for name in ScheduleChange.__struct_fields__ if (value := getattr(body, name)) is not UNSET}
    if not given:
        return was
    if "kind" in given:
        given["kind"] = ScheduleKind(given["kind"])
    if "day" in given and was.recurrence is not Recurrence.MONTHLY:
        raise InvalidValue("day: this schedule is not monthly", {"day": "this schedule is not monthly"})
    return schedule_changes.change(tx, request.actor, was.id, given, request.now, names_repeat=True)


def _delete(tx: Connection, request: Request, found: Schedule) -> Response:
    schedule_changes.delete(tx, request.actor, found.id, request.now)
    return Response(status=http.NO_CONTENT)


def _join(tx: Connection, request: Request, schedule: Schedule, user_ids: list[int], field: str) -> None:
    """Add these users, unless they are members. Each gets the schedule's number of runs."""
    for user_id in dict.fromkeys(user_ids):
        who = find_named_subscriber(tx, field, user_id)
        if memberships.member(tx, schedule.id, who.id) is None:
            schedule_changes.join(tx, request.actor, schedule, who, now=request.now)


def _leave(tx: Connection, request: Request, schedule: Schedule, user_ids: list[int]) -> None:
    """Remove these users, if they are members."""
    for user_id in dict.fromkeys(user_ids):
        member = memberships.member(tx, schedule.id, user_id)
        if member is not None:
            schedule_changes.leave(tx, request.actor, member, request.now)
