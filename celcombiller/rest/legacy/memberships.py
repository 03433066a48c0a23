"""``/api/schedule_user``: the members of schedules.

``schedule_contract`` lists renewals, ``schedule_input`` the transfers that runs made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, UnsetType
from twisted.web import http

from celcombiller.core.access.changes import schedule_changes
from celcombiller.core.errors import BrokenRequest, InvalidValue, UnknownMembership, UnknownSchedule
from celcombiller.core.schedules import memberships, schedule_records
from celcombiller.core.schema import tables
from celcombiller.http.route import Response
from celcombiller.rest.legacy.coercion import convert_leniently, find_named_subscriber
from celcombiller.rest.legacy.collections import (
    MISSING,
    Collection,
    OptionalJoin,
    Rows,
    Source,
    answer_list,
    answer_object,
    make_address,
    read_object,
)
from celcombiller.rest.legacy.schedules import DAY, Runs
from celcombiller.rest.legacy.search import Field, Shape, parse_search

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

FIXED = "it is the record of what was done, and nothing recorded is edited or deleted"
NAMED = dict.fromkeys(("_id", "user_id", "schedule_id"), "cannot be changed: delete this and add another")

_schedule, _membership = tables.schedule, tables.membership
_contract, _credit = tables.contract, tables.schedule_credit
_voice, _data = tables.transfer.alias("voice"), tables.transfer.alias("data")
_LIVING = sa.and_(_membership.c.ended_at.is_(None), schedule_records.NOT_DELETED)
_CREDITED = _credit.c.outcome == "credited"

MEMBERS = Collection(
    name="schedule_user",
    owner="user_id",
    fields={
        "_id": Field(Shape.WHOLE),
        "user_id": Field(Shape.WHOLE),
        "schedule_id": Field(Shape.WHOLE),
        "count": Field(Shape.WHOLE),
        "schedule_name": Field(Shape.TEXT, listed=True),
        "day": Field(Shape.WHOLE, nullable=True, listed=True),
        "value": Field(Shape.WHOLE, listed=True),
        "kind": Field(Shape.WHOLE, listed=True),
    },
    sources=(
        Source(
            table=_membership.join(_schedule, _schedule.c.id == _membership.c.schedule_id),
            rows=_LIVING,
            columns={
                "_id": _membership.c.id,
                "user_id": _membership.c.subscriber_id,
                "schedule_id": _membership.c.schedule_id,
                "count": _membership.c.count,
                "schedule_name": _schedule.c.name,
                "day": DAY,
                "value": _schedule.c.value,
                "kind": _schedule.c.kind,
            },
            owned=lambda subscriber_id: sa.and_(_LIVING, _membership.c.subscriber_id == subscriber_id),
        ),
    ),
)

CONTRACTS = Collection(
    name="schedule_contract",
    fields={
        "_id": Field(Shape.WHOLE),
        "schedule_user_id": Field(Shape.WHOLE),
        "date": Field(Shape.INSTANT),
        "months": Field(Shape.WHOLE),
    },
    sources=(
        Source(
            table=_contract,
            rows=sa.true(),
            columns={
                "_id": _contract.c.id,
                "schedule_user_id": _contract.c.membership_id,
                "date": _contract.c.at,
                "months": _contract.c.months,
            },
            owned=lambda subscriber_id: _contract.c.membership_id.in_(
                sa.select(_membership.c.id).where(_membership.c.subscriber_id == subscriber_id)
            ),
        ),
    ),
)

INPUTS = Collection(
    name="schedule_input",
    fields={
        "_id": Field(Shape.WHOLE),
        "schedule_id": Field(Shape.WHOLE),
        "voice_balance_id": Field(Shape.WHOLE, nullable=True),
        "data_balance_id": Field(Shape.WHOLE, nullable=True),
    },
    sources=(
        Source(
            table=_credit,
            rows=_CREDITED,
            columns={
                "_id": _credit.c.id,
                "schedule_id": _credit.c.schedule_id,
                "voice_balance_id": _voice.c.id,
                "data_balance_id": _data.c.id,
            },
            owned=lambda subscriber_id: sa.and_(_CREDITED, _credit.c.subscriber_id == subscriber_id),
            optional_joins=(
                OptionalJoin(_voice, _voice.c.reference == _credit.c.voice_reference, frozenset({"voice_balance_id"})),
                OptionalJoin(_data, _data.c.reference == _credit.c.data_reference, frozenset({"data_balance_id"})),
            ),
        ),
    ),
)


def list_all(tx: Connection, request: Request) -> Response:
    """List the members of schedules."""
    return answer_list(tx, request, MEMBERS)


def list_contracts(tx: Connection, request: Request) -> Response:
    """List renewals."""
    return answer_list(tx, request, CONTRACTS)


def list_inputs(tx: Connection, request: Request) -> Response:
    """List the transfers that runs of schedules made."""
    return answer_list(tx, request, INPUTS)


def show(tx: Connection, request: Request) -> Response:
    """Show a membership."""
    return answer_object(tx, request, MEMBERS, request.path["id"])


def show_contract(tx: Connection, request: Request) -> Response:
    """Show a renewal."""
    return answer_object(tx, request, CONTRACTS, request.path["id"])


def show_input(tx: Connection, request: Request) -> Response:
    """Show the transfers that one run made for one user."""
    return answer_object(tx, request, INPUTS, request.path["id"])


class NewMember(msgspec.Struct, kw_only=True):
    """A user to add to a schedule, for ``count`` runs."""

    user_id: int | str
    schedule_id: int
    count: Runs


class MemberChange(msgspec.Struct, kw_only=True):
    """The number of runs left."""

    count: Runs | UnsetType = UNSET


class Renewal(msgspec.Struct, kw_only=True):
    """The number of runs left from now on, and the number of months bought."""

    count: Runs
    number: Runs


def add(tx: Connection, request: Request) -> Response:
    """Add a user to a schedule. If they are a member already, the answer is the original's 409."""
    body = convert_leniently(NewMember, request.body)
    who = find_named_subscriber(tx, "user_id", body.user_id)
    try:
        schedule = schedule_records.find(tx, body.schedule_id)
    except UnknownSchedule as error:
        raise InvalidValue(f"schedule_id: {error}", {"schedule_id": str(error)}) from None
    made = schedule_changes.join(tx, request.actor, schedule, who, count=body.count, now=request.now)
    view = read_object(tx, MEMBERS, made.id)
    return Response(view, headers={"Location": make_address(request.url.partition("?")[0], MEMBERS, view)})


def change(tx: Connection, request: Request) -> Response:
    """Set the number of runs left."""
    wrong = {name: why for name, why in NAMED.items() if name in request.body}
    if wrong:
        raise InvalidValue("; ".join(f"{name} {why}" for name, why in wrong.items()), wrong)
    body = convert_leniently(MemberChange, request.body)
    try:
        was = memberships.find_membership(tx, request.path["id"])
    except UnknownMembership:
        return MISSING
    if body.count is not UNSET:
        schedule_changes.set_count(tx, request.actor, was, body.count, request.now)
    return Response(read_object(tx, MEMBERS, was.id))


def renew(tx: Connection, request: Request) -> Response:
    """Renew the membership that ``q`` names by schedule and user: set its runs, and add a contract."""
    fields = dict(request.body)
    search = parse_search(fields.pop("q", {}), MEMBERS.fields, request.now)
    if search.pinned("schedule_id") is None or search.pinned("user_id") is None:
        raise BrokenRequest("q must have filters that name the schedule_id and the user_id (op eq)")
    body = convert_leniently(Renewal, fields)
    ids = Rows(tx, MEMBERS, search, None).list_ids(0, 1)
    if not ids:
        return Response({"message": "No result found"}, http.NOT_FOUND)
    was = memberships.find_membership(tx, ids[0])
    schedule_changes.renew(tx, request.actor, was, count=body.count, months=body.number, now=request.now)
    return Response({"num_modified": 1})


def delete(tx: Connection, request: Request) -> Response:
    """End a membership."""
    try:
        was = memberships.find_membership(tx, request.path["id"])
    except UnknownMembership:
        return MISSING
    schedule_changes.leave(tx, request.actor, was, request.now)
    return Response(status=http.NO_CONTENT)
