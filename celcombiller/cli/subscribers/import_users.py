"""``celcombiller import users``: add the subscribers of a CSV file, all or none.

Without ``--yes`` it only reads: it shows what would be added, and each row that cannot be.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celcombiller.cli.common import add_command, current_operator, open_database, print_json, print_rows
from celcombiller.cli.exit_status import DONE, REFUSED
from celcombiller.cli.terminal import echo
from celcombiller.core.access import subscriber_changes
from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.subscribers import Level
from celcombiller.core.subscribers.fields import IDENTITIES, check
from celcombiller.core.subscribers.subscriber_records import list_taken
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from celcombiller.config.tables import Config

REQUIRED = ("username", "clid", "imsi", "name")
OPTIONAL = ("cpf", "address", "level", "enabled")
SHOWN_MAX = 20
"""Rows that a preview shows of those without a fault; ``--json`` has all."""

_LEVELS = {str(int(level)): level for level in Level} | {"": Level.SUBSCRIBER}
_ENABLED = {"": True, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what can be imported."""
    kinds = parser.add_subparsers(required=True, metavar="WHAT")
    users = add_command(kinds, "users", _import, "Add the subscribers of a CSV file, all or none.")
    users.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help=f"its first line names the columns: {', '.join(REQUIRED)}, and any of {', '.join(OPTIONAL)}",
    )
    users.add_argument("--yes", action="store_true", help="add them; without it nothing is written, only shown")
    users.add_argument("--json", action="store_true", help="one JSON document, with every row")


@dataclass(slots=True)
class _Row:
    """A row of the file, by its line, and what is wrong with it."""

    line: int
    fields: dict[str, Any]
    errors: list[str] = field(default_factory=list)


def _import(arguments: argparse.Namespace, config: Config) -> int:
    """Show what would be added, or add all; return `REFUSED` when a row cannot be."""
    rows = list(_read(arguments.file))
    _find_repeated(rows)
    engine = open_database(config)
    transact(engine.execution_options(reading=True), lambda tx: _find_taken(tx, rows))
    wrong = [row for row in rows if row.errors]
    if arguments.yes and not wrong:
        now, operator = datetime.now(UTC), current_operator()

        def work(tx: Connection) -> None:
            for row in rows:
                subscriber_changes.add(tx, operator, **row.fields, password=None, now=now)

        transact(engine, work)
    _print(arguments, rows, wrong)
    return REFUSED if wrong else DONE


def _read(file: Path) -> Iterator[_Row]:
    """Yield the rows, with their values checked. Raises `InvalidValue` for what is no such file."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = "is not UTF-8 text" if isinstance(error, ValueError) else f"cannot be read: {error}"
        raise InvalidValue(f"{file}: {reason}") from None
    first = text.partition("\n")[0]
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=";" if first.count(";") > first.count(",") else ",", strict=True
    )
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        _check_columns(file, names)
        for values in reader:
            yield _convert(reader.line_num, values, len(names))
    except csv.Error as error:
        raise InvalidValue(f"{file}: line {reader.line_num}: {error}") from None


def _check_columns(file: Path, names: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in names]
    unknown = [name for name in names if name not in REQUIRED + OPTIONAL]
    if missing or unknown or len(set(names)) < len(names):
        fault = f"has no column {missing[0]}" if missing else f"has the column {(unknown or names)[0]!r}"
        raise InvalidValue(
            f"{file}: the first line {fault}; it names {', '.join(REQUIRED)}, and any of {', '.join(OPTIONAL)}, once"
        )


def _convert(line: int, values: dict[str, Any], columns: int) -> _Row:
    row = _Row(line, {"cpf": None, "address": "", "level": Level.SUBSCRIBER, "enabled": True})
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


def _find_repeated(rows: list[_Row]) -> None:
    for identity in IDENTITIES:
        seen: dict[str, int] = {}
        for row in rows:
            value = row.fields.get(identity)
            if value is not None and seen.setdefault(value, row.line) != row.line:
                row.errors.append(f"line {seen[value]} has the {identity} {value} too")


def _find_taken(tx: Connection, rows: list[_Row]) -> None:
    for identity in IDENTITIES:
        taken = list_taken(tx, identity, [row.fields[identity] for row in rows if row.fields.get(identity)])
        for row in rows:
            if row.fields.get(identity) in taken:
                row.errors.append(f"another subscriber has the {identity} {row.fields[identity]}")


def _print(arguments: argparse.Namespace, rows: list[_Row], wrong: list[_Row]) -> None:
    written = arguments.yes and not wrong
    if arguments.json:
        shown = [{"line": row.line, **row.fields, "errors": row.errors} for row in rows]
        print_json({"written": written, "rows": len(rows), "wrong": len(wrong), "items": shown})
        return
    columns = ("line", "username", "clid", "imsi", "name", "errors")
    table = [
        {name: row.fields.get(name) for name in columns} | {"line": row.line, "errors": "; ".join(row.errors)}
        for row in (wrong or rows[:SHOWN_MAX])
    ]
    print_rows(table, columns, as_json=False)
    if wrong:
        echo(f"{len(wrong)} of {len(rows)} rows cannot be imported; nothing was written.")
    elif written:
        echo(f"Added {len(rows)} subscribers.")
    else:
        echo(f"{len(rows)} rows can be imported. Nothing was written: to import them, run it again with --yes.")
