"""``celcombiller fee``: what subscribers owe, and how a fee is paid, waived or undone."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
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
from celcombiller.core.access.changes import schedule_changes
from celcombiller.core.model.schedules import FeeState
from celcombiller.core.schedules import fee_periods, runs
from celcombiller.core.schedules.schedule_records import resolve
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse

    import sqlalchemy as sa

    from celcombiller.config.tables import Config
    from celcombiller.core.model.schedules import FeePeriod, Run

LIST_MAX = 1000
_ROW = ("id", "username", "schedule", "due_on", "state", "amount", "paid", "left", "suspended_at", "note")
_ID_MAX = 2**63 - 1


def fee_row(username: str, schedule: str, period: FeePeriod) -> dict[str, Any]:
    """Return what the commands show of a fee."""
    names = ("id", "due_on", "state", "amount", "paid", "left", "due_at", "ends_at", "suspend_at", "suspended_at")
    facts = asdict(period) | {"left": period.left}
    later = {name: facts[name] for name in ("closed_at", "bundle_reference", "when_short", "note")}
    return {"username": username, "schedule": schedule} | {name: facts[name] for name in names} | later


def _list(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        found = fee_periods.list_all(
            tx,
            schedule_id=None if arguments.schedule is None else resolve(tx, arguments.schedule).id,
            subscriber_id=None if arguments.username is None else find_payer(tx, arguments.username).id,
            state=FeeState.OWED if arguments.owed else None,
            overdue_at=datetime.now(UTC) if arguments.overdue else None,
            limit=arguments.limit,
        )
        return [fee_row(each.username, each.schedule, each.period) for each in found]

    print_rows(transact(open_database(config).execution_options(reading=True), work), _ROW, as_json=arguments.json)
    return 0


def _waive(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> FeePeriod:
        return schedule_changes.waive_fee(tx, current_operator(), arguments.fee, note=arguments.note, now=now)

    made = transact(open_database(config), work)
    return _print(arguments, made, f"Fee {made.id}, due on {made.due_on}, is waived; what was paid is given back.")


def _pay(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)
    made = transact(
        open_database(config), lambda tx: schedule_changes.pay_fee(tx, current_operator(), arguments.fee, now)
    )
    return _print(arguments, made, f"Fee {made.id}, due on {made.due_on}: {made.paid} paid, {made.left} left.")


def _print(arguments: argparse.Namespace, period: FeePeriod, text: str) -> int:
    if arguments.json:
        print_json(asdict(period) | {"left": period.left})
    else:
        echo(text)
    return 0


def _undo(arguments: argparse.Namespace, config: Config) -> int:
    engine, now = open_database(config), datetime.now(UTC)

    def begin(tx: sa.Connection) -> Run:
        schedule = resolve(tx, arguments.schedule)
        found = runs.find_of_date(tx, schedule.id, arguments.due_on)
        return schedule_changes.undo_run(tx, current_operator(), found.id, note=arguments.note, now=now)

    run, count = transact(engine, begin), 0
    while some := transact(engine, lambda tx: fee_periods.undo_some(tx, run, datetime.now(UTC))):
        count += some
    if arguments.json:
        print_json(asdict(run) | {"undone": count})
    else:
        echo(
            f"The run of {run.due_on} is undone: {count} fees; what was taken is given back, and what it bought ended."
        )
    return 0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``fee``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listed = add_command(actions, "list", _list, "List the fees of due dates, newest first.")
    listed.add_argument("username", nargs="?", help="a username or a number (default: all subscribers)")
    listed.add_argument("--schedule", metavar="SCHEDULE", help="of this schedule (its id or name)")
    listed.add_argument("--owed", action="store_true", help="only what is unpaid")
    listed.add_argument("--overdue", action="store_true", help="only what is unpaid for longer than allowed")
    listed.add_argument("--limit", type=whole_number(1, LIST_MAX), default=50)
    pay = add_command(actions, "pay", _pay, "Take what is owed of a fee now, as far as the balance goes.")
    waive = add_command(actions, "waive", _waive, "Waive a fee: nothing is owed, what was paid is given back.")
    undo = add_command(actions, "undo", _undo, "Undo a whole run: all that it took is given back, each once.")
    undo.add_argument("schedule", metavar="SCHEDULE", help="its id, or its name")
    undo.add_argument("due_on", type=parse_date, metavar="DATE", help="the due date of the run")
    for each in (pay, waive):
        each.add_argument("fee", type=whole_number(1, _ID_MAX), metavar="ID", help="the number of the fee")
    for each in (waive, undo):
        each.add_argument("--note", default="", metavar="TEXT", help="why; kept with it")
    for each in (listed, pay, waive, undo):
        each.add_argument("--json", action="store_true", help="one JSON document")
