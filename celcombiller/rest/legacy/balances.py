"""``/api/voice_balance`` and ``/api/data_balance``: transfers, as the subscriber's account shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from celcombiller.core.charging.operator_credit import credit
from celcombiller.core.charging.requests import Credit
from celcombiller.core.errors import InvalidValue, TransferConflict
from celcombiller.core.ledger import rows
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.schema import tables
from celcombiller.http.route import Response
from celcombiller.rest.legacy.coercion import convert_leniently, find_named_subscriber
from celcombiller.rest.legacy.collections import (
    Collection,
    OptionalJoin,
    Source,
    answer_list,
    answer_object,
    make_address,
    read_object,
)
from celcombiller.rest.legacy.search import Field, Shape, parse_instant

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.http.route import Request

FIXED = "nothing recorded is edited or deleted; to take a movement back POST another with the opposite value"

Value = Annotated[
    int, Meta(ge=-rows.AMOUNT_MAX, le=rows.AMOUNT_MAX, description="a whole number of credits, negative to take")
]
Origin = Annotated[str, Meta(pattern=rf"^[^{UNPRINTABLE}]{{1,64}}$(?!\n)", description="1 to 64 characters")]
Address = Annotated[str, Meta(pattern=rf"^[^{UNPRINTABLE}]{{0,64}}$(?!\n)", description="up to 64 characters")]


_transfer, _detail, _call = tables.transfer, tables.transfer_detail, tables.call
_callee = tables.subscriber.alias("callee")
_TO = frozenset({"to_user_id", "to_user_clid"})
_TO_ID = sa.func.coalesce(_detail.c.to_subscriber_id, _call.c.callee_id)


class NewVoice(msgspec.Struct, kw_only=True):
    """Voice credit to add or, if negative, to take."""

    from_user_id: int | str
    value: Value
    origin: Origin
    to_user_id: int | str | None = None
    date: str | None = None


class NewData(msgspec.Struct, kw_only=True):
    """Data credit to add or, if negative, to take."""

    user_id: int | str
    value: Value
    origin: Origin
    user_ip: Address | None = None
    connection_ip: Address | None = None
    date: str | None = None


def _sources(kind: Kind, columns: Callable[[sa.ColumnElement[int], Any], dict[str, Any]]) -> tuple[Source, ...]:
    """Return the two halves of the movements of a kind: into subscribers' accounts, and out of them.

    An index gives each half in the order of its ids. For one subscriber, the account decides the kind.
    """
    operator_id = tables.OPERATOR_ACCOUNT_IDS[kind]

    def half(mine: sa.Column[Any], theirs: sa.Column[Any], value: sa.ColumnElement[Any], owner: Any) -> Source:
        account = tables.account

        def owned(subscriber_id: int) -> sa.ColumnElement[bool]:
            own_account = sa.select(account.c.id).where(
                account.c.subscriber_id == subscriber_id, account.c.kind == kind
            )
            return mine == own_account.scalar_subquery()

        return Source(
            table=_transfer,
            rows=theirs == sa.literal_column(str(operator_id)),  # a literal, so that each query plan knows how many
            columns=columns(value, owner),
            owned=owned,
            optional_joins=(
                OptionalJoin(owner, owner.c.id == mine, frozenset({"from_user_id", "user_id"})),
                OptionalJoin(
                    _detail, _detail.c.reference == _transfer.c.reference, _TO | {"date", "user_ip", "connection_ip"}
                ),
                OptionalJoin(_call, _call.c.reference == _transfer.c.reference, _TO),
                OptionalJoin(_callee, _callee.c.id == _TO_ID, frozenset({"to_user_clid"})),
            ),
        )

    debit, credit, amount = _transfer.c.debit_account_id, _transfer.c.credit_account_id, _transfer.c.amount
    return (
        half(credit, debit, amount, tables.account.alias("receiver")),
        half(debit, credit, -amount, tables.account.alias("payer")),
    )


def _voice_columns(value: sa.ColumnElement[int], owner: Any) -> dict[str, Any]:
    return {
        "_id": _transfer.c.id,
        "from_user_id": owner.c.subscriber_id,
        "to_user_id": _TO_ID,
        "value": value,
        "date": sa.func.coalesce(_detail.c.said_at, _transfer.c.at),
        "origin": _transfer.c.origin,
        "to_user_clid": _callee.c.clid,
    }


def _data_columns(value: sa.ColumnElement[int], owner: Any) -> dict[str, Any]:
    return {
        "_id": _transfer.c.id,
        "user_id": owner.c.subscriber_id,
        "date": sa.func.coalesce(_detail.c.said_at, _transfer.c.at),
        "value": value,
        "user_ip": _detail.c.user_ip,
        "connection_ip": _detail.c.connection_ip,
        "origin": _transfer.c.origin,
    }


VOICE = Collection(
    name="voice_balance",
    owner="from_user_id",
    fields={
        "_id": Field(Shape.WHOLE),
        "from_user_id": Field(Shape.WHOLE),
        "to_user_id": Field(Shape.WHOLE, nullable=True),
        "value": Field(Shape.WHOLE),
        "date": Field(Shape.INSTANT),
        "origin": Field(Shape.TEXT),
        "to_user_clid": Field(Shape.TEXT, nullable=True, listed=True),
    },
    sources=_sources(Kind.VOICE, _voice_columns),
)

DATA = Collection(
    name="data_balance",
    owner="user_id",
    fields={
        "_id": Field(Shape.WHOLE),
        "user_id": Field(Shape.WHOLE),
        "date": Field(Shape.INSTANT),
        "value": Field(Shape.WHOLE),
        "user_ip": Field(Shape.TEXT, nullable=True),
        "connection_ip": Field(Shape.TEXT, nullable=True),
        "origin": Field(Shape.TEXT),
    },
    sources=_sources(Kind.DATA, _data_columns),
)


def list_voice(tx: Connection, request: Request) -> Response:
    """List movements of voice credit."""
    return answer_list(tx, request, VOICE)


def list_data(tx: Connection, request: Request) -> Response:
    """List movements of data credit."""
    return answer_list(tx, request, DATA)


def show_voice(tx: Connection, request: Request) -> Response:
    """Show one movement of voice credit."""
    return answer_object(tx, request, VOICE, request.path["id"])


def show_data(tx: Connection, request: Request) -> Response:
    """Show one movement of data credit."""
    return answer_object(tx, request, DATA, request.path["id"])


def add_voice(tx: Connection, request: Request) -> Response:
    """Add or take voice credit."""
    body = convert_leniently(NewVoice, request.body)
    who = find_named_subscriber(tx, "from_user_id", body.from_user_id)
    to = None if body.to_user_id is None else find_named_subscriber(tx, "to_user_id", body.to_user_id)
    detail = {"to_subscriber_id": None if to is None else to.id, "said_at": _said_at(body.date)}
    return _add(tx, request, VOICE, Kind.VOICE, who, body, detail)


def add_data(tx: Connection, request: Request) -> Response:
    """Add or take data credit."""
    body = convert_leniently(NewData, request.body)
    who = find_named_subscriber(tx, "user_id", body.user_id)
    detail = {"user_ip": body.user_ip, "connection_ip": body.connection_ip, "said_at": _said_at(body.date)}
    return _add(tx, request, DATA, Kind.DATA, who, body, detail)


def _add(
    tx: Connection,
    request: Request,
    collection: Collection,
    kind: Kind,
    who: Subscriber,
    body: NewVoice | NewData,
    detail: dict[str, Any],
) -> Response:
    if body.value == 0:
        raise InvalidValue("value: must not be 0: nothing would move", {"value": "must not be 0"})
    reference = request.find_reference(tx)
    order = Credit(who.username, kind, body.value, body.origin, reference)
    _, is_new = credit(tx, order, request.actor, request.now)
    if is_new:
        if any(each is not None for each in detail.values()):
            tx.execute(sa.insert(_detail).values(reference=reference, **detail))
    else:
        _check_same(tx, reference, detail)
    made_id = tx.execute(sa.select(_transfer.c.id).where(_transfer.c.reference == reference)).scalar_one()
    view = read_object(tx, collection, made_id)
    return Response(view, headers={"Location": make_address(request.url.partition("?")[0], collection, view)})


def _check_same(tx: Connection, reference: str, detail: dict[str, Any]) -> None:
    row = tx.execute(sa.select(_detail).where(_detail.c.reference == reference)).mappings().first()
    if any((row[name] if row else None) != value for name, value in detail.items()):
        raise TransferConflict(f"a transfer with the id {reference} exists and says something else")


def _said_at(date: str | None) -> Any:
    if date is None:
        return None
    try:
        return parse_instant(date)
    except ValueError:
        what = f"must be {Shape.INSTANT.value}"
        raise InvalidValue(f"date: {what}", {"date": what}) from None
