"""The forecast: who would get what by a date, and the totals, without writing anything.

It asks the database what a run asks (`celcombiller.core.schedules.chunk_sql`), of all members at once. So it reads for
as long as the group is big: not in the writing thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.schedules import CreditOutcome, Run, RunState, Schedule
from celcombiller.core.schedules.chunk_sql import RunParameters, members, skip_reasons
from celcombiller.core.schedules.due_dates import due_dates
from celcombiller.core.schedules.runs import open_runs, plan
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.accounts import Kind
    from celcombiller.core.schedules.runs import ScheduleRules

DATES_MAX = 100
"""Due dates in one forecast at most; each costs a read of the whole group."""

_membership, _subscriber = tables.membership, tables.subscriber


@dataclass(frozen=True, slots=True)
class DueForecast:
    """A run that goes on or would be made, and to how many members it would (still) bring what."""

    run: Run
    credited: int
    passed: int
    failed: int

    def total(self, kind: Kind) -> int:
        """Credits of a kind that it would move."""
        return self.credited * self.run.value if kind in self.run.kind.kinds else 0


@dataclass(frozen=True, slots=True)
class DueMember:
    """What a run would bring one member: ``value`` of each of its kinds, or nothing and why."""

    username: str
    subscriber_id: int
    due_on: date
    outcome: CreditOutcome
    value: int
    note: str


def due(tx: Connection, schedule: Schedule, rules: ScheduleRules, today: date, now: datetime) -> list[DueForecast]:
    """Give what `decide` and `advance` would do if ``today`` were the last date that has come."""
    if len(list(islice(due_dates(schedule, schedule.done_until, today), DATES_MAX + 1))) > DATES_MAX:
        raise InvalidValue(f"{schedule.name} has more than {DATES_MAX} due dates until {today}: look less far")
    runs = [*open_runs(tx, schedule.id), *plan(tx, schedule, today, now)]
    return [_counted(tx, run, runs[:place], rules) for place, run in enumerate(runs)]


def due_members(tx: Connection, dues: Sequence[DueForecast], rules: ScheduleRules, *, limit: int) -> list[DueMember]:
    """Give the first ``limit`` turns of a forecast, by date and then in the order in which the members joined."""
    found: list[DueMember] = []
    runs = [each.run for each in dues]
    for place, run in enumerate(runs):
        if run.state is RunState.OPEN and len(found) < limit:
            turns = _turns(run, runs[:place], rules).add_columns(_subscriber.c.username, _membership.c.subscriber_id)
            for row in tx.execute(turns.order_by(_membership.c.id).limit(limit - len(found))):
                outcome = CreditOutcome(row.outcome)
                value = run.value if outcome is CreditOutcome.CREDITED else 0
                found.append(DueMember(row.username, row.subscriber_id, run.due_on, outcome, value, row.note))
    return found


def _counted(tx: Connection, run: Run, before: Sequence[Run], rules: ScheduleRules) -> DueForecast:
    counts: dict[str, int] = {}
    if run.state is RunState.OPEN:
        turns = _turns(run, before, rules).subquery()
        rows = tx.execute(sa.select(turns.c.outcome, sa.func.count().label("members")).group_by(turns.c.outcome))
        counts = {row.outcome: row.members for row in rows}
    return DueForecast(run, *(counts.get(outcome, 0) for outcome in ("credited", "passed", "failed")))


def _turns(run: Run, before: Sequence[Run], rules: ScheduleRules) -> sa.Select[Any]:
    """Select the members whose date it would be, after the runs ``before`` took what they take."""
    facts = RunParameters.of(run)
    source, pots = members(run.kind)
    earlier = [each for each in before if each.state is RunState.OPEN]
    used: sa.ColumnElement[int] = sa.literal(0)
    given: sa.ColumnElement[int] = sa.literal(run.value, sa.BigInteger)
    for each in earlier:
        turn = RunParameters.of(each).due()
        used = used + sa.case((turn, 1), else_=0)
        given = given + sa.case((turn, each.value), else_=0)
    if not rules.disabled_use_up:
        used = sa.case((_subscriber.c.enabled, used), else_=0)
    reasons = list(skip_reasons(run.kind, pots, given))
    outcome = sa.case(
        *((condition, outcome.value) for condition, outcome, _ in reasons), else_=CreditOutcome.CREDITED.value
    )
    return (
        sa.select(outcome.label("outcome"), sa.case(*((c, note) for c, _, note in reasons), else_="").label("note"))
        .select_from(source)
        .where(facts.due(), _membership.c.count > used, _subscriber.c.deleted_at.is_(None))
    )
