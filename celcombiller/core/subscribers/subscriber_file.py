"""Subscribers to add from a CSV file: its rows, and what is wrong with each of them."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.subscribers import Level
from celcombiller.core.subscribers.fields import IDENTITIES, check
from celcombiller.core.subscribers.subscriber_records import list_taken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

REQUIRED = ("username", "clid", "imsi", "name")
OPTIONAL = ("cpf", "address", "level", "enabled")

_LEVELS = {str(int(level)): level for level in Level} | {"": Level.SUBSCRIBER}
_ENABLED = {"": True, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(slots=True)
class SubscriberRow:
    """A row of the file, by its line, and what is wrong with it."""

    line: int
    fields: dict[str, Any]
    errors: list[str] = field(default_factory=list)


def read_rows(raw: bytes) -> Iterator[SubscriberRow]:
    """Yield the rows, with their values checked. Raises `InvalidValue` for what is no such file."""
    try:
        text = raw.decode("utf-8-sig")
    except ValueError:
        raise InvalidValue("is not UTF-8 text") from None
    first = text.partition("\n")[0]
    lines = (f"{line}\n" for line in text.split("\n"))  # a line in quotes may go on in the next
    reader = csv.DictReader(lines, delimiter=";" if first.count(";") > first.count(",") else ",", strict=True)
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        _check_columns(names)
        for values in reader:
            yield _convert(reader.line_num, values, len(names))
    except csv.Error as error:
        raise InvalidValue(f"line {reader.line_num}: {error}") from None


def find_conflicts(tx: Connection, rows: list[SubscriberRow]) -> None:
    """Note with each row which identities of it another row or a subscriber has."""
    _find_repeated(rows)
    _find_taken(tx, rows)


def _check_columns(names: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in names]
    unknown = [name for name in names if name not in REQUIRED + OPTIONAL]
    if missing or unknown or len(set(names)) < len(names):
        fault = f"has no column {missing[0]}" if missing else f"has the column {(unknown or names)[0]!r}"
        raise InvalidValue(
            f"the first line {fault}; it names {', '.join(REQUIRED)}, and any of {', '.join(OPTIONAL)}, once"
        )


def _convert(line: int, values: dict[str, Any], columns: int) -> SubscriberRow:
    row = SubscriberRow(line, {"cpf": None, "address": "", "level": Level.SUBSCRIBER, "enabled": True})
    if None in values or len([each for each in values.values() if each is not None]) != columns:
        row.errors.append(f"has not {columns} values")
        return row
    for name, text in values.items():
        value = text.strip()
        try:
            row.fields[name] = _value(name, value)
        except InvalidValue as error:
            row.fields[name] = value
            row.errors.append(str(error))
    return row


def _value(name: str, text: str) -> Any:
    if name == "cpf" and not text:
        return None
    if name in ("level", "enabled"):
        choices: dict[str, Any] = _LEVELS if name == "level" else _ENABLED
        if text.lower() not in choices:
            raise InvalidValue(f"{name} must be one of {', '.join(filter(None, choices))}")
        return choices[text.lower()]
    return check(name, text)


def _find_repeated(rows: list[SubscriberRow]) -> None:
    for identity in IDENTITIES:
        seen: dict[str, int] = {}
        for row in rows:
            value = row.fields.get(identity)
            if value is not None and seen.setdefault(value, row.line) != row.line:
                row.errors.append(f"line {seen[value]} has the {identity} {value} too")


def _find_taken(tx: Connection, rows: list[SubscriberRow]) -> None:
    for identity in IDENTITIES:
        taken = list_taken(tx, identity, [row.fields[identity] for row in rows if row.fields.get(identity)])
        for row in rows:
            if row.fields.get(identity) in taken:
                row.errors.append(f"another subscriber has the {identity} {row.fields[identity]}")
