"""Bodies as the original's clients send them: numbers may be texts, identities may be numbers."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec import inspect

from celcombiller.core.errors import InvalidValue
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.http.decoding import convert_fields
from celcombiller.rest.legacy.search import parse_whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.subscribers import Subscriber

T = TypeVar("T", bound=msgspec.Struct)

IMSI_LEAST = 10**13
"""A subscriber's number so large is an IMSI (14 or 15 digits), as OpenBTS tells it."""


def convert_leniently(kind: type[T], body: Mapping[str, Any]) -> T:
    """Make a value of ``kind`` of a body. Raises `InvalidValue` that names all that is wrong.

    A password is never made of a number: what is hashed is the text that came.
    """
    types = {each.encode_name: inspect.type_info(each.type) for each in msgspec.structs.fields(kind)}
    return convert_fields(
        kind,
        {
            name: _loosened(value, types[name]) if name in types and name != "password" else value
            for name, value in body.items()
        },
    )


def _loosened(value: Any, info: inspect.Type) -> Any:
    """Turn a text into the number, or a number into the text, that is wanted; leave what is neither for the check."""
    wanted = {type(each): each for each in _flat(info)}
    items = wanted.get(inspect.ListType)
    if isinstance(items, inspect.ListType) and isinstance(value, list):
        return [_loosened(each, items.item_type) for each in value]
    if inspect.StrType in wanted:
        return str(value) if type(value) is int and inspect.IntType not in wanted else value
    if wanted.keys() & {inspect.IntType, inspect.EnumType}:
        with suppress(ValueError):
            return parse_whole_number(value)
    return value


def _flat(info: inspect.Type) -> Iterator[inspect.Type]:
    """Return the bare types that a type is made of."""
    if isinstance(info, inspect.Metadata):
        yield from _flat(info.type)
    elif isinstance(info, inspect.UnionType):
        for each in info.types:
            yield from _flat(each)
    else:
        yield info


def find_named_subscriber(tx: Connection, field: str, said: int | str) -> Subscriber:
    """Return the subscriber whom a body names by his ``_id``, or by his IMSI where it is one. Raises `InvalidValue`."""
    table = tables.subscriber
    try:
        number = parse_whole_number(said)
    except ValueError:
        raise InvalidValue(f"{field}: must be a whole number", {field: "must be a whole number"}) from None
    is_imsi = number >= IMSI_LEAST or (isinstance(said, str) and len(said) in (14, 15))
    which = table.c.imsi == str(said) if is_imsi else table.c.id == number
    row = tx.execute(sa.select(table).where(which, subscriber_records.NOT_DELETED)).first()
    if row is None:
        what = f"no user has {'the IMSI' if is_imsi else 'the _id'} {number}"
        raise InvalidValue(f"{field}: {what}", {field: what})
    return subscriber_records.subscriber_from_row(row)
