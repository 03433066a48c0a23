"""``/api/v1/groups``: subscribers with a tariff and limits in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from celcombiller.core.access.changes import group_changes
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.reports.tariff_views import GroupView, view_group
from celcombiller.core.subscribers import group_records
from celcombiller.core.subscribers.fields import LIMIT_MAX, PREFIXES_MAX
from celcombiller.http.pagination import Cursor, Limit, Page, RowId, decode_cursor, make_page
from celcombiller.http.route import ID_MAX, Response

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

TariffId = Annotated[int, Meta(ge=1, le=ID_MAX, description="the number of a tariff")]
CallLimit = Annotated[
    int, Meta(ge=0, le=LIMIT_MAX, description=f"a number of calls at once from 0 to {LIMIT_MAX}; null: any")
]
SecondsLimit = Annotated[int, Meta(ge=0, le=LIMIT_MAX, description=f"seconds from 0 to {LIMIT_MAX}; null: no limit")]
CostLimit = Annotated[int, Meta(ge=0, le=LIMIT_MAX, description=f"credits from 0 to {LIMIT_MAX}; null: no limit")]
PrefixList = Annotated[
    list[Annotated[str, Meta(pattern=r"^\+?[0-9*#]{1,32}$(?!\n)")]],
    Meta(max_length=PREFIXES_MAX, description=f"at most {PREFIXES_MAX} prefixes of up to 32 digits, * or #"),
]

LongName = Annotated[
    str, Meta(pattern=rf"^[^{UNPRINTABLE}]{{1,200}}$(?!\n)", description="1 to 200 characters on one line")
]


class NewGroup(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A group to make, without members."""

    name: LongName
    tariff_id: TariffId | None = None
    calls_max: CallLimit | None = None
    subscriber_calls_max: CallLimit | None = None
    barred: PrefixList = []
    allowed: PrefixList = []
    call_seconds_max: SecondsLimit | None = None
    call_cost_max: CostLimit | None = None


class GroupChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A change. Fields that are not named stay as they are; null takes a limit away."""

    name: LongName | UnsetType = UNSET
    tariff_id: TariffId | UnsetType | None = UNSET
    calls_max: CallLimit | UnsetType | None = UNSET
    subscriber_calls_max: CallLimit | UnsetType | None = UNSET
    barred: PrefixList | UnsetType = UNSET
    allowed: PrefixList | UnsetType = UNSET
    call_seconds_max: SecondsLimit | UnsetType | None = UNSET
    call_cost_max: CostLimit | UnsetType | None = UNSET


class GroupQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The size of a page, and the cursor."""

    limit: Limit = 50
    cursor: Cursor | None = None


def list_all(tx: Connection, request: Request) -> Page[GroupView]:
    """List groups, in the order in which they were made."""
    query: GroupQuery = request.query
    rows = group_records.list_all(tx, after_id=decode_cursor(query.cursor, RowId) or 0, limit=query.limit + 1)
    members = group_records.count_members(tx, [each.id for each in rows])
    return make_page(rows, query.limit, lambda each: each.id, lambda each: view_group(each, members.get(each.id, 0)))


def show(tx: Connection, request: Request) -> GroupView:
    """Show one group."""
    return _show(tx, request.path["id"])


def add(tx: Connection, request: Request) -> Response:
    """Make a group. Subscribers join it by their group_id."""
    body: NewGroup = request.body
    made = group_changes.add(tx, request.actor, **msgspec.structs.asdict(body), now=request.now)
    return Response(_show(tx, made.id), headers={"Location": f"{request.base_url}/api/v1/groups/{made.id}"})


def change(tx: Connection, request: Request) -> GroupView:
    """Change a group, from the next call of its members on."""
    body: GroupChange = request.body
    given = {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET}
    group_changes.change(tx, request.actor, request.path["id"], given, request.now)
    return _show(tx, request.path["id"])


def delete(tx: Connection, request: Request) -> Response:
    """Delete a group without members."""
    group_changes.delete(tx, request.actor, request.path["id"], request.now)
    return Response()


def _show(tx: Connection, group_id: int) -> GroupView:
    group = group_records.find_by_id(tx, group_id)
    return view_group(group, group_records.count_members(tx, [group.id]).get(group.id, 0))
