"""``celcombiller transfer``: credit that subscribers hand to each other."""

from __future__ import annotations

import uuid
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
from celcombiller.core.credit_transfers import credit_transfers, transfer_records
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.schedules.due_dates import local_date
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.tariffs.price_format import count_credits
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse

    import sqlalchemy as sa

    from celcombiller.config.tables import Config
    from celcombiller.core.model.credit_transfers import CreditTransfer

_COLUMNS = ("id", "asked_at", "payer", "recipient", "amount", "fee", "state", "ended_at", "note")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``transfer``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listed = add_command(actions, "list", _list, "List transfers between subscribers, newest first.")
    listed.add_argument("username", nargs="?", help="a username or a number: given or received (default: all)")
    listed.add_argument("--limit", type=whole_number(1, LIST_MAX), default=50)
    make = add_command(actions, "make", _make, "Hand credit of a subscriber to another, without a code and limits.")
    make.add_argument("payer", metavar="FROM", help="who gives: a username or a number")
    make.add_argument("to", metavar="TO", help="the number of who gets it")
    make.add_argument("amount", type=whole_number(1, AMOUNT_MAX), metavar="CREDITS", help="voice credits")
    make.add_argument("--free", action="store_true", help="without the fee (credit_transfers.fee)")
    make.add_argument("--id", help="your own id of this transfer: repeating it changes nothing")
    make.add_argument("--note", default="", metavar="TEXT", help="a remark, kept with it")
    for each in (listed, make):
        each.add_argument("--json", action="store_true", help="one JSON document")


def _list(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        who = None if arguments.username is None else find_payer(tx, arguments.username).id
        found = transfer_records.list_all(tx, subscriber_id=who, limit=arguments.limit)
        return [_row(each, payer, recipient) for each, payer, recipient in found]

    rows = transact(open_database(config).execution_options(reading=True), work)
    print_rows(rows, _COLUMNS, as_json=arguments.json)
    return 0


def _make(arguments: argparse.Namespace, config: Config) -> int:
    operator, key, now = current_operator(), arguments.id or str(uuid.uuid4()), datetime.now(UTC)

    def work(tx: sa.Connection) -> dict[str, Any]:
        payer = find_payer(tx, arguments.payer)
        made = credit_transfers.give(
            tx,
            config.credit_transfer_terms,
            config.message_policy,
            operator,
            payer,
            arguments.to,
            arguments.amount,
            reference=f"command:{operator.address}:{key}",
            is_free=arguments.free,
            note=arguments.note,
            today=local_date(now, config.schedules.zone),
            now=now,
        )
        return _row(made, payer.username, subscriber_records.find_by_id(tx, made.recipient_id).username)

    row = transact(open_database(config), work)
    if arguments.json:
        print_json(row)
    else:
        fee = f", for a fee of {row['fee']}" if row["fee"] else ""
        credit = count_credits(row["amount"])
        echo(f"{row['payer']} has given {credit} to {row['recipient']}{fee} (transfer {row['id']}).")
    return 0


def _row(each: CreditTransfer, payer: str, recipient: str) -> dict[str, Any]:
    return asdict(each) | {"payer": payer, "recipient": recipient}
