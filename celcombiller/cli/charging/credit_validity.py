"""``celcombiller credit-validity``: which credit ends soon, and longer validity for one subscriber."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from celcombiller.cli.common import (
    add_command,
    current_operator,
    find_payer,
    open_database,
    parse_date,
    print_json,
    print_rows,
    whole_number,
)
from celcombiller.cli.terminal import echo
from celcombiller.core.access.changes import validity_changes
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schedules.due_dates import local_date
from celcombiller.core.tariffs.price_format import count_credits
from celcombiller.core.validity import expiry
from celcombiller.core.validity.end_dates import read_terms
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse
    from datetime import date

    import sqlalchemy as sa

    from celcombiller.config.tables import Config

ACCOUNTS_MAX = 100_000
DAYS_MAX = 36_500


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``credit-validity``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    preview = add_command(actions, "preview", _preview, "List the credit that ends within some days, if not topped up.")
    preview.add_argument("--days", type=whole_number(0, DAYS_MAX), default=7, metavar="N", help="default: 7")
    preview.add_argument("--kind", choices=[kind.value for kind in Kind], help="default: all")
    preview.add_argument("--limit", type=whole_number(1, ACCOUNTS_MAX), default=1000, metavar="N")
    extend = add_command(actions, "extend", _extend, "Keep the credit of a subscriber valid through a day at least.")
    extend.add_argument("username", metavar="WHO", help="a username, or a number")
    extend.add_argument(
        "--until", type=parse_date, required=True, metavar="DATE", help="the last day, such as 2026-12-31"
    )
    extend.add_argument("--kind", choices=[kind.value for kind in Kind], default=Kind.VOICE.value)
    for each in (preview, extend):
        each.add_argument("--json", action="store_true", help="one JSON document")


def _preview(arguments: argparse.Namespace, config: Config) -> int:
    """List the credit that ends soon, the first to end first."""
    zone = config.schedules.zone
    until = local_date(datetime.now(UTC), zone) + timedelta(days=arguments.days)
    kinds = [Kind(arguments.kind)] if arguments.kind else list(Kind)

    def work(tx: sa.Connection) -> tuple[bool, list[expiry.EndingCredit]]:
        found = [
            each for kind in kinds for each in expiry.preview(tx, kind, until=until, zone=zone, limit=arguments.limit)
        ]
        return bool(read_terms(tx).keys() & set(kinds)), found

    has_terms, found = transact(open_database(config).execution_options(reading=True), work)
    rows: list[dict[str, Any]] = sorted(map(asdict, found), key=lambda row: row["valid_until"])[: arguments.limit]
    print_rows(rows, ("valid_until", "username", "name", "kind", "posted", "held"), as_json=arguments.json)
    if not arguments.json:
        if has_terms:
            accounts = f"{len(rows)} account{'' if len(rows) == 1 else 's'}"
            echo(f"{accounts}: {count_credits(sum(row['posted'] for row in rows))} in all until {until}.")
        else:
            echo("No credit has an end: see [credit_validity] of the settings, and whether the biller runs.")
    return 0


def _extend(arguments: argparse.Namespace, config: Config) -> int:
    """Keep a subscriber's credit valid for longer."""
    zone, kind, now = config.schedules.zone, Kind(arguments.kind), datetime.now(UTC)

    def work(tx: sa.Connection) -> tuple[str, date | None]:
        who = find_payer(tx, arguments.username)
        day = validity_changes.extend(tx, who.username, kind, arguments.until, current_operator(), zone=zone, now=now)
        return who.username, day

    username, day = transact(open_database(config), work)
    if arguments.json:
        print_json({"username": username, "kind": kind, "valid_until": day})
    elif day is None:
        echo(f"{kind} credit of {username} has no end today; should it get one, it is not before {arguments.until}.")
    else:
        echo(f"{kind} credit of {username} is valid until {day}.")
    return 0
