"""``celcombiller pin``: the PINs by which subscribers confirm requests from phones."""

from __future__ import annotations

import getpass
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from celcombiller.cli.common import add_command, current_operator, find_payer, open_database
from celcombiller.cli.terminal import echo
from celcombiller.core.access.credentials import pins
from celcombiller.core.access.credentials.pins import NewPin, check_digits
from celcombiller.core.errors import InvalidValue
from celcombiller.database.transaction import transact
from celcombiller.runtime.credentials.password_hash import hash_password

if TYPE_CHECKING:
    import argparse

    import sqlalchemy as sa

    from celcombiller.config.tables import Config


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``pin``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    put = add_command(actions, "set", _set, "Set the PIN of a subscriber, asked for at the terminal.")
    put.add_argument("--pin-file", type=Path, metavar="FILE", help="a file with the PIN, instead of asking")
    gone = add_command(actions, "remove", _remove, "Remove the PIN of a subscriber.")
    for each in (put, gone):
        each.add_argument("username", help="a username or a number")


def _set(arguments: argparse.Namespace, config: Config) -> int:
    text = _ask() if arguments.pin_file is None else _read(arguments.pin_file)
    new = NewPin(text, hash_password(text))
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> str:
        who = find_payer(tx, arguments.username)
        pins.set_pin(tx, current_operator(), who.username, new, now)
        return who.username

    echo(f"{transact(open_database(config), work)} has a new PIN.")
    return 0


def _remove(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> tuple[str, bool]:
        who = find_payer(tx, arguments.username)
        return who.username, pins.remove_pin(tx, current_operator(), who.username, now)

    username, is_gone = transact(open_database(config), work)
    echo(f"{username} has no PIN {'any more' if is_gone else 'to remove'}.")
    return 0


def _read(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise InvalidValue(f"--pin-file {file}: {error}") from None
    return check_digits(text)


def _ask() -> str:
    if not sys.stdin.isatty():
        raise InvalidValue("no terminal to ask at: use --pin-file")
    text = check_digits(getpass.getpass("PIN: "))
    if text != getpass.getpass("Again: "):
        raise InvalidValue("the two PINs differ")
    return text
