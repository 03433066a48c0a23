"""``/api/users``: subscribers with their balances, by username."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, Meta, UnsetType
from twisted.web import http

from celcombiller.core.access.changes import subscriber_changes
from celcombiller.core.charging.operator_credit import credit
from celcombiller.core.charging.requests import Credit
from celcombiller.core.errors import BrokenRequest, InvalidValue, UnknownSubscriber
from celcombiller.core.ledger import rows
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.subscribers.fields import Address, Clid, Cpf, Imsi, Name, Username
from celcombiller.core.subscribers.subscriber_records import NOT_DELETED
from celcombiller.http.decoding import merge_field_lists
from celcombiller.http.route import Response
from celcombiller.rest.legacy.coercion import convert_leniently
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
from celcombiller.rest.legacy.search import Comparison, Field, Search, Shape, parse_search
from celcombiller.rest.v1 import subscribers as today
from celcombiller.rest.v1.subscribers import LevelNumber
from celcombiller.runtime.credentials.password_hash import OldPassword, Password

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

CHANGED_MAX = 100
"""Users that one PATCH may change. Calls wait for it."""

Opening = Annotated[int, Meta(ge=0, le=rows.AMOUNT_MAX, description="a whole number of credits from 0")]

_voice, _data = tables.account.alias("voice"), tables.account.alias("data")
_person = tables.subscriber


def _account(account: Any, kind: Kind) -> OptionalJoin:
    is_owners = sa.and_(account.c.subscriber_id == _person.c.id, account.c.kind == kind)
    return OptionalJoin(account, is_owners, frozenset({f"{kind}_balance"}))


COLLECTION = Collection(
    name="users",
    key="username",
    owner="_id",
    page=10,
    fields={
        "_id": Field(Shape.WHOLE),
        "level": Field(Shape.WHOLE),
        "name": Field(Shape.TEXT),
        "address": Field(Shape.TEXT),
        "cpf": Field(Shape.DIGITS, nullable=True),
        "username": Field(Shape.TEXT),
        "clid": Field(Shape.TEXT),
        "imsi": Field(Shape.TEXT),
        "voice_balance": Field(Shape.WHOLE),
        "data_balance": Field(Shape.WHOLE),
    },
    sources=(
        Source(
            table=_person,
            rows=NOT_DELETED,
            columns={
                "_id": _person.c.id,
                **{name: _person.c[name] for name in ("level", "name", "address", "cpf", "username", "clid", "imsi")},
                "voice_balance": _voice.c.posted,
                "data_balance": _data.c.posted,
            },
            owned=lambda subscriber_id: sa.and_(_person.c.id == subscriber_id, NOT_DELETED),
            optional_joins=(_account(_voice, Kind.VOICE), _account(_data, Kind.DATA)),
        ),
    ),
)


class NewUser(msgspec.Struct, kw_only=True):
    """A user to add."""

    level: LevelNumber
    name: Name
    username: Username
    password: Password
    clid: Clid
    imsi: Imsi
    cpf: Cpf | None = None
    address: Address | None = None
    voice_balance: Opening = 0
    data_balance: Opening = 0


class UserChange(msgspec.Struct, kw_only=True):
    """A change. Fields that are not named stay as they are."""

    level: LevelNumber | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    username: Username | UnsetType = UNSET
    password: Password | UnsetType = UNSET
    old_password: OldPassword | UnsetType = UNSET
    revoke_tokens: bool | UnsetType = UNSET
    clid: Clid | UnsetType = UNSET
    imsi: Imsi | UnsetType = UNSET
    cpf: Cpf | UnsetType | None = UNSET
    address: Address | UnsetType | None = UNSET


FIXED = {
    "_id": "cannot be changed",
    "voice_balance": "cannot be set: POST the difference to /api/voice_balance",
    "data_balance": "cannot be set: POST the difference to /api/data_balance",
}


def list_all(tx: Connection, request: Request) -> Response:
    """List users."""
    return answer_list(tx, request, COLLECTION)


def show(tx: Connection, request: Request) -> Response:
    """Show one user."""
    return answer_object(tx, request, COLLECTION, request.path["username"])


def add(tx: Connection, request: Request) -> Response:
    """Add a user. Their first balances are transfers like any other."""
    body = convert_leniently(NewUser, request.body)
    made = subscriber_changes.add(
        tx,
        request.actor,
        username=body.username,
        name=body.name,
        clid=body.clid,
        imsi=body.imsi,
        cpf=body.cpf,
        address=body.address or "",
        level=body.level,
        password=request.password,
        now=request.now,
    )
    for kind, value in ((Kind.VOICE, body.voice_balance), (Kind.DATA, body.data_balance)):
        if value:
            order = Credit(made.username, kind, value, "opening", f"opening:{kind}:{made.id}")
            credit(tx, order, request.actor, request.now)
    view = read_object(tx, COLLECTION, made.id)
    return Response(view, headers={"Location": make_address(request.url.partition("?")[0], COLLECTION, view)})


def change(tx: Connection, request: Request) -> Response:
    """Change a user. The body is an object, or two lists: ``{"fields": […], "values": […]}``."""
    given = _changes(merge_field_lists(request.body))
    try:
        who = subscriber_records.find(tx, request.path["username"])
    except UnknownSubscriber:
        return MISSING
    if given:
        today.change_as(tx, request, who.username, given)
    return Response(read_object(tx, COLLECTION, who.id))


async def change_many(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Change all users that ``q`` finds. Without a filter it is refused: it would change all users.

    The search runs in a thread of the reader, so that a slow one delays no call.
    """
    body = dict(request.body)
    search = parse_search(body.pop("q", {}), COLLECTION.fields, request.now)
    if not search.filters:
        raise BrokenRequest("q must have filters: a change of all users at once is refused")
    given = _changes(merge_field_lists(body))
    if not given:
        return Response({"num_modified": 0})
    ids = await api.reader.read(lambda tx: Rows(tx, COLLECTION, search, None).list_ids(0, CHANGED_MAX + 1))
    if len(ids) > CHANGED_MAX:
        raise BrokenRequest(f"q finds more than {CHANGED_MAX} users: change fewer at once")
    same = Search(filters=(*search.filters, Comparison("_id", "in", tuple(ids))))

    def work(tx: Connection, request: Request) -> int:
        found = Rows(tx, COLLECTION, same, None)
        ids = found.list_ids(0, CHANGED_MAX)
        for each in found.read_objects(ids, listed=False):
            today.change_as(tx, request, each["username"], given)
        return len(ids)

    return Response({"num_modified": await api.transact(request, work)})


def delete(tx: Connection, request: Request) -> Response:
    """Delete a user."""
    try:
        subscriber_records.find(tx, request.path["username"])
    except UnknownSubscriber:
        return MISSING
    today.delete(tx, request)
    return Response(status=http.NO_CONTENT)


def _changes(fields: dict[str, Any]) -> dict[str, Any]:
    wrong = {name: why for name, why in FIXED.items() if name in fields}
    if wrong:
        raise InvalidValue("; ".join(f"{name} {why}" for name, why in wrong.items()), wrong)
    body = convert_leniently(UserChange, fields)
    given = {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET}
    if given.get("address", "") is None:
        given["address"] = ""
    return given
