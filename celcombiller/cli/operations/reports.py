"""``celcombiller overview`` and ``celcombiller report``: what happens now, and what was sold and used in some days."""

from __future__ import annotations

from dataclasses import asdict, fields
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from celcombiller.cli.common import add_command, open_database, parse_date, print_json, print_rows
from celcombiller.cli.terminal import echo, print_error
from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.day_sums import count_uncounted, day_of
from celcombiller.core.model.accounts import ACCOUNT_KINDS
from celcombiller.core.model.text import format_count
from celcombiller.core.reports import use_report
from celcombiller.core.reports.day_report import Heading, Period, sum_up
from celcombiller.core.reports.overview import Figures, Need, look_over
from celcombiller.core.reports.use_report import DestinationCalls, SellerDay, TrunkCalls
from celcombiller.core.schedules.due_dates import zone_of
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from zoneinfo import ZoneInfo

    import sqlalchemy as sa

    from celcombiller.config.tables import Config

DAYS = 30
"""The days of a report that names none."""

_REMEDIES = {
    Need.OVERDUE_CALLS: "celcombiller live; celcombiller doctor",
    Need.NETWORKS_BEHIND: "celcombiller provisioning status",
    Need.MESSAGES_STUCK: "celcombiller messages queue",
    Need.CDR_DIFFERENCES: "celcombiller reconcile",
    Need.SCHEDULES_WAITING: "celcombiller schedules due",
    Need.SELLERS_LOW: "celcombiller seller list",
    Need.FEES_UNPAID: "celcombiller fee list",
    Need.PAYMENTS_UNASSIGNED: "celcombiller payment list --state unassigned",
}
"""The command that shows more of each need."""


def configure_overview(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overview``."""
    parser.set_defaults(run=_overview)
    parser.add_argument("--json", action="store_true", help="one JSON document")


def configure_report(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``report``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    days = add_command(actions, "days", _days, "What was sold and used, by day or month.")
    days.add_argument("--by", choices=[each.value for each in Period], default=Period.DAY.value)
    days.add_argument("--account", choices=list(ACCOUNT_KINDS), help="only of this kind of account")
    for each in (
        days,
        add_command(actions, "sellers", _sellers, "What each seller sold on each day."),
        add_command(actions, "destinations", _destinations, "Calls by destination: credits, cost and margin."),
        add_command(actions, "trunks", _trunks, "Calls by trunk: credits, cost and margin."),
    ):
        each.add_argument("--from", dest="first", type=parse_date, metavar="DAY", help=f"default: {DAYS} days")
        each.add_argument("--until", type=parse_date, metavar="DAY", help="before this day (default: tomorrow)")
        each.add_argument("--json", action="store_true", help="one JSON document")


def _overview(arguments: argparse.Namespace, config: Config) -> int:
    """Show what happens now."""
    zone, rules, now = zone_of(config.schedules.zone), config.schedules.rules, datetime.now(UTC)
    found = transact(_open(config), lambda tx: look_over(tx, rules, zone, now))
    if arguments.json:
        print_json(asdict(found))
        return 0
    echo(f"{format_count(found.calls, 'call')} in progress")
    print_rows([asdict(each) for each in found.figures], _names(Figures), as_json=False)
    for need, count in found.needs.items():
        echo(f"{need.value.replace('_', ' ')}: {count} ({_REMEDIES[need]})")
    _warn_of_uncounted(found.uncounted)
    return 0


def _days(arguments: argparse.Namespace, config: Config) -> int:
    zone = zone_of(config.schedules.zone)

    def work(tx: sa.Connection) -> tuple[list[dict[str, Any]], int]:
        first, until = _span(arguments, zone)
        found = sum_up(tx, first, until, by=Period(arguments.by), account=arguments.account)
        return [
            {"day": each.day, "account": each.account}
            | {heading.value: each.total(heading) for heading in Heading}
            | {"movements": [asdict(sums) for sums in each.movements]}
            for each in found
        ], count_uncounted(tx, zone)

    rows, uncounted = transact(_open(config), work)
    print_rows(rows, ("day", "account", *(each.value for each in Heading)), as_json=arguments.json)
    _warn_of_uncounted(uncounted)
    return 0


def _sellers(arguments: argparse.Namespace, config: Config) -> int:
    return _print(arguments, config, use_report.sum_sales, _names(SellerDay))


def _destinations(arguments: argparse.Namespace, config: Config) -> int:
    columns = _names(DestinationCalls)
    return _print(arguments, config, use_report.sum_calls_by_destination, columns[-2:] + columns[:-2])


def _trunks(arguments: argparse.Namespace, config: Config) -> int:
    columns = _names(TrunkCalls)
    return _print(arguments, config, use_report.sum_calls_by_trunk, columns[-1:] + columns[:-1])


def _print(
    arguments: argparse.Namespace,
    config: Config,
    read: Callable[[sa.Connection, date, date, ZoneInfo], list[Any]],
    columns: tuple[str, ...],
) -> int:
    zone = zone_of(config.schedules.zone)
    first, until = _span(arguments, zone)
    found = transact(_open(config), lambda tx: read(tx, first, until, zone))
    print_rows([asdict(each) for each in found], columns, as_json=arguments.json)
    return 0


def _span(arguments: argparse.Namespace, zone: ZoneInfo) -> tuple[date, date]:
    """Return the first day, and the one before which the report ends. Raises `InvalidValue`."""
    until = arguments.until or day_of(datetime.now(UTC), zone) + timedelta(days=1)
    first = arguments.first or until - timedelta(days=DAYS)
    if first >= until:
        raise InvalidValue("--from must be before --until")
    return first, until


def _open(config: Config) -> sa.Engine:
    return open_database(config).execution_options(reading=True)


def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def _warn_of_uncounted(uncounted: int) -> None:
    if uncounted:
        print_error(f"celcombiller: about {uncounted} of the newest movements are not counted yet; the biller does it")
