"""``/api/v1`` memberships: the members of schedules and the runs they have left; join, change, renew, leave."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.access.changes import schedule_changes
from celcombiller.core.errors import UnknownMembership
from celcombiller.core.reports.views import make_view
from celcombiller.core.schedules import memberships, schedule_records
from celcombiller.core.schedules.schedule_records import COUNT_MAX
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.subscribers.fields import Username
from celcombiller.http.pagination import Page, RowId, decode_cursor, make_page
from celcombiller.http.route import Response
from celcombiller.rest.v1.schedules import Count, Date, PageQuery

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.model.schedules import Membership
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.http.route import Request

Months = Annotated[int, Meta(ge=0, le=COUNT_MAX, description=f"a number of months from 0 to {COUNT_MAX}: bought")]


class MembershipView(msgspec.Struct, kw_only=True):
    """A subscriber in a schedule."""

    schedule_id: Annotated[int, Meta(description="the number of the schedule")]
    username: str
    name: Annotated[str, Meta(description="the member's name")]
    count: Annotated[int, Meta(description="number of runs left")]
    joined_on: Annotated[date, Meta(description="the first date that counts for the member")]


class ContractView(msgspec.Struct, kw_only=True):
    """A renewal of a membership."""

    at: Annotated[datetime, Meta(tz=True, description="when (RFC 3339, UTC)")]
    months: Annotated[int, Meta(description="number of months that were bought")]


class MembershipWhole(MembershipView, kw_only=True):
    """A membership and its renewals."""

    contracts: list[ContractView]


class NewMember(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Who joins, for how many runs (default: the count of the schedule), and from which date on (default: today)."""

    username: Username
    count: Count | None = None
    joined_on: Date | None = None


class MemberChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The number of runs left. At 0 the membership ends with the next run."""

    count: Count


class Renewal(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The number of runs left from now on, and the number of months bought."""

    count: Count
    months: Months


def list_in(tx: Connection, request: Request) -> Page[MembershipView]:
    """List the members of a schedule, in the order in which they joined."""
    query: PageQuery = request.query
    schedule = schedule_records.find(tx, request.path["id"])
    after_id = decode_cursor(query.cursor, RowId) or 0
    rows = memberships.members(tx, schedule.id, limit=query.limit + 1, after_id=after_id)
    return _make_page([(each, username, name) for username, name, each in rows], query.limit)


def list_of(tx: Connection, request: Request) -> Page[MembershipView]:
    """List the memberships of a subscriber, in the order in which they began."""
    query: PageQuery = request.query
    who = subscriber_records.find(tx, request.path["username"])
    after_id = decode_cursor(query.cursor, RowId) or 0
    rows = memberships.memberships(tx, subscriber_id=who.id, after_id=after_id, limit=query.limit + 1)
    return _make_page([(each, who.username, who.name) for each in rows], query.limit)


def show(tx: Connection, request: Request) -> MembershipWhole:
    """Show one membership and its renewals."""
    who, membership = _find_membership(tx, request)
    return _to_whole(tx, who, membership)


def join(tx: Connection, request: Request) -> Response:
    """Add a subscriber to a schedule."""
    body: NewMember = request.body
    schedule = schedule_records.find(tx, request.path["id"])
    who = subscriber_records.find(tx, body.username)
    made = schedule_changes.join(
        tx, request.actor, schedule, who, count=body.count, joined_on=body.joined_on, now=request.now
    )
    where = f"{request.base_url}/api/v1/schedules/{schedule.id}/members/{who.username}"
    return Response(_to_view(made, who.username, who.name), headers={"Location": where})


def change(tx: Connection, request: Request) -> MembershipView:
    """Change the number of runs that a member has left."""
    body: MemberChange = request.body
    who, was = _find_membership(tx, request)
    is_ = schedule_changes.set_count(tx, request.actor, was, body.count, request.now)
    return _to_view(is_, who.username, who.name)


def renew(tx: Connection, request: Request) -> Response:
    """Renew a membership: set the runs left, and record how many months were bought."""
    body: Renewal = request.body
    who, was = _find_membership(tx, request)
    is_ = schedule_changes.renew(tx, request.actor, was, count=body.count, months=body.months, now=request.now)
    return Response(_to_whole(tx, who, is_))


def leave(tx: Connection, request: Request) -> Response:
    """End a membership. Due dates that are not credited by now are not credited any more."""
    _, was = _find_membership(tx, request)
    schedule_changes.leave(tx, request.actor, was, request.now)
    return Response()


def _find_membership(tx: Connection, request: Request) -> tuple[Subscriber, Membership]:
    schedule = schedule_records.find(tx, request.path["id"])
    who = subscriber_records.find(tx, request.path["username"])
    membership = memberships.member(tx, schedule.id, who.id)
    if membership is None:
        raise UnknownMembership(f"{who.username} is not in schedule {schedule.id}")
    return who, membership


def _make_page(rows: list[tuple[Membership, str, str]], limit: int) -> Page[MembershipView]:
    return make_page(rows, limit, lambda each: each[0].id, lambda each: _to_view(*each))


def _to_view(membership: Membership, username: str, name: str) -> MembershipView:
    return make_view(MembershipView, membership, username=username, name=name)


def _to_whole(tx: Connection, who: Subscriber, membership: Membership) -> MembershipWhole:
    contracts = memberships.contracts(tx, [membership.id])
    return make_view(MembershipWhole, membership, username=who.username, name=who.name, contracts=contracts)
