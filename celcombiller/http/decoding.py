"""Octets to checked values: JSON, queries and fields. Each error names everything that is wrong."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

import msgspec

from celcombiller.core.errors import BrokenRequest, InvalidValue, WrongMediaType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

T = TypeVar("T", bound=msgspec.Struct)

QUERY_FIELDS_MAX = 50
EXACT_CHARACTERS = 15
"""So many decimal digits a ``float`` keeps. A number is written in no fewer characters, and most are not longer."""
SHOWN_CHARACTERS = 40
NUL = "\x00"
WHOLE_DIGITS = 16
"""Not every reader of JSON keeps whole numbers of more digits exact (RFC 8259, section 6)."""
_WHOLE = re.compile(r"-?[0-9]{1,18}")


def parse_json(raw: bytes) -> Any:
    """Return a JSON document: UTF-8, no key twice, no NaN, no NUL in a text. Raises `BrokenRequest`."""
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_number)
    except UnicodeDecodeError:
        raise BrokenRequest("Unable to decode data: it is not UTF-8") from None
    except RecursionError:
        raise BrokenRequest("Unable to decode data: it is nested too deep") from None
    except (json.JSONDecodeError, _NotOurJsonError) as error:
        raise BrokenRequest(f"Unable to decode data: {error}") from None
    except ValueError:  # Python does not convert thousands of digits, as that takes long
        raise BrokenRequest("Unable to decode data: a number has too many digits") from None
    _check_texts(value)
    return value


def parse_body(raw: bytes, content_type: str | None) -> dict[str, Any]:
    """Return the body of a request, which must be a JSON object. Without ``content_type`` its type is not checked.

    Raises `WrongMediaType` and `BrokenRequest`.
    """
    if content_type is not None:
        kind = content_type.partition(";")[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise WrongMediaType("send JSON, with the header Content-Type: application/json")
    value = parse_json(raw)
    if not isinstance(value, dict):
        raise BrokenRequest("Unable to decode data: it must be an object, {…}")
    return value


def merge_field_lists(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a body, which may be two lists: ``{"fields": […], "values": […]}``.

    The front end of the original program sends changes so. Raises `BrokenRequest` unless the lists are a pair.
    """
    if "fields" not in body and "values" not in body:
        return dict(body)
    names, values = body.get("fields"), body.get("values")
    paired = isinstance(names, list) and isinstance(values, list) and len(names) == len(values)
    if not paired or body.keys() != {"fields", "values"} or not all(isinstance(each, str) for each in names or ()):
        raise BrokenRequest("fields and values must be two lists of one length, names in the first, and stand alone")
    merged = dict(zip(names or (), values or (), strict=True))
    if len(merged) != len(names or ()):
        raise BrokenRequest("fields names one field twice")
    return merged


def parse_query(text: bytes) -> dict[str, str]:
    """Return a query string: UTF-8, no name twice. Raises `BrokenRequest`."""
    found: dict[str, str] = {}
    for name, value in _pairs(text, "query"):
        if name in found:
            raise BrokenRequest(f"the query has {_shorten(name)} twice")
        found[name] = value
    _check_texts(found)
    return found


def parse_form(raw: bytes, fields_max: int = QUERY_FIELDS_MAX) -> dict[str, str]:
    """Return a form (application/x-www-form-urlencoded); of a name twice, the last value. Raises `BrokenRequest`.

    As browsers' own parsers do, this takes characters that are not escaped, and signs between pairs too many.
    """
    found = dict(_pairs(raw.strip(b"\r\n"), "form", fields_max))
    _check_texts(found)
    return found


def _pairs(text: bytes, what: str, fields_max: int = QUERY_FIELDS_MAX) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=fields_max)
    except ValueError:
        raise BrokenRequest(f"the {what} is not UTF-8, or has too many fields") from None


def convert_fields(kind: type[T], given: Mapping[str, Any], *, strict: bool = True) -> T:
    """Return a value of ``kind``. Raises `InvalidValue`, which names each field that is wrong, missing or unknown.

    Without ``strict`` a text becomes the whole number or the boolean that its field needs, as in a query. Times are
    returned in UTC.
    """
    known = {each.encode_name: each for each in list_fields(kind)}
    wrong = dict.fromkeys(given.keys() - known.keys(), "there is no such field")
    values: dict[str, Any] = {}
    for name, each in known.items():
        if name not in given:
            if each.required:
                wrong[name] = "is missing"
            continue
        try:
            value = given[name]
            if not strict and isinstance(value, str):
                value = _from_text(value, each.type)
            values[each.name] = _in_utc(msgspec.convert(value, each.type))
        except (msgspec.ValidationError, OverflowError) as error:
            wrong[name] = _allowed(error, each.type)
    if wrong:
        raise InvalidValue("; ".join(f"{name}: {what}" for name, what in sorted(wrong.items())), wrong)
    return kind(**values)


@cache
def list_fields(kind: type[Any]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Return the fields of a struct. msgspec reads all its annotations each time that it is asked (0.2 ms)."""
    return msgspec.structs.fields(kind)


@cache
def list_types(kind: Any) -> tuple[Any, ...]:
    """Return a type and, if it is a union, its members, without what describes them."""
    return tuple(getattr(each, "type", each) for each in _list_described(kind))


def _list_described(kind: Any) -> tuple[Any, ...]:
    info = msgspec.inspect.type_info(kind)
    return (info, *getattr(info, "types", ()))


def _from_text(text: str, kind: Any) -> Any:
    """Return the number or boolean that a text of a query is. Any other text is left to the check."""
    inner = list_types(kind)
    if any(isinstance(each, msgspec.inspect.BoolType) for each in inner):
        return {"true": True, "false": False}.get(text, text)
    whole = any(isinstance(each, msgspec.inspect.IntType) or _is_int_enum(each) for each in inner)
    return int(text) if whole and _WHOLE.fullmatch(text) else text


def _is_int_enum(each: Any) -> bool:
    return isinstance(each, msgspec.inspect.EnumType) and issubclass(each.cls, int)


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else value


def _allowed(error: Exception, kind: Any) -> str:
    """Return what is allowed: the type's own description where it has one, else msgspec's words."""
    for each in _list_described(kind):
        extra = getattr(each, "extra_json_schema", None) or {}
        if "description" in extra:
            return f"must be {extra['description']}"
    return str(error)[:1].lower() + str(error)[1:]


class _NotOurJsonError(ValueError):
    """JSON of a form that is not accepted here."""


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _NotOurJsonError(f"the key {_shorten(name)!r} stands there twice")
        found[name] = value
    return found


def _number(text: str) -> int | float:
    """Return a number that has a point or an exponent. ``5.0`` is the whole number 5, as in JSON Schema."""
    number = float(text)
    if not math.isfinite(number):
        raise _NotOurJsonError(f"the number {_shorten(text)} is too large")
    if len(text) <= EXACT_CHARACTERS and number.is_integer():
        return int(number)
    if not number.is_integer() or abs(number) >= 10**WHOLE_DIGITS:
        return number
    try:
        value = Decimal(text)
    except ArithmeticError:  # an exponent of many digits
        return number
    if value != value.to_integral_value():
        return number
    return int(value) if value else 0


def _shorten(text: str) -> str:
    """Return a text as a message shows it."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _constant(word: str) -> NoReturn:
    raise _NotOurJsonError(f"{word} is not JSON")


def _check_texts(value: Any) -> None:
    """Raise `BrokenRequest` for what no database keeps: NUL, and half of a surrogate pair."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += each.keys()
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, str):
            if NUL in each:
                raise BrokenRequest("a text has a NUL character")
            try:
                each.encode()
            except UnicodeEncodeError:
                raise BrokenRequest("a text has half a character (an unpaired surrogate)") from None
