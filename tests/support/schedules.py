"""What the tests of schedules share: a database with members, and the round, driven here and now."""

from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa

from celcombiller.core.audit.report import audit
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schedules import runs, schedule_records
from celcombiller.core.schedules.runs import ScheduleRules
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.jobs import schedule_pass
from celcombiller.jobs.schedule_pass import SchedulePass

NOW = datetime(2026, 11, 5, 12, tzinfo=UTC)
TODAY = NOW.date()
DAY = timedelta(days=1)
RULES = ScheduleRules()


def subscriber(tx, number):
    return subscriber_records.add(
        tx,
        username=f"u{number}",
        name="N",
        clid=str(number),
        imsi=f"7240000000{number:05}",
        cpf=None,
        address="",
        level=Level.SUBSCRIBER,
        password_hash=None,
        now=NOW,
    )


def plan(tx, now=NOW, **facts):
    """Make a schedule that is due on each day, unless it is said otherwise."""
    usual = {
        "name": "daily",
        "kind": 1,
        "value": 10,
        "recurrence": "days",
        "day": None,
        "interval_days": 1,
        "first_on": date(2026, 1, 1),
        "count": 3,
        "time_zone": "UTC",
    }
    if "recurrence" in facts:
        usual["interval_days"] = None
    return schedule_records.add(tx, **usual | facts, now=now)


class Killed(StoreUnavailable):
    """The process is gone as far as the database can tell: the transaction is not there, and the round has ended."""


def go(engine, now=NOW, rules=RULES, only=None, size=2):
    """Do a round to its end; give what it told."""
    told = []

    async def at_once(work):
        with engine.begin() as tx:
            return work(tx)

    ticks = iter(range(10**9))
    round_ = SchedulePass(
        at_once, rules, clock=lambda: now, seconds=lambda: next(ticks) * schedule_pass.CHUNK_SECONDS, tell=told.append
    )
    round_._size = size
    drive(round_.run(only))
    return told


def drive(work):
    """Run a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as over:
        return over.value
    raise AssertionError("it waited")


def credit_rows(engine):
    """Give each credit row as (schedule, username, due date, outcome)."""
    credit, subscriber = tables.schedule_credit.c, tables.subscriber.c
    with engine.begin() as tx:
        rows = tx.execute(
            sa.select(credit.schedule_id, subscriber.username, credit.due_on, credit.outcome)
            .where(subscriber.id == credit.subscriber_id)
            .order_by(credit.id)
        )
        return [tuple(row) for row in rows]


def pots(engine, username):
    with engine.begin() as tx:
        found = balances(tx, subscriber_records.find(tx, username).id)
    return tuple(found[kind].posted for kind in Kind)


def states(engine):
    with engine.begin() as tx:
        return {run.due_on: run.state.value for run in runs.history(tx, limit=1000)}


def proved(engine):
    with engine.begin() as tx:
        report = audit(tx)
    assert report.ok, report.differences
