"""Bodies as the original's clients send them: numbers may be texts, identities may be numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec import inspect

from celcombiller import schema, subscribers
from celcombiller.errors import InvalidValue
from celcombiller.rest.reading import checked
from celcombiller.rest.search import whole_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from celcombiller.model import Subscriber

T = TypeVar("T", bound=msgspec.Struct)

IMSI_LEAST = 10**13
"""A subscriber's number so large is an IMSI (14 or 15 digits), as OpenBTS tells it."""


def loosely(kind: type[T], body: Mapping[str, Any]) -> T:
    """Make a value of ``kind`` of a body. Raises `InvalidValue` that names all that is wrong.

    A password is never made of a number: what is hashed is the text that came.
    """
    texts = {
        each.encode_name
        for each in msgspec.structs.fields(kind)
        if each.name != "password" and _is_text(inspect.type_info(each.type))
    }
    given = {name: str(value) if name in texts and type(value) is int else value for name, value in body.items()}
    return checked(kind, given, strict=False)


def _is_text(info: inspect.Type) -> bool:
    if isinstance(info, inspect.Metadata):
        return _is_text(info.type)
    if isinstance(info, inspect.UnionType):
        return any(map(_is_text, info.types)) and not any(isinstance(each, inspect.IntType) for each in info.types)
    return isinstance(info, inspect.StrType)


def subscriber_said(tx: Connection, field: str, said: int | str) -> Subscriber:
    """Give the subscriber whom a body names by his ``_id``, or by his IMSI where it is one. Raises `InvalidValue`."""
    table = schema.subscriber
    try:
        number = whole_of(said)
    except ValueError:
        raise InvalidValue(f"{field}: must be a whole number", {field: "must be a whole number"}) from None
    is_imsi = number >= IMSI_LEAST or (isinstance(said, str) and len(said) in (14, 15))
    which = table.c.imsi == str(said) if is_imsi else table.c.id == number
    row = tx.execute(sa.select(table).where(which, subscribers.LIVING)).first()
    if row is None:
        what = f"no user has {'the IMSI' if is_imsi else 'the _id'} {number}"
        raise InvalidValue(f"{field}: {what}", {field: what})
    return subscribers.subscriber_of(row)
