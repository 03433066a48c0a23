"""What all commands share: how they open the database, what they print, and how they read their words."""

from __future__ import annotations

import argparse
import getpass
import os
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from celcombiller.service import check_database
from celcombiller.store import open_engine
from celcombiller.trail import Actor

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa

    from celcombiller.config import Config


def command(under: Any, name: str, run: Callable[..., int], text: str) -> argparse.ArgumentParser:
    """Add a command to a list of commands."""
    made: argparse.ArgumentParser = under.add_parser(name, help=text, description=text)
    made.set_defaults(run=run)
    return made


def opened(config: Config) -> sa.Engine:
    """Give the database, after a look that it is one of this program's."""
    engine = open_engine(config.database.url, lock_seconds=config.database.lock_seconds)
    check_database(engine)
    return engine


def operator() -> Actor:
    """Give who is at the terminal, for the trail: the command, and the system's name of who runs it."""
    try:
        return Actor("command", getpass.getuser())
    except (KeyError, OSError):  # a container's user without a name
        return Actor("command", f"uid {os.getuid()}")


def print_json(value: object) -> None:
    """Print one JSON document."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_rows(rows: list[dict[str, Any]], columns: tuple[str, ...], *, as_json: bool) -> None:
    """Print a table of these columns, or all of it as JSON."""
    if as_json:
        print_json(rows)
        return
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in (columns, *cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone().isoformat(" ", "seconds")
    return "" if value is None else str(value)


def whole(least: int, most: int) -> Callable[[str], int]:
    """Give what reads a whole number between two."""

    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be from {least} to {most}")
        return value

    return number


def day(text: str) -> date:
    """Read a date."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a date such as 2026-11-05") from None
