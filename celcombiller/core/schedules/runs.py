"""Runs: what a schedule owes on each due date, decided once, and credited to each member exactly once.

A due date that has come is *decided* in one transaction: it gets a row, open or skipped, and the schedule's
``done_until`` moves past it. An open run is *advanced* chunk by chunk, in the order in which the members joined. Credit
rows, transfers, remaining counts and the progress of the run are written in one transaction, under the schedule's lock.
So after a crash, on a second node or when the clock steps, the database says what is left to do, and nothing is done
twice. A run stays open until the next day has come, for members who join on its date.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.bundles import offers
from celcombiller.core.errors import InvalidValue, NotFound
from celcombiller.core.model.schedules import CatchUp, CreditOutcome, Run, RunState, Schedule
from celcombiller.core.schedules.chunk_sql import credit_chunk, next_chunk_end
from celcombiller.core.schedules.due_dates import comes_at, due_dates, next_due_date, period
from celcombiller.core.schedules.fee_chunk import TOO_LOW, charge_chunk
from celcombiller.core.schedules.schedule_records import find, list_all
from celcombiller.core.schema import tables
from celcombiller.core.schema.rows import value_from_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from sqlalchemy.engine import Connection

_schedule, _run, _credit = tables.schedule, tables.schedule_run, tables.schedule_credit


@dataclass(frozen=True, slots=True)
class ScheduleRules:
    """The operator's rules from the settings: when a date has come, and how many missed days are caught up.

    ``disabled_use_up``: a disabled member, who gets nothing, still uses up one run.
    """

    run_at: time = time(0, 30)
    catch_up_max_days: int = 62
    disabled_use_up: bool = False


# -- deciding --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decision:
    """A run for each due date that had come; none, with ``absent_days``, after too long an absence."""

    schedule: Schedule
    runs: list[Run]
    absent_days: int | None = None


def decide(tx: Connection, schedule_id: int, rules: ScheduleRules, today: date, now: datetime) -> Decision:
    """Open or skip a run for each due date up to ``today``, the last date that has come.

    After more than ``catch_up_max_days`` nothing is done: the cause may as well be a wrong clock, so an operator has to
    confirm the absence. Raises `UnknownSchedule`.
    """
    schedule = find(tx, schedule_id, lock=True)
    absent_days = (today - schedule.done_until).days
    if absent_days > rules.catch_up_max_days:
        return Decision(schedule, [], absent_days)
    if absent_days <= 0:
        return Decision(schedule, [])
    runs = [_insert(tx, each) for each in list(plan(tx, schedule, today, now))]
    tx.execute(sa.update(_schedule).where(_schedule.c.id == schedule.id).values(done_until=today))
    return Decision(replace(schedule, done_until=today), runs)


def plan(tx: Connection, schedule: Schedule, today: date, now: datetime) -> Iterator[Run]:
    """Yield the runs that `decide` would make for the due dates up to ``today``; write nothing."""
    credited_on = tx.execute(
        sa.select(sa.func.max(_run.c.due_on)).where(_run.c.schedule_id == schedule.id, _run.c.state != RunState.SKIPPED)
    ).scalar_one()
    dates = list(due_dates(schedule, schedule.done_until, today))
    value = _value(tx, schedule)
    for due_on in dates:
        skip_reason = _skip_reason(schedule, value, due_on, today, dates[-1], credited_on)
        run = Run(
            0,
            schedule.id,
            due_on,
            schedule.kind,
            value,
            RunState.OPEN,
            opened_at=now,
            offer_id=schedule.offer_id,
            when_short=schedule.when_short,
        )
        if skip_reason:
            yield replace(run, state=RunState.SKIPPED, closed_at=now, note=skip_reason)
        else:
            credited_on = due_on
            yield run


def _value(tx: Connection, schedule: Schedule) -> int:
    """Return what each member gets: the schedule's value, or what a bundle of its offer holds now; 0: it is deleted.

    Of a fee it is what each pays.
    """
    if schedule.offer_id is None or schedule.takes:
        return schedule.value
    try:
        return offers.find(tx, schedule.offer_id).amount
    except NotFound:
        return 0


def _skip_reason(
    schedule: Schedule, value: int, due_on: date, today: date, last: date, credited_on: date | None
) -> str:
    """Return why a whole due date is skipped, or an empty string."""
    if not schedule.enabled:
        return "the schedule was disabled"
    if value == 0:
        return "its value is 0" if schedule.offer_id is None or schedule.takes else "its offer was deleted"
    if schedule.catch_up is CatchUp.LAST and due_on != last:
        return f"missed, and only the last missed date ({last}) is caught up"
    if schedule.catch_up is CatchUp.NONE and due_on != today:
        return "missed, and missed dates are not caught up"
    span, moved = period(schedule, due_on), "fee was taken" if schedule.takes else "credit was given"
    if credited_on is not None and span is not None and span == period(schedule, credited_on):
        return f"the day was changed: the same {schedule.recurrence} {moved} on {credited_on}"
    return ""


def _insert(tx: Connection, run: Run) -> Run:
    values = asdict(run)
    del values["id"]
    return replace(run, id=tx.execute(sa.insert(_run).values(values).returning(_run.c.id)).scalar_one())


# -- crediting -------------------------------------------------------------------------------------------------------


def open_runs(tx: Connection, schedule_id: int | None = None) -> list[Run]:
    """Return the open runs by due date, of one schedule if ``schedule_id`` is set.

    Runs of disabled schedules wait and are not returned.
    """
    statement = (
        sa.select(_run)
        .join(_schedule, _schedule.c.id == _run.c.schedule_id)
        .where(_run.c.state == RunState.OPEN, sa.or_(_schedule.c.enabled, _schedule.c.deleted_at.is_not(None)))
        .order_by(_run.c.due_on, _run.c.id)
    )
    if schedule_id is not None:
        statement = statement.where(_run.c.schedule_id == schedule_id)
    return [value_from_row(row, Run) for row in tx.execute(statement)]


@dataclass(frozen=True, slots=True)
class Failure:
    """A member who could not be credited, and why."""

    subscriber_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Advance:
    """A run after one chunk, and the members it failed to credit; ``more``: the next chunk may follow at once.

    ``done`` members of the chunk were credited, or paid their fee; ``unpaid`` ones owe it.
    """

    run: Run
    more: bool
    failures: list[Failure] = field(default_factory=list)
    done: int = 0
    unpaid: int = 0


def owed_since(tx: Connection, rules: ScheduleRules, now: datetime) -> datetime | None:
    """Return when the oldest outstanding credit came due, or None if nothing is owed by ``now``."""
    return min(list_owed(tx, rules, now), default=None)


def list_owed(tx: Connection, rules: ScheduleRules, now: datetime) -> list[datetime]:
    """Return when each outstanding due date came, of those that are owed by ``now``."""
    known = {each.id: each for each in list_all(tx) if each.enabled}
    waiting = [(each, next_due_date(each, each.done_until)) for each in known.values()]
    waiting += [
        (known[run.schedule_id], run.due_on)
        for run in open_runs(tx)
        if run.schedule_id in known and next_chunk_end(tx, run, 1) is not None
    ]
    return [at for each, due_on in waiting if (at := _came_at(each, due_on, rules)) is not None and at <= now]


def _came_at(schedule: Schedule, due_on: date | None, rules: ScheduleRules) -> datetime | None:
    try:
        return None if due_on is None else comes_at(due_on, rules.run_at, schedule.time_zone)
    except InvalidValue:  # a zone that no longer exists: the schedule pass reports it
        return None


def advance(tx: Connection, run_id: int, rules: ScheduleRules, now: datetime, *, size: int, fault: str = "") -> Advance:
    """Credit the next ``size`` members of an open run, or take its fee from them.

    ``fault``: crediting the next member alone aborted the transaction, for this reason; they are recorded as failed.
    """
    row = tx.execute(_LOCK, {"run_id": run_id}).one()
    run = value_from_row(row, Run)
    if row.deleted_at is not None:
        return Advance(_close(tx, run, now, "the schedule was deleted"), more=False)
    if run.state is not RunState.OPEN or not row.enabled:
        return Advance(run, more=False)
    last_id = next_chunk_end(tx, run, size)
    if last_id is None:
        return Advance(_close(tx, run, now, "") if run.due_on < row.done_until else run, more=False)
    if run.when_short is None:
        chunk = credit_chunk(tx, run, last_id, disabled_use_up=rules.disabled_use_up, fault=fault, now=now)
    else:
        chunk = charge_chunk(
            tx,
            find(tx, run.schedule_id),
            run,
            last_id,
            run_at=rules.run_at,
            disabled_use_up=rules.disabled_use_up,
            fault=fault,
            now=now,
        )
    failures = [
        Failure(subscriber_id, reason)
        for subscriber_id, outcome, reason in chunk.uncredited
        if outcome is CreditOutcome.FAILED and reason != TOO_LOW
    ]
    failed = sum(outcome is CreditOutcome.FAILED for _, outcome, _ in chunk.uncredited)
    values: dict[str, Any] = {
        "last_membership_id": last_id,
        "credited": run.credited + chunk.credited,
        "passed": run.passed + len(chunk.uncredited) - failed,
        "failed": run.failed + failed,
    }
    tx.execute(_UPDATE_PROGRESS, {"run_id": run.id} | values)
    return Advance(replace(run, **values), more=True, failures=failures, done=chunk.credited, unpaid=failed)


_LOCK = (
    sa.select(_run, _schedule.c.enabled, _schedule.c.deleted_at, _schedule.c.done_until)
    .join(_schedule, _schedule.c.id == _run.c.schedule_id)
    .where(_run.c.id == sa.bindparam("run_id"))
    .with_for_update(key_share=True)
)
"""Until the transaction ends, no other can advance the run and no member can join, leave or renew."""

_UPDATE_PROGRESS = (
    sa.update(_run)
    .where(_run.c.id == sa.bindparam("run_id"))
    .values({name: sa.bindparam(name) for name in ("last_membership_id", *CreditOutcome)})
)


def _close(tx: Connection, run: Run, now: datetime, note: str) -> Run:
    if run.state is not RunState.OPEN:
        return run
    values: dict[str, Any] = {"state": RunState.DONE, "closed_at": now, "note": note}
    tx.execute(sa.update(_run).where(_run.c.id == run.id, _run.c.state == RunState.OPEN).values(values))
    return replace(run, **values)


# -- reading ---------------------------------------------------------------------------------------------------------


def find_run(tx: Connection, run_id: int) -> Run:
    """Return a run by its id. Raise `NotFound` if there never was one: runs are never deleted."""
    row = tx.execute(sa.select(_run).where(_run.c.id == run_id)).first()
    if row is None:
        raise NotFound(f"there is no run {run_id}")
    return value_from_row(row, Run)


def find_of_date(tx: Connection, schedule_id: int, due_on: date) -> Run:
    """Return the run of a due date of a schedule. Raise `NotFound` if there was none."""
    row = tx.execute(sa.select(_run).where(_run.c.schedule_id == schedule_id, _run.c.due_on == due_on)).first()
    if row is None:
        raise NotFound(f"schedule {schedule_id} has no run of {due_on}")
    return value_from_row(row, Run)


def history(tx: Connection, *, schedule_id: int | None = None, before: date | None = None, limit: int) -> list[Run]:
    """Return the last runs, latest due date first, filtered by schedule and ``before`` a date where these are set."""
    statement = sa.select(_run).order_by(_run.c.due_on.desc(), _run.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(_run.c.due_on < before)
    if schedule_id is not None:
        statement = statement.where(_run.c.schedule_id == schedule_id)
    return [value_from_row(row, Run) for row in tx.execute(statement)]


@dataclass(frozen=True, slots=True)
class Uncredited:
    """A member who got nothing from a run, and why."""

    subscriber_id: int
    username: str
    outcome: CreditOutcome
    note: str
    at: datetime


def uncredited(tx: Connection, run: Run, *, limit: int) -> list[Uncredited]:
    """Return the members that a run passed over or failed to credit or to charge, in the order of processing."""
    subscriber = tables.subscriber.c
    record = _credit if run.when_short is None else tables.fee_period
    at = _credit.c.at if run.when_short is None else sa.func.coalesce(record.c.closed_at, record.c.due_at)
    of_record = (record.c[name] for name in ("subscriber_id", "outcome", "note"))
    columns: list[sa.ColumnElement[Any]] = [*of_record, subscriber.username, at.label("at")]
    rows = tx.execute(
        sa.select(*columns)
        .join(tables.subscriber, subscriber.id == record.c.subscriber_id)
        .where(
            record.c.schedule_id == run.schedule_id,
            record.c.due_on == run.due_on,
            record.c.outcome != CreditOutcome.CREDITED,
        )
        .order_by(record.c.id)
        .limit(limit)
    )
    return [value_from_row(row, Uncredited) for row in rows]
