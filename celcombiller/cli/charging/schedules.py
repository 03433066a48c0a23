"""``celcombiller schedules``: credit for groups on their due dates: change the groups, forecast, and credit now."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from celcombiller.cli.common import (
    add_command,
    current_operator,
    open_database,
    parse_date,
    print_json,
    print_rows,
    whole_number,
)
from celcombiller.cli.exit_status import DIFFERS, DONE
from celcombiller.cli.terminal import echo, print_error, progress_bar
from celcombiller.core.access.changes import schedule_changes
from celcombiller.core.bundles import offers
from celcombiller.core.errors import InvalidValue, UnknownMembership
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.schedules import (
    CatchUp,
    Joining,
    Membership,
    Recurrence,
    Run,
    Schedule,
    ScheduleKind,
    WhenShort,
)
from celcombiller.core.model.text import format_count
from celcombiller.core.schedules import forecast, memberships, runs, schedule_records
from celcombiller.core.schedules.due_dates import last_come, next_due_date
from celcombiller.core.schedules.fee_terms import DAYS_MAX
from celcombiller.core.schedules.runs import Advance, Decision, ScheduleRules
from celcombiller.core.schedules.schedule_records import COUNT_MAX, INTERVAL_DAYS_MAX
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.transaction import transact
from celcombiller.jobs.schedule_pass import PassEvent, PassFailure, SchedulePass

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Coroutine

    import sqlalchemy as sa

    from celcombiller.config.tables import Config

T = TypeVar("T")

LIST_MAX = 1000
NEW_COUNT = 12
NO_LIMIT = "none"
INTERRUPTED = 130
"""The exit status of an interrupted command, as shells have it."""

_KINDS = {each.name.lower(): each for each in ScheduleKind}


# -- the commands ----------------------------------------------------------------------------------------------------


def _add(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)
    fee = _fee(arguments)
    if arguments.value is None and arguments.offer is None and not fee:
        arguments.usage_error("say what it moves: --value, --offer or --fee")
    count = arguments.count if arguments.count is not None else COUNT_MAX if fee else NEW_COUNT
    when = _when(arguments) or {"recurrence": Recurrence.MONTHLY, "day": 1, "interval_days": None}

    def work(tx: sa.Connection) -> Schedule:
        return schedule_changes.add(
            tx,
            current_operator(),
            name=arguments.name,
            kind=_KINDS[arguments.kind],
            value=arguments.value or arguments.fee or 0,
            offer_id=None if arguments.offer is None else offers.resolve(tx, arguments.offer).id,
            first_on=arguments.first or arguments.once,
            count=count,
            time_zone=arguments.zone or config.schedules.zone,
            catch_up=arguments.catch_up,
            now=now,
            **when,
            **fee,
        )

    made = transact(open_database(config), work)
    echo(f"Added schedule {made.id} ({made.name}): {_rhythm(made)}, first due on {_next(made)}, zone {made.time_zone}.")
    return 0


def _change(arguments: argparse.Namespace, config: Config) -> int:
    facts = _changes(arguments)

    def work(tx: sa.Connection) -> Schedule:
        was = schedule_records.resolve(tx, arguments.schedule)
        if arguments.offer is not None:
            facts["offer_id"] = offers.resolve(tx, arguments.offer).id
        return schedule_changes.change(tx, current_operator(), was.id, facts, datetime.now(UTC))

    changed = transact(open_database(config), work)
    echo(f"Schedule {changed.id} ({changed.name}): {_rhythm(changed)}, next due on {_next(changed)}.")
    return 0


def _delete(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> Schedule:
        return schedule_changes.delete(tx, current_operator(), schedule_records.resolve(tx, arguments.schedule).id, now)

    deleted = transact(open_database(config), work)
    echo(f"Deleted schedule {deleted.id} ({deleted.name}); its memberships have ended.")
    return 0


def _list(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        members = memberships.member_counts(tx)
        return [_shown(each) | {"members": members.get(each.id, 0)} for each in schedule_records.list_all(tx)]

    columns = ("id", "name", "kind", "value", "when", "next_on", "time_zone", "catch_up", "enabled", "count", "members")
    print_rows(transact(open_database(config), work), columns, as_json=arguments.json)
    return 0


def _show(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> tuple[Schedule, list[dict[str, Any]]]:
        schedule = schedule_records.resolve(tx, arguments.schedule)
        found = memberships.members(tx, schedule.id, limit=arguments.limit)
        return schedule, [asdict(each) | {"username": username, "name": name} for username, name, each in found]

    schedule, members = transact(open_database(config), work)
    if arguments.json:
        print_json(_shown(schedule) | {"memberships": members})
        return 0
    for name, value in _shown(schedule).items():
        echo(f"{name:14} {'' if value is None else value}")
    print_rows(members, ("username", "name", "count", "joined_on"), as_json=False)
    return 0


def _join(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> tuple[Schedule, Membership]:
        schedule = schedule_records.resolve(tx, arguments.schedule)
        who = subscriber_records.find(tx, arguments.username)
        made = schedule_changes.join(
            tx, current_operator(), schedule, who, count=arguments.count, joined_on=arguments.joined_on, now=now
        )
        return schedule, made

    schedule, made = transact(open_database(config), work)
    echo(f"{arguments.username} is in {schedule.name} for {format_count(made.count, 'run')} from {made.joined_on} on.")
    return 0


def _leave(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> None:
        schedule_changes.leave(tx, current_operator(), _membership(tx, arguments), now)

    transact(open_database(config), work)
    echo(f"{arguments.username} has left {arguments.schedule}.")
    return 0


def _renew(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> None:
        was = _membership(tx, arguments)
        schedule_changes.renew(tx, current_operator(), was, count=arguments.count, months=arguments.months, now=now)

    transact(open_database(config), work)
    echo(f"{arguments.username} has {format_count(arguments.count, 'run')} left in {arguments.schedule}.")
    return 0


def _due(arguments: argparse.Namespace, config: Config) -> int:
    now, rules = datetime.now(UTC), config.schedules.rules

    def work(tx: sa.Connection) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
        rows: list[dict[str, Any]] = []
        members: list[dict[str, Any]] = []
        waiting: list[str] = []
        for schedule in _named(tx, arguments.schedule):
            today = arguments.on or last_come(now, rules.run_at, schedule.time_zone)
            absent_days = (today - schedule.done_until).days
            if arguments.on is None and absent_days > rules.catch_up_max_days:
                waiting.append(_waits(Decision(schedule, [], absent_days)))
            dues = forecast.due(tx, schedule, rules, today, now)
            rows += [_due_row(schedule, each) for each in dues]
            left = arguments.limit - len(members)
            if left > 0:
                found = forecast.due_members(tx, dues, rules, limit=left)
                members += [{"schedule": schedule.id} | asdict(each) for each in found]
        return rows, members, waiting

    rows, members, waiting = transact(open_database(config).execution_options(reading=True), work)
    totals = {kind: sum(row[kind] for row in rows) for kind in Kind}
    if arguments.json:
        sums = {f"{kind}_total": total for kind, total in totals.items()}
        print_json({"due": rows, "members": members, **sums, "waiting": waiting})
        return 0
    for line in waiting:
        echo(line)
    if not rows:
        echo("Nothing is due.")
        return 0
    columns = ("schedule", "name", "due_on", "state", "members", "value", *Kind, "passed", "failed", "note")
    print_rows(rows, columns, as_json=False)
    if members:
        echo()
        print_rows(members, ("schedule", "due_on", "username", "value", "lacking", "outcome", "note"), as_json=False)
    echo(f"Total: {', '.join(f'{total} {kind} credits' for kind, total in totals.items())}. Nothing was written.")
    return 0


def _run(arguments: argparse.Namespace, config: Config) -> int:
    rules = config.schedules.rules
    if arguments.overdue:
        rules = replace(rules, catch_up_max_days=date.max.toordinal())
    engine = open_database(config)
    pick = (
        None
        if arguments.schedule is None
        else transact(engine, lambda tx: schedule_records.resolve(tx, arguments.schedule)).id
    )
    with progress_bar("Members", _expected(engine, rules, pick)) as advance:
        outcome = _PassOutcome(advance)
        with suppress(KeyboardInterrupt):
            schedule_pass = SchedulePass(
                _patient(engine), rules, clock=lambda: datetime.now(UTC), seconds=time.monotonic, tell=outcome.record
            )
            _finish(schedule_pass.run(pick))
            outcome.is_complete = True
    return outcome.print(as_json=arguments.json)


def _history(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        pick = None if arguments.schedule is None else schedule_records.resolve(tx, arguments.schedule).id
        rows = []
        for run in runs.history(tx, schedule_id=pick, limit=arguments.limit):
            rows.append(_run_row(run))
            if arguments.uncredited:
                rows[-1]["uncredited"] = [asdict(each) for each in runs.uncredited(tx, run, limit=LIST_MAX)]
        return rows

    rows = transact(open_database(config).execution_options(reading=True), work)
    columns = ("schedule", "due_on", "state", "value", "credited", "passed", "failed", "opened_at", "note")
    print_rows(rows, columns, as_json=arguments.json)
    if arguments.uncredited and not arguments.json:
        odd = [
            {"schedule": row["schedule"], "due_on": row["due_on"]} | each for row in rows for each in row["uncredited"]
        ]
        echo()
        print_rows(odd, ("schedule", "due_on", "username", "outcome", "note"), as_json=False)
    return 0


# -- one pass over what is due ---------------------------------------------------------------------------------------


class _PassOutcome:
    """What a pass has done: recorded while it runs, with its progress, and printed at its end."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.is_complete = False
        self._advance = advance
        self._runs: dict[int, Run] = {}
        self._wrong: list[str] = []

    def record(self, event: PassEvent) -> None:
        """Record an event of the pass."""
        match event:
            case Decision(_, made, absent_days):
                self._runs |= {run.id: run for run in made}
                if absent_days is not None:
                    self._wrong.append(_waits(event))
            case Advance(run):
                before = self._runs.get(run.id)
                self._runs[run.id] = run
                if before is not None:
                    self._advance(_turns(run) - _turns(before))
            case PassFailure(schedule_id, error):
                first = (str(error).splitlines() or [""])[0]
                self._wrong.append(f"schedule {schedule_id} could not be credited: {type(error).__name__}: {first}")

    def print(self, *, as_json: bool) -> int:
        """Print the runs and what went wrong; return the exit status."""
        rows = [_run_row(run) for run in self._runs.values()]
        if as_json:
            print_json(rows)
        elif rows:
            columns = ("schedule", "due_on", "state", "value", "credited", "passed", "failed", "note")
            print_rows(rows, columns, as_json=False)
        else:
            echo("Nothing is due.")
        for line in self._wrong:
            print_error(f"celcombiller: {line}")
        if not self.is_complete:
            print_error("celcombiller: interrupted; what is credited stays, the same command goes on")
            return INTERRUPTED
        return DIFFERS if self._wrong else DONE


def _patient(engine: sa.Engine) -> Any:
    """Return what does the work of a pass in this process.

    On SQLite it pauses after each transaction for as long as that took, so that a running biller can write.
    """

    def do(work: Callable[[sa.Connection], T]) -> T:
        began = time.monotonic()
        done = transact(engine, work)
        if engine.dialect.name == "sqlite":
            time.sleep(time.monotonic() - began)
        return done

    async def at_once(work: Callable[[sa.Connection], T]) -> T:
        return do(work)

    return at_once


def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits."""
    with suppress(StopIteration):
        work.send(None)


def _expected(engine: sa.Engine, rules: ScheduleRules, pick: int | None) -> int:
    """Return how many members are due, for the progress bar; 0 without a terminal, where no bar is shown."""
    if not sys.stderr.isatty():
        return 0
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> int:
        found = schedule_records.list_all(tx) if pick is None else [schedule_records.find(tx, pick)]
        dues = [
            each
            for schedule in found
            for each in forecast.due(tx, schedule, rules, last_come(now, rules.run_at, schedule.time_zone), now)
        ]
        return sum(each.credited + each.passed + each.failed for each in dues)

    return transact(engine.execution_options(reading=True), work)


# -- parts -----------------------------------------------------------------------------------------------------------


def _turns(run: Run) -> int:
    return run.credited + run.passed + run.failed


def _waits(decision: Decision) -> str:
    schedule = decision.schedule
    return (
        f"schedule {schedule.id} ({schedule.name}) waits: nothing was credited for {decision.absent_days} days since"
        f" {schedule.done_until}; if the clock is right, `celcombiller schedules run --overdue` catches up"
    )


def _named(tx: sa.Connection, word: str | None) -> list[Schedule]:
    return schedule_records.list_all(tx) if word is None else [schedule_records.resolve(tx, word)]


def _membership(tx: sa.Connection, arguments: argparse.Namespace) -> Membership:
    schedule = schedule_records.resolve(tx, arguments.schedule)
    membership = memberships.member(tx, schedule.id, subscriber_records.find(tx, arguments.username).id)
    if membership is None:
        raise UnknownMembership(f"{arguments.username} is not in {schedule.name}")
    return membership


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of a schedule that the arguments name."""
    names = ("name", "value", "count", "catch_up", "when_short", "joining", "remind_days")
    facts = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if arguments.fee is not None:
        facts["value"] = arguments.fee
    if arguments.suspend_after is not None:
        facts["suspend_days"] = None if arguments.suspend_after == NO_LIMIT else arguments.suspend_after
    if arguments.kind is not None:
        facts["kind"] = _KINDS[arguments.kind]
    if arguments.zone is not None:
        facts["time_zone"] = arguments.zone
    if arguments.state is not None:
        facts["enabled"] = arguments.state == "enabled"
    if arguments.once or arguments.first:
        facts["first_on"] = arguments.once or arguments.first
    return facts | (_when(arguments) or {})


def _fee(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the terms of a new schedule that takes a fee; none, where it gives."""
    terms = {
        "when_short": arguments.when_short,
        "joining": arguments.joining,
        "remind_days": arguments.remind_days,
        "suspend_days": None if arguments.suspend_after == NO_LIMIT else arguments.suspend_after,
    }
    if arguments.fee is None:
        if any(each is not None for each in terms.values()):
            raise InvalidValue("--when-short, --joining, --remind and --suspend-after are for a schedule with --fee")
        return {}
    return terms | {"when_short": arguments.when_short or WhenShort.RETRY}


def _when(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Return the recurrence of the due dates, or None when no option gives one."""
    if arguments.day is not None:
        return {"recurrence": Recurrence.MONTHLY, "day": arguments.day, "interval_days": None}
    if arguments.weekday is not None:
        return {"recurrence": Recurrence.WEEKLY, "day": arguments.weekday, "interval_days": None}
    if arguments.every is not None:
        return {"recurrence": Recurrence.DAYS, "day": None, "interval_days": arguments.every}
    if arguments.once is not None:
        return {"recurrence": Recurrence.ONCE, "day": None, "interval_days": None}
    return None


def _rhythm(schedule: Schedule) -> str:
    match schedule.recurrence:
        case Recurrence.MONTHLY:
            return f"monthly on day {schedule.day}"
        case Recurrence.WEEKLY:
            return f"weekly on day {schedule.day}"
        case Recurrence.DAYS:
            return "daily" if schedule.interval_days == 1 else f"every {schedule.interval_days} days"
        case _:
            return "once"


def _next(schedule: Schedule) -> date | None:
    return next_due_date(schedule, schedule.done_until)


def _shown(schedule: Schedule) -> dict[str, Any]:
    shown = asdict(schedule) | {"kind": schedule.kind_word}
    del shown["deleted_at"]
    return shown | {"when": _rhythm(schedule), "next_on": _next(schedule)}


def _due_row(schedule: Schedule, due: forecast.DueForecast) -> dict[str, Any]:
    run = due.run
    return {
        "schedule": schedule.id,
        "name": schedule.name,
        "due_on": run.due_on,
        "state": run.state if run.id or run.note else "to come",
        "value": run.value,
        "members": due.credited,
        "passed": due.passed,
        "failed": due.failed,
        **{kind.value: due.total(kind) for kind in Kind},
        "note": run.note,
    }


def _run_row(run: Run) -> dict[str, Any]:
    row = asdict(run) | {"schedule": run.schedule_id, "kind": run.kind_word}
    del row["schedule_id"], row["last_membership_id"]
    return row


# -- arguments -------------------------------------------------------------------------------------------------------


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``schedules``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    add = add_command(actions, "add", _add, "Add a schedule: each member gets its value on each due date.")
    add.add_argument("name")
    change = add_command(actions, "change", _change, "Change a schedule, from its next due date on.")
    delete = add_command(actions, "delete", _delete, "Delete a schedule; its memberships end.")
    listed = add_command(actions, "list", _list, "List the schedules.")
    show = add_command(actions, "show", _show, "Show a schedule and its members.")
    join = add_command(actions, "join", _join, "Put a subscriber into a schedule.")
    leave = add_command(actions, "leave", _leave, "Take a subscriber out of a schedule.")
    renew = add_command(actions, "renew", _renew, "Set the runs that a member has left, and record their contract.")
    due = add_command(actions, "due", _due, "Show who would get what by now, and the totals; nothing is written.")
    run = add_command(actions, "run", _run, "Credit what is due now, as the service does by itself.")
    history = add_command(
        actions, "history", _history, "List the last runs: how many members were credited, and who was not, and why."
    )
    for each in (change, delete, show, join, leave, renew):
        each.add_argument("schedule", metavar="SCHEDULE", help="its id, or its name")
    for each in (due, run, history):
        each.add_argument("schedule", metavar="SCHEDULE", nargs="?", help="its id, or its name (default: all)")
    for each in (join, leave, renew):
        each.add_argument("username")
    add.set_defaults(usage_error=add.error)
    _add_facts(add, required=True)
    _add_facts(change, required=False)
    change.add_argument("--name")
    change.add_argument("--state", choices=("enabled", "disabled"), help="a disabled schedule credits nothing")
    join.add_argument("--count", type=whole_number(0, COUNT_MAX), help="the member's runs (default: the schedule's)")
    join.add_argument(
        "--from", dest="joined_on", type=parse_date, metavar="DATE", help="the first due date that counts (today)"
    )
    renew.add_argument("--count", type=whole_number(0, COUNT_MAX), required=True, help="the member's runs from now on")
    renew.add_argument(
        "--months", type=whole_number(0, COUNT_MAX), required=True, help="the months that the member bought"
    )
    due.add_argument("--on", type=parse_date, metavar="DATE", help="by that date (default: by now)")
    run.add_argument(
        "--overdue", action="store_true", help="also credit what is more than schedules.catch_up_max_days late"
    )
    history.add_argument(
        "--uncredited", action="store_true", help="also list the members who were passed over or failed"
    )
    for each, most in ((show, 50), (due, 20), (history, 50)):
        each.add_argument("--limit", type=whole_number(1, LIST_MAX), default=most)
    for each in (listed, show, due, run, history):
        each.add_argument("--json", action="store_true", help="one JSON document")


def _days_or_none(text: str) -> int | str:
    return NO_LIMIT if text == NO_LIMIT else whole_number(0, DAYS_MAX)(text)


def _add_facts(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the options for the properties of a schedule; the defaults are those of a new one."""
    moved = parser.add_mutually_exclusive_group()
    moved.add_argument("--value", type=whole_number(0, AMOUNT_MAX), help="whole credits to each on each due date")
    moved.add_argument("--fee", type=whole_number(0, AMOUNT_MAX), help="voice credits taken from each on each due date")
    parser.add_argument(
        "--offer", metavar="OFFER", help="a bundle of this offer (its name or id): for nothing, or what the fee buys"
    )
    parser.add_argument(
        "--when-short",
        choices=[each.value for each in WhenShort],
        help="a fee that the balance does not pay: is tried again (retry), taken in parts, or waits for credit (retry)",
    )
    parser.add_argument(
        "--joining",
        choices=[each.value for each in Joining],
        help="who joins between two due dates pays the whole fee, by the days left, or from the next date on (next)",
    )
    parser.add_argument(
        "--remind", dest="remind_days", metavar="DAYS", help="days before a due date to remind of it, such as 3,0"
    )
    parser.add_argument(
        "--suspend-after",
        type=_days_or_none,
        metavar="DAYS",
        help=f"unpaid days until they are suspended; `{NO_LIMIT}`",
    )
    parser.add_argument("--kind", choices=tuple(_KINDS), default="voice" if required else None)
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--day", type=whole_number(1, 31), help="monthly on this day, or on the last of a shorter month (1)"
    )
    when.add_argument("--weekday", type=whole_number(1, 7), help="weekly; 1 is Monday")
    when.add_argument(
        "--every", type=whole_number(1, INTERVAL_DAYS_MAX), metavar="DAYS", help="once in this number of days"
    )
    when.add_argument("--once", type=parse_date, metavar="DATE", help="on this date only")
    parser.add_argument("--first", type=parse_date, metavar="DATE", help="the first possible due date (today)")
    parser.add_argument(
        "--count", type=whole_number(0, COUNT_MAX), help=f"runs of a new member ({NEW_COUNT}; of a fee, without end)"
    )
    parser.add_argument("--zone", help="its time zone, such as America/Sao_Paulo (default: the settings')")
    catch_up = CatchUp.ALL.value if required else None
    choices = [each.value for each in CatchUp]
    parser.add_argument(
        "--catch-up", choices=choices, default=catch_up, help="which missed dates are credited later (all)"
    )
