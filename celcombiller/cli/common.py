"""What the commands share: opening the database, printing, and reading arguments."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from celcombiller.cli.terminal import echo, print_table
from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.access.password_rules import check_password
from celcombiller.core.errors import InvalidValue, UnknownSubscriber
from celcombiller.core.model.text import escape_json, escape_unprintable
from celcombiller.core.subscribers.directory import Directory
from celcombiller.database.engine import open_engine
from celcombiller.database.health import check_database
from celcombiller.database.instance_lock import check_hard_links
from celcombiller.runtime.credentials.password_hash import LENGTH_MIN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import sqlalchemy as sa

    from celcombiller.config.tables import Config
    from celcombiller.core.model.subscribers import Subscriber


def add_command(under: Any, name: str, run: Callable[..., int], text: str) -> argparse.ArgumentParser:
    """Add a command to a list of commands."""
    made: argparse.ArgumentParser = under.add_parser(name, help=text, description=text)
    made.set_defaults(run=run)
    return made


def open_database(config: Config) -> sa.Engine:
    """Return the database, after checking that its tables are of this version."""
    check_hard_links(config.database.url)
    engine = open_engine(config.database.url, lock_seconds=config.database.lock_seconds)
    check_database(engine)
    return engine


def current_operator() -> Actor:
    """Return the author of a change for the audit trail: the command, and the operating system's user."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container a user may have no name
        user = f"uid {os.getuid()}"
    return Actor("command", user, manages=ALL_LEVELS)


def find_payer(tx: sa.Connection, who: str) -> Subscriber:
    """Return the subscriber who pays, found by username, number, or ``IMSI`` and digits."""
    found = Directory.load(tx, [who]).find_payer(who, "")
    if found is None:
        raise UnknownSubscriber(f"no subscriber has the username or the number {who}")
    return found


def print_json(value: object) -> None:
    """Print one JSON document."""
    print(escape_json(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))


def print_rows(rows: list[dict[str, Any]], columns: tuple[str, ...], *, as_json: bool) -> None:
    """Print these columns as a table, or whole rows as JSON."""
    if as_json:
        print_json(rows)
        return
    cells = [[escape_unprintable(_cell(row[column])) for column in columns] for row in rows]
    if sys.stdout.isatty():
        print_table(columns, cells)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in (columns, *cells):
        echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone().isoformat(" ", "seconds")
    return "" if value is None else str(value)


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return a function that reads a whole number from ``least`` to ``most``."""

    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be from {least} to {most}")
        return value

    return number


def parse_date(text: str) -> date:
    """Read a date."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a date such as 2026-11-05") from None


def parse_time(text: str) -> datetime:
    """Read a time. Without a zone it is in the zone of this machine, as printed times are."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError("must be a time such as 2026-11-05 or 2026-11-05T18:30:00Z") from None


LIST_MAX = 1000


def read_password(file: Path | None) -> str | None:
    """Return the password in a file, or None without a file. Raises `InvalidValue` when it cannot be used."""
    if file is None:
        return None
    try:
        password = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise InvalidValue(f"--password-file {file}: {error}") from None
    if len(password) < LENGTH_MIN:
        raise InvalidValue(f"--password-file {file}: a password has at least {LENGTH_MIN} characters")
    try:
        check_password(password)
    except InvalidValue as error:
        raise InvalidValue(f"--password-file {file}: {error}") from None
    return password


def ask_password(prompt: str) -> str:
    """Ask for a new password at the terminal, twice. Raises `InvalidValue`."""
    if not sys.stdin.isatty():
        raise InvalidValue("no terminal to ask at: use --password-file")
    password = getpass.getpass(prompt)
    if password != getpass.getpass("Again: "):
        raise InvalidValue("the two passwords differ")
    if len(password) < LENGTH_MIN:
        raise InvalidValue(f"a password has at least {LENGTH_MIN} characters")
    return password
