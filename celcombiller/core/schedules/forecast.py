"""The forecast: what each member would get by a date, and the totals, without writing anything.

It runs the queries of a run (`celcombiller.core.schedules.chunk_sql`) on all members at once. Its time grows with the
group, so it must not run in the writing thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.schedules import CreditOutcome, Run, RunState, Schedule, WhenShort
from celcombiller.core.schedules import fee_chunk
from celcombiller.core.schedules.chunk_sql import RunParameters, members, skip_reasons
from celcombiller.core.schedules.due_dates import due_dates
from celcombiller.core.schedules.runs import open_runs, plan
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.schedules.runs import ScheduleRules

DATES_MAX = 100
"""Most due dates in one forecast; each costs a scan of the whole group."""

_membership, _subscriber, _credit = tables.membership, tables.subscriber, tables.schedule_credit


@dataclass(frozen=True, slots=True)
class DueForecast:
    """An open or future run, and how many members it would still credit, pass over or fail to credit."""

    run: Run
    credited: int
    passed: int
    failed: int

    def total(self, kind: Kind) -> int:
        """Return the credits of a kind that the run would move."""
        return self.credited * self.run.value if kind in self.run.kinds else 0


@dataclass(frozen=True, slots=True)
class DueMember:
    """What one member would get from a run: ``value`` of each of its kinds, or 0 with the reason in ``note``.

    Of a fee it is what would be taken; ``lacking`` is what the balance lacks of it.
    """

    username: str
    subscriber_id: int
    due_on: date
    outcome: CreditOutcome
    value: int
    note: str
    lacking: int = 0


def due(tx: Connection, schedule: Schedule, rules: ScheduleRules, today: date, now: datetime) -> list[DueForecast]:
    """Return what `decide` and `advance` would do if ``today`` were the last date that has come."""
    if len(list(islice(due_dates(schedule, schedule.done_until, today), DATES_MAX + 1))) > DATES_MAX:
        raise InvalidValue(f"{schedule.name} has more than {DATES_MAX} due dates until {today}: look less far")
    runs = [*open_runs(tx, schedule.id), *plan(tx, schedule, today, now)]
    return [_counted(tx, run, runs[:index], rules) for index, run in enumerate(runs)]


def due_members(tx: Connection, dues: Sequence[DueForecast], rules: ScheduleRules, *, limit: int) -> list[DueMember]:
    """Return the first ``limit`` credits of a forecast, by date and then in the order in which members joined."""
    found: list[DueMember] = []
    runs = [each.run for each in dues]
    for index, run in enumerate(runs):
        if run.state is RunState.OPEN and len(found) < limit:
            outcomes = _outcomes(run, runs[:index], rules).add_columns(
                _subscriber.c.username, _membership.c.subscriber_id
            )
            for row in tx.execute(outcomes.order_by(_membership.c.id).limit(limit - len(found))):
                outcome = CreditOutcome(row.outcome)
                value = run.value if outcome is CreditOutcome.CREDITED else 0
                if run.when_short is not None and outcome is CreditOutcome.FAILED:
                    value = run.value - row.lacking if run.when_short is WhenShort.PART else 0
                found.append(
                    DueMember(row.username, row.subscriber_id, run.due_on, outcome, value, row.note, row.lacking)
                )
    return found


def _counted(tx: Connection, run: Run, before: Sequence[Run], rules: ScheduleRules) -> DueForecast:
    counts: dict[str, int] = {}
    if run.state is RunState.OPEN:
        outcomes = _outcomes(run, before, rules).subquery()
        rows = tx.execute(sa.select(outcomes.c.outcome, sa.func.count().label("members")).group_by(outcomes.c.outcome))
        counts = {row.outcome: row.members for row in rows}
    return DueForecast(run, *(counts.get(outcome, 0) for outcome in ("credited", "passed", "failed")))


def _outcomes(run: Run, before: Sequence[Run], rules: ScheduleRules) -> sa.Select[Any]:
    """Select the outcome for each member who would be due, after the runs ``before`` have used up their counts."""
    source, member_accounts = members(run.kinds)
    earlier = [each for each in before if each.state is RunState.OPEN]
    used: sa.ColumnElement[int] = sa.literal(0)
    credited: sa.ColumnElement[int] = sa.literal(run.value, sa.BigInteger)
    for each in earlier:
        is_due = RunParameters.of(each).due(_credit if run.when_short is None else tables.fee_period)
        used = used + sa.case((is_due, 1), else_=0)
        credited = credited + sa.case((is_due, each.value), else_=0)
    if not rules.disabled_use_up:
        used = sa.case((_subscriber.c.enabled, used), else_=0)
    record = _credit
    lacking: sa.ColumnElement[int] = sa.literal(0)
    if run.when_short is None:
        reasons = list(skip_reasons(run.kinds, member_accounts, credited))
    else:
        record, account = tables.fee_period, member_accounts[Kind.VOICE]
        reasons = list(fee_chunk.outcomes(account, credited))
        left = sa.case((fee_chunk.available(account) > 0, fee_chunk.available(account)), else_=0)
        after_others = sa.case((left > credited - run.value, left - (credited - run.value)), else_=0)
        lacking = sa.case((after_others < run.value, run.value - after_others), else_=0)
    outcome = sa.case(
        *((condition, outcome.value) for condition, outcome, _ in reasons), else_=CreditOutcome.CREDITED.value
    )
    return (
        sa.select(
            outcome.label("outcome"),
            sa.case(*((c, note) for c, _, note in reasons), else_="").label("note"),
            lacking.label("lacking"),
        )
        .select_from(source)
        .where(RunParameters.of(run).due(record), _membership.c.count > used, _subscriber.c.deleted_at.is_(None))
    )
