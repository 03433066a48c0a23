"""The search language of the original's lists (Flask-Restless 0.17): the JSON of ``?q=`` to conditions in SQL.

A search is checked against the fields of a collection before it becomes SQL, and everything in it has a limit. Both
databases answer alike: text is compared by its octets, ``like`` ignores the case of A to Z only, and null sorts before
all values, as in SQLite.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import sqlalchemy as sa

from celcombiller.core.errors import BrokenRequest
from celcombiller.core.schema import tables
from celcombiller.http.decoding import parse_json

DEPTH_MAX = 10
FILTERS_MAX = 100
VALUES_MAX = 500
ORDERS_MAX = 10
PATTERN_MAX = 200
WILDCARDS_MAX = 10
"""At each ``%`` a database tries every place of the text."""

OFFSET_MAX = 10**9
"""An offset stays below 32 bits."""

WHOLE_MAX = 2**63 - 1
"""The largest number that a column of either database holds."""

_DIGITS_MAX = 14
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_VARIES = re.compile(r"[%_A-Za-z]")
"""Characters with which a pattern matches other texts too."""

_ESCAPE = "\x01"
"""A backslash in a pattern is an escape in PostgreSQL, and not in SQLite."""

Columns = Mapping[str, sa.ColumnElement[Any]]


class Shape(Enum):
    """The type of a field, in SQL and in JSON."""

    WHOLE = "a whole number"
    DIGITS = "a whole number that is kept as text, with its leading zeros"
    TEXT = "text"
    INSTANT = "a time, such as 2026-11-01T12:00:00"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a collection. ``listed``: it is in lists only, and only if it has a value."""

    shape: Shape
    nullable: bool = False
    listed: bool = False


Fields = Mapping[str, Field]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One filter: the field ``name`` against a value, or against the field ``other``."""

    name: str
    operator: str
    value: Any = None
    other: str | None = None


@dataclass(frozen=True, slots=True)
class Junction:
    """Filters of which all must hold, or at least one."""

    every: bool
    filters: tuple[Comparison | Junction, ...]


Filter = Comparison | Junction


@dataclass(frozen=True, slots=True)
class Search:
    """A checked search."""

    filters: tuple[Filter, ...] = ()
    order_by: tuple[tuple[str, bool], ...] = ()
    """Names of fields, and whether the order is descending."""
    group_by: tuple[str, ...] = ()
    limit: int | None = None
    offset: int = 0
    single: bool = False

    def names(self) -> set[str]:
        """Return the fields that the filters need."""
        return {name for each in self.filters for name in _names(each)}

    def pinned(self, name: str) -> int | None:
        """Return the value that a field must have in all results, if a filter demands one."""
        values = (each.value for each in self.filters if isinstance(each, Comparison) and _pins(each, name))
        return next(values, None)


def _names(each: Filter) -> Iterator[str]:
    if isinstance(each, Junction):
        for inner in each.filters:
            yield from _names(inner)
    else:
        yield each.name
        if each.other is not None:
            yield each.other


def _pins(each: Comparison, name: str) -> bool:
    return (each.name, each.operator, each.other) == (name, "eq", None)


_SYNONYMS = {
    "eq": ("==", "eq", "equals", "equal_to", "equals_to"),
    "ne": ("!=", "ne", "neq", "not_equal_to", "does_not_equal"),
    "gt": (">", "gt"),
    "lt": ("<", "lt"),
    "ge": (">=", "ge", "gte", "geq"),
    "le": ("<=", "le", "lte", "leq"),
    "like": ("like", "ilike"),
    "in": ("in",),
    "not_in": ("not_in",),
    "is_null": ("is_null",),
    "is_not_null": ("is_not_null",),
}
OPERATORS = {word: operator for operator, words in _SYNONYMS.items() for word in words}
_ELSEWHERE = {
    "has": "nothing here has relations: has and any find nothing",
    "any": "nothing here has relations: has and any find nothing",
    "asc": "asc and desc put in order and do not filter: say so in order_by",
    "desc": "asc and desc put in order and do not filter: say so in order_by",
}


# -- reading ---------------------------------------------------------------------------------------------------------


def parse_search(source: Any, fields: Fields, now: datetime) -> Search:
    """Return a search, from the text of ``?q=`` or from decoded JSON. Raises `BrokenRequest` with the reason."""
    given = parse_json(source.encode()) if isinstance(source, str) else source
    if not isinstance(given, dict):
        raise BrokenRequest("Unable to decode data: q must be an object, {…}")
    reader = _Reader(fields, now)
    return Search(
        filters=tuple(reader.read_filter(each, 1) for each in _read_list(given, "filters", FILTERS_MAX)),
        order_by=tuple(reader.read_order(each) for each in _read_list(given, "order_by", ORDERS_MAX)),
        group_by=tuple(reader.read_group(each) for each in _read_list(given, "group_by", ORDERS_MAX)),
        limit=_read_count(given, "limit") or None,
        offset=_read_count(given, "offset"),
        single=bool(given.get("single")),
    )


class _Reader:
    """Reads the parts of one search, and counts its filters."""

    def __init__(self, fields: Fields, now: datetime) -> None:
        self._fields = fields
        self._now = now
        self._filters = 0

    def read_filter(self, given: Any, depth: int) -> Filter:
        """Read one filter, with those inside it."""
        if not isinstance(given, dict):
            raise _make_refusal("a filter is an object, {…}")
        self._filters += 1
        if self._filters > FILTERS_MAX:
            raise _make_refusal(f"there are more than {FILTERS_MAX} filters")
        junctions = [word for word in ("or", "and") if word in given]
        if not junctions:
            return self._read_comparison(given)
        if len(given) > 1:
            raise _make_refusal(f"{junctions[0]} stands alone in its object")
        inner = _read_list(given, junctions[0], FILTERS_MAX)
        if not inner:
            raise _make_refusal(f"{junctions[0]} needs at least one filter")
        if depth >= DEPTH_MAX:
            raise _make_refusal(f"filters are nested deeper than {DEPTH_MAX}")
        return Junction(junctions[0] == "and", tuple(self.read_filter(each, depth + 1) for each in inner))

    def _read_comparison(self, given: dict[str, Any]) -> Comparison:
        name = self._read_name(given.get("name"))
        word = given.get("op")
        if not isinstance(word, str) or word not in OPERATORS:
            known = _ELSEWHERE.get(word) if isinstance(word, str) else None
            raise _make_refusal(known or f"{_show_value(word)} is no operator; known are {', '.join(OPERATORS)}")
        operator = OPERATORS[word]
        if operator in ("is_null", "is_not_null"):
            return Comparison(name, operator)
        if given.get("field") is not None:
            return self._compare_fields(name, operator, self._read_name(given["field"]))
        return Comparison(name, operator, self._read_value(name, operator, given.get("val")))

    def _compare_fields(self, name: str, operator: str, other: str) -> Comparison:
        if operator in ("like", "in", "not_in"):
            raise _make_refusal(f"{operator} needs a val, not another field")
        numbers = {Shape.WHOLE, Shape.DIGITS}
        shapes = {self._fields[name].shape, self._fields[other].shape}
        if len(shapes) > 1 and shapes != numbers:
            raise _make_refusal(f"{name} and {other} cannot be compared")
        return Comparison(name, operator, other=other)

    def _read_value(self, name: str, operator: str, value: Any) -> Any:
        shape = self._fields[name].shape
        if value is None:
            raise _make_refusal(f"{name}: val is missing (to look for nothing use is_null or is_not_null)")
        if operator in ("in", "not_in"):
            if not isinstance(value, list) or len(value) > VALUES_MAX:
                raise _make_refusal(f"{name}: {operator} needs a list of at most {VALUES_MAX} values")
            return tuple(self._read_one(name, shape, each) for each in value)
        if operator == "like":
            if shape is Shape.INSTANT:
                raise _make_refusal(f"{name} is {shape.value}: it can be compared, but not matched with a pattern")
            pattern = self._read_one(name, Shape.TEXT, value)
            if len(pattern) > PATTERN_MAX or pattern.count("%") > WILDCARDS_MAX:
                raise _make_refusal(f"{name}: a pattern has at most {PATTERN_MAX} characters and {WILDCARDS_MAX} %")
            return pattern
        return self._read_one(name, shape, value)

    def _read_one(self, name: str, shape: Shape, value: Any) -> Any:
        try:
            match shape:
                case Shape.WHOLE | Shape.DIGITS:
                    return parse_whole_number(value)
                case Shape.TEXT:
                    return parse_text(value)
                case Shape.INSTANT:
                    return self._read_instant(value)
        except ValueError:
            raise _make_refusal(f"{name} must be {shape.value}, not {_show_value(value)}") from None

    def _read_instant(self, value: Any) -> datetime:
        if value in ("CURRENT_TIMESTAMP", "LOCALTIMESTAMP"):
            return self._now
        if value == "CURRENT_DATE":
            return self._now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
        return parse_instant(value)

    def read_order(self, given: Any) -> tuple[str, bool]:
        """Read one item of order_by."""
        direction = given.get("direction", "asc") if isinstance(given, dict) else None
        if direction not in ("asc", "desc"):
            raise _make_refusal('order_by is a list of {"field": …, "direction": "asc" or "desc"}')
        return self._read_name(given.get("field")), direction == "desc"

    def read_group(self, given: Any) -> str:
        """Read one item of group_by."""
        if not isinstance(given, dict):
            raise _make_refusal('group_by is a list of {"field": …}')
        return self._read_name(given.get("field"))

    def _read_name(self, name: Any) -> str:
        if isinstance(name, str) and name in self._fields:
            return name
        if isinstance(name, str) and "__" in name:
            raise _make_refusal(f"nothing here has relations, so there is no field {_show_value(name)}")
        raise _make_refusal(f"there is no field {_show_value(name)}; there are {', '.join(self._fields)}")


def _read_list(given: dict[str, Any], name: str, most: int) -> Sequence[Any]:
    value = given.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > most:
        raise _make_refusal(f"{name} is a list of at most {most}")
    return value


def _read_count(given: dict[str, Any], name: str) -> int:
    try:
        value = parse_whole_number(given.get(name) or 0)
    except ValueError:
        value = -1
    if not 0 <= value <= OFFSET_MAX:
        raise _make_refusal(f"{name} must be a whole number from 0 to {OFFSET_MAX}")
    return value


def _make_refusal(why: str) -> BrokenRequest:
    return BrokenRequest(f"Unable to construct query: {why}")


def _show_value(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"  # noqa: PLR2004  a message stays readable


# -- values, leniently typed as clients of the original send them ----------------------------------------------------


def parse_whole_number(value: Any) -> int:
    """Return a whole number, from a JSON number or from digits in a text. Raises `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(value)  # noqa: TRY004  one error for all that is no number
    if isinstance(value, str) and not _WHOLE.fullmatch(value):
        raise ValueError(value)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    number = int(value)
    if abs(number) > WHOLE_MAX:
        raise ValueError(value)
    return number


def parse_text(value: Any) -> str:
    """Return a text; a whole number becomes its digits. Raises `ValueError`."""
    return value if isinstance(value, str) else str(parse_whole_number(value))


def parse_instant(value: Any) -> datetime:
    """Return an ISO 8601 time. Without a zone it is local time of this machine. Raises `ValueError`."""
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004  a value of the wrong type is wrong input
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (OverflowError, OSError):  # the first and the last possible day, in other zones
        raise ValueError(value) from None


# -- to SQL ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds the SQL of a search over some columns, for the dialect of one database."""

    fields: Fields
    columns: Columns
    dialect: str

    def conditions(self, filters: Sequence[Filter]) -> list[sa.ColumnElement[bool]]:
        """Return a condition for each filter; all must hold."""
        return [self._condition(each) for each in filters]

    def _condition(self, each: Filter) -> sa.ColumnElement[bool]:
        if isinstance(each, Junction):
            inner = self.conditions(each.filters)
            return sa.and_(*inner) if each.every else sa.or_(*inner)
        if each.operator in ("is_null", "is_not_null"):
            nothing = self.columns[each.name].is_(None)
            return nothing if each.operator == "is_null" else sa.not_(nothing)
        if each.operator == "like":
            return self._like(each)
        if each.operator in ("in", "not_in"):
            return self._match_any(each.name, each.value, not_in=each.operator == "not_in")
        return self._compare(each)

    def _match_any(self, name: str, values: Sequence[Any], *, not_in: bool = False) -> sa.ColumnElement[bool]:
        column = self._typed(name)
        if self.fields[name].shape is Shape.DIGITS:
            column, values = self.columns[name], [text for value in values for text in _spellings(value)]
        if not values:  # null equals no value, and no null
            return column.is_not(None) if not_in else sa.false()
        return column.not_in(values) if not_in else column.in_(values)

    def _compare(self, each: Comparison) -> sa.ColumnElement[bool]:
        if each.other is None and each.operator in ("eq", "ne"):
            return self._match_any(each.name, (each.value,), not_in=each.operator == "ne")
        ordered = each.operator not in ("eq", "ne")
        mine = self._ordered(each.name, self.columns[each.name]) if ordered else self._typed(each.name)
        theirs = each.value if each.other is None else self._typed(each.other)
        compared: sa.ColumnElement[bool] = getattr(mine, f"__{each.operator}__")(theirs)
        return compared

    def _like(self, each: Comparison) -> sa.ColumnElement[bool]:
        column: sa.ColumnElement[Any] = self._typed(each.name)
        if self.fields[each.name].shape is not Shape.TEXT:
            column = sa.cast(column, sa.Text)
        if not _VARIES.search(each.value):  # old AGI scripts look for a number so; an index finds it
            return column.in_([each.value])
        pattern = each.value.replace(_ESCAPE, _ESCAPE * 2)
        if self.dialect == "sqlite":  # its LIKE is ILIKE for A to Z
            return column.like(pattern, escape=_ESCAPE)
        return sa.collate(column, "C").ilike(pattern, escape=_ESCAPE)

    def _typed(self, name: str) -> sa.ColumnElement[Any]:
        return _typed(self.fields[name].shape, self.columns[name])

    def _ordered(self, name: str, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Return the expression by which a field is compared and ordered."""
        shape = self.fields[name].shape
        typed = _typed(shape, column)
        return sa.collate(typed, "C") if shape is Shape.TEXT and self.dialect != "sqlite" else typed

    def order(self, name: str, column: sa.ColumnElement[Any], *, descending: bool) -> sa.ColumnElement[Any]:
        """Return the order of a column. Null is smaller than all values."""
        ordered = self._ordered(name, column)
        direction = ordered.desc() if descending else ordered.asc()
        if not self.fields[name].nullable or self.dialect == "sqlite":
            return direction
        return direction.nulls_last() if descending else direction.nulls_first()


def _typed(shape: Shape, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return a column that accepts all values of a search, whatever its own width."""
    match shape:
        case Shape.WHOLE:
            return sa.type_coerce(column, sa.BigInteger)
        case Shape.DIGITS:
            return sa.cast(column, sa.BigInteger)
        case Shape.TEXT:
            return sa.type_coerce(column, sa.Text)
        case Shape.INSTANT:
            return sa.type_coerce(column, tables.Instant)


def _spellings(value: int) -> list[str]:
    """Return each text of digits that is this number, so that an index of the texts finds it."""
    digits = str(value)
    return [] if value < 0 else [digits.zfill(length) for length in range(len(digits), _DIGITS_MAX + 1)]
