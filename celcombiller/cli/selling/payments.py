"""``celcombiller payment``: payments that providers report: list and show them, say whose one is, take one back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celcombiller.cli.common import (
    LIST_MAX,
    add_command,
    current_operator,
    find_payer,
    open_database,
    print_json,
    print_rows,
    whole_number,
)
from celcombiller.cli.terminal import echo
from celcombiller.core.payments import payment_records
from celcombiller.core.payments.payment_records import Payment, PaymentState
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse

    import sqlalchemy as sa

    from celcombiller.config.tables import Config

COLUMNS = ("id", "received_at", "provider", "provider_id", "recipient", "username", "amount", "currency", "credits")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``payment``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listed = add_command(actions, "list", _list, "List payments, the newest first.")
    listed.add_argument("username", nargs="?", metavar="WHO", help="only of this username, or number")
    listed.add_argument("--state", choices=[each.value for each in PaymentState], help="unassigned: they wait for you")
    listed.add_argument("--provider", metavar="NAME", help="only of this one")
    listed.add_argument("--debt", action="store_true", help="only those that could not all be taken back")
    listed.add_argument("--limit", type=whole_number(1, LIST_MAX), default=50)
    show = add_command(actions, "show", _show, "Show a payment.")
    assign = add_command(actions, "assign", _assign, "Credit a payment that waits to a subscriber.")
    reverse = add_command(actions, "reverse", _reverse, "Take the credit of a payment back.")
    for each in (show, assign, reverse):
        each.add_argument("id", type=whole_number(1, 2**53 - 1), metavar="ID", help="its number, as `list` shows it")
    assign.add_argument("username", metavar="WHO", help="a username, or a number")
    reverse.add_argument("--note", required=True, metavar="TEXT", help="why")
    reverse.add_argument(
        "--debt", action="store_true", help="where it is spent: take what is there, and record the rest as a debt"
    )
    for each in (listed, show, assign, reverse):
        each.add_argument("--json", action="store_true", help="one JSON document")


def _list(arguments: argparse.Namespace, config: Config) -> int:
    """List payments."""

    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        who = None if arguments.username is None else find_payer(tx, arguments.username)
        found = payment_records.list_payments(
            tx,
            limit=arguments.limit,
            state=None if arguments.state is None else PaymentState(arguments.state),
            provider=arguments.provider,
            subscriber_id=None if who is None else who.id,
            in_debt=arguments.debt,
        )
        return [_row(*each) for each in found]

    rows = transact(open_database(config).execution_options(reading=True), work)
    print_rows(rows, (*COLUMNS, "state", "debt"), as_json=arguments.json)
    return 0


def _show(arguments: argparse.Namespace, config: Config) -> int:
    """Show a payment."""

    def work(tx: sa.Connection) -> dict[str, Any]:
        payment = payment_records.find(tx, arguments.id)
        return _row(payment, payment_records.username_of(tx, payment))

    row = transact(open_database(config).execution_options(reading=True), work)
    if arguments.json:
        print_json(row)
    else:
        for name, value in row.items():
            echo(f"{name:14} {'' if value is None else value}")
    return 0


def _assign(arguments: argparse.Namespace, config: Config) -> int:
    """Credit a payment to a subscriber."""
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> dict[str, Any]:
        payment = payment_records.assign(tx, arguments.id, arguments.username, actor=current_operator(), now=now)
        return _row(payment, payment_records.username_of(tx, payment))

    row = transact(open_database(config), work)
    _print_changed(arguments, row, f"Payment {row['id']}: {row['credits']} credits for {row['username']}.")
    return 0


def _reverse(arguments: argparse.Namespace, config: Config) -> int:
    """Take the credit of a payment back."""
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> dict[str, Any]:
        payment = payment_records.reverse_by_staff(
            tx,
            arguments.id,
            take_what_is_there=arguments.debt,
            actor=current_operator(),
            note=arguments.note,
            now=now,
        )
        return _row(payment, payment_records.username_of(tx, payment))

    row = transact(open_database(config), work)
    owed = f"; {row['debt']} were spent, and are owed" if row["debt"] else ""
    _print_changed(arguments, row, f"Payment {row['id']} is reversed: {row['taken']} credits taken back{owed}.")
    return 0


def _print_changed(arguments: argparse.Namespace, row: dict[str, Any], text: str) -> None:
    if arguments.json:
        print_json(row)
    else:
        echo(text)


def _row(payment: Payment, username: str | None) -> dict[str, Any]:
    return asdict(payment) | {"username": username, "reference": payment.reference}
