"""``celcombiller limit``: how far a balance may fall, and what may be spent in a day and in a month."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celcombiller.cli.common import current_operator, find_payer, open_database, print_json, print_rows
from celcombiller.core.charging import operator_credit
from celcombiller.core.ledger import accounts
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schedules.due_dates import local_date, zone_of
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import sqlalchemy as sa

    from celcombiller.config.tables import Config

_COLUMNS = ("kind", "posted", "available", "credit_limit", "day_limit", "spent_day", "month_limit", "spent_month")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``limit``."""
    parser.set_defaults(run=_limit)
    parser.add_argument("username", help="a username or a number")
    parser.add_argument("--kind", choices=[kind.value for kind in Kind], default=Kind.VOICE.value)
    parser.add_argument("--credit", type=_parse_limit, metavar="N", help="how far the balance may fall below 0")
    for name in ("day", "month"):
        what = f"credits that may be spent in a {name}, or none"
        parser.add_argument(f"--{name}", type=_parse_limit, metavar="N", help=what)
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _limit(arguments: argparse.Namespace, config: Config) -> int:
    """Change the limits that are named, and show those of all accounts."""
    now, zone, operator = datetime.now(UTC), config.schedules.zone, current_operator()
    given = {"day_limit": arguments.day, "month_limit": arguments.month}
    changes = {name: None if limit == -1 else limit for name, limit in given.items() if limit is not None}

    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        who, kind = find_payer(tx, arguments.username), Kind(arguments.kind)
        if arguments.credit is not None:
            operator_credit.set_credit_limit(tx, who.username, kind, max(arguments.credit, 0), operator, now)
        if changes:
            operator_credit.set_spending_limits(tx, who.username, kind, changes, operator, zone=zone_of(zone), now=now)
        spent = accounts.spendings(tx, who.id, local_date(now, zone))
        return [
            {"kind": each, "posted": found.posted, "available": found.available, "credit_limit": -found.floor}
            | asdict(spent[each])
            for each, found in accounts.balances(tx, who.id).items()
        ]

    rows = transact(open_database(config), work)
    if arguments.json:
        print_json(rows)
    else:
        print_rows(rows, _COLUMNS, as_json=False)
    return 0


def _parse_limit(text: str) -> int:
    """Read a whole number of credits; ``none`` is -1."""
    if text == "none":
        return -1
    value = int(text)
    if not 0 <= value <= AMOUNT_MAX:
        raise argparse.ArgumentTypeError(f"must be from 0 to {AMOUNT_MAX}, or none")
    return value
