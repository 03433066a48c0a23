"""Lenient bodies, as clients of the original program send them: numbers may be texts, identities may be numbers."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import inspect

from celcombiller.core.errors import InvalidValue, UnknownSubscriber
from celcombiller.core.subscribers import subscriber_records
from celcombiller.http.decoding import convert_fields, list_fields
from celcombiller.rest.legacy.search import parse_whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.subscribers import Subscriber

T = TypeVar("T", bound=msgspec.Struct)

PASSWORDS = {"password", "old_password"}

IMSI_LEAST = 10**13
"""A number of a subscriber from here on is an IMSI of 14 or 15 digits, as OpenBTS sends it."""


def convert_leniently(kind: type[T], body: Mapping[str, Any]) -> T:
    """Return a value of ``kind`` from a body. Raises `InvalidValue`, which names everything that is wrong.

    A number never becomes a password: only the text that the client sent is hashed.
    """
    types = {each.encode_name: inspect.type_info(each.type) for each in list_fields(kind)}
    return convert_fields(
        kind,
        {
            name: _coerce(value, types[name]) if name in types and name not in PASSWORDS else value
            for name, value in body.items()
        },
    )


def _coerce(value: Any, info: inspect.Type) -> Any:
    """Return a text as the number, or a number as the text, that the type needs. The rest is left to the check."""
    wanted = {type(each): each for each in _bare_types(info)}
    items = wanted.get(inspect.ListType)
    if isinstance(items, inspect.ListType) and isinstance(value, list):
        return [_coerce(each, items.item_type) for each in value]
    if inspect.StrType in wanted:
        return str(value) if type(value) is int and inspect.IntType not in wanted else value
    if wanted.keys() & {inspect.IntType, inspect.EnumType}:
        with suppress(ValueError):
            return parse_whole_number(value)
    return value


def _bare_types(info: inspect.Type) -> Iterator[inspect.Type]:
    """Yield the bare types that a type consists of."""
    if isinstance(info, inspect.Metadata):
        yield from _bare_types(info.type)
    elif isinstance(info, inspect.UnionType):
        for each in info.types:
            yield from _bare_types(each)
    else:
        yield info


def find_named_subscriber(tx: Connection, field: str, value: int | str) -> Subscriber:
    """Return the subscriber that a body names by ``_id`` or by IMSI. Raises `InvalidValue`."""
    try:
        number = parse_whole_number(value)
    except ValueError:
        raise InvalidValue(f"{field}: must be a whole number", {field: "must be a whole number"}) from None
    is_imsi = number >= IMSI_LEAST or (isinstance(value, str) and len(value) in (14, 15))
    try:
        if is_imsi:
            return subscriber_records.find_by_imsi(tx, str(value))
        return subscriber_records.find_by_id(tx, number)
    except UnknownSubscriber:
        what = f"no user has {'the IMSI' if is_imsi else 'the _id'} {number}"
        raise InvalidValue(f"{field}: {what}", {field: what}) from None
