"""``celcombiller import users``: add the subscribers of a CSV file, all or none.

Without ``--yes`` it only reads: it shows what would be added, and each row that cannot be.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from celcombiller.cli.common import add_command, current_operator, open_database, print_json, print_rows
from celcombiller.cli.exit_status import DONE, REFUSED
from celcombiller.cli.terminal import echo
from celcombiller.core.access.changes import subscriber_changes
from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.text import format_count
from celcombiller.core.subscribers.subscriber_file import OPTIONAL, REQUIRED, find_conflicts, read_rows
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse

    from sqlalchemy.engine import Connection

    from celcombiller.config.tables import Config
    from celcombiller.core.subscribers.subscriber_file import SubscriberRow

SHOWN_MAX = 20
"""Rows that a preview shows of those without a fault; ``--json`` has all."""


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


def _import(arguments: argparse.Namespace, config: Config) -> int:
    """Show what would be added, or add all; return `REFUSED` when a row cannot be."""
    rows = _read(arguments.file)
    engine = open_database(config)
    transact(engine.execution_options(reading=True), lambda tx: find_conflicts(tx, rows))
    wrong = [row for row in rows if row.errors]
    if arguments.yes and not wrong:
        now, operator = datetime.now(UTC), current_operator()

        def work(tx: Connection) -> None:
            for row in rows:
                subscriber_changes.add(tx, operator, **row.fields, password=None, now=now)

        transact(engine, work)
    _print(arguments, rows, wrong)
    return REFUSED if wrong else DONE


def _read(file: Path) -> list[SubscriberRow]:
    """Return the rows of a file. Raises `InvalidValue`, which names the file, for what is no such file."""
    try:
        return list(read_rows(file.read_bytes()))
    except OSError as error:
        raise InvalidValue(f"{file}: cannot be read: {error}") from None
    except InvalidValue as error:
        raise InvalidValue(f"{file}: {error}") from None


def _print(arguments: argparse.Namespace, rows: list[SubscriberRow], wrong: list[SubscriberRow]) -> None:
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
        echo(f"Added {format_count(len(rows), 'subscriber')}.")
    else:
        echo(f"{len(rows)} rows can be imported. Nothing was written: to import them, run it again with --yes.")
