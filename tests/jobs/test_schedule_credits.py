"""The service: it looks at the start and every minute, tells the log, stops between two chunks, outlives errors."""

from datetime import time
from functools import partial

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.schedules import memberships
from celcombiller.core.schedules.due_dates import comes_at
from celcombiller.core.schedules.runs import ScheduleRules
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.batch_writer import BatchWriter
from celcombiller.jobs import schedule_credits, schedule_pass
from celcombiller.jobs.schedule_credits import ScheduleCreditService
from tests.core.ledger.test_book import database
from tests.support.schedules import DAY, NOW, TODAY, credit_rows, plan, pots, proved


@pytest.fixture
def engine(tmp_path):
    made = database(tmp_path / "nightly.sqlite")
    with made.begin() as tx:
        daily = plan(tx, count=9)
        for username in ("u1001", "u1002", "u1003"):
            memberships.join(tx, daily, subscriber_records.find(tx, username).id, now=NOW)
    yield made
    proved(made)
    made.dispose()


@pytest.fixture
def lines():
    heard = []

    def hear(event):
        if event.get("log_namespace", "").startswith("celcombiller.jobs.schedule_credits"):
            heard.append((event["log_level"].name, formatEvent(event)))

    globalLogPublisher.addObserver(hear)
    yield heard
    globalLogPublisher.removeObserver(hear)


class Here:
    """The service in this thread: a clock that the test moves, a database that may be away."""

    def __init__(self, engine):
        self.engine = engine
        self.clock = Clock()
        self.now = NOW
        self.away = False
        self.held = None
        self.service = ScheduleCreditService(self.clock, self.transact, ScheduleRules(), lambda: self.now)

    def transact(self, work):
        if self.away:
            return fail(StoreUnavailable("the database does not answer: gone"))
        with self.engine.begin() as tx:
            done = work(tx)
        if self.held is None:
            return succeed(done)
        answer = Deferred()
        self.held.append((answer, done))
        return answer

    def later(self, *, days=0):
        """Let a minute pass on the clock that does not step, and more on the one that does."""
        self.now += days * DAY
        self.clock.advance(schedule_credits.LOOK_SECONDS)


@pytest.fixture
def one_by_one(monkeypatch):
    """Chunks of one member, whatever time they take."""
    for name in ("SIZE_FIRST", "SIZE_LEAST", "SIZE_MOST"):
        monkeypatch.setattr(schedule_pass, name, 1)


@pytest.fixture
def here(engine):
    made = Here(engine)
    yield made
    if made.service.running:
        made.service.stopService()


def test_it_credits_at_start_and_each_minute(here):
    here.service.startService()
    assert len(credit_rows(here.engine)) == 3
    here.later()
    assert len(credit_rows(here.engine)) == 3
    here.later(days=1)
    assert [row[2] for row in credit_rows(here.engine)] == [TODAY] * 3 + [TODAY + DAY] * 3


def test_it_logs_each_run_once(here, lines):
    here.service.startService()
    here.later()
    assert [text for level, text in lines if level == "info"] == [
        f"Schedule 1 (daily), due on {TODAY}: 10 to each member",
        f"Schedule 1, due on {TODAY}: 3 credited, 0 passed over, 0 failed in all",
    ]


def test_a_long_run_says_how_far_it_is(one_by_one, here, lines):
    transact = here.service._round._transact

    def slow(work):
        here.clock.rightNow += schedule_credits.PROGRESS_SECONDS / 2
        return transact(work)

    here.service._round._transact = slow
    here.service.startService()
    said = [text.partition(": ")[2] for _, text in lines][1:]
    assert said == ["3 credited, 0 passed over, 0 failed so far", "3 credited, 0 passed over, 0 failed in all"]


def test_it_names_failed_members_up_to_a_limit(one_by_one, here, lines, monkeypatch):
    monkeypatch.setattr(schedule_credits, "FAILURES_TOLD", 2)
    with here.engine.begin() as tx:
        tx.execute(sa.delete(tables.account).where(tables.account.c.subscriber_id.is_not(None)))
    here.service.startService()
    assert [text.partition("subscriber ")[2] for level, text in lines if level == "warn"] == [
        f"{number} was not credited: there is no voice account" for number in (1, 2)
    ]
    assert lines[-1][1].endswith("0 credited, 0 passed over, 3 failed in all")


def test_a_long_absence_is_logged_daily_and_waits(here, lines):
    here.now += 100 * DAY
    here.service.startService()
    here.later()
    here.later(days=1)
    warned = [text for level, text in lines if level == "warn"]
    assert ["for 101 days since" in warned[0], "for 102 days since" in warned[1], len(warned)] == [True, True, 2]
    assert credit_rows(here.engine) == []


def test_lag_is_measured_until_credits_are_given(here):
    lag = partial(here.service._metrics.registry.get_sample_value, "celcombiller_schedule_lag_seconds")
    first = TODAY
    here.now += 100 * DAY  # longer than is caught up by itself
    here.service.startService()
    assert lag() == (here.now - comes_at(first, time(0, 30), "UTC")).total_seconds()
    here.now -= 100 * DAY
    here.later()
    assert len(credit_rows(here.engine)) == 3
    assert lag() == 0


def test_a_database_outage_is_one_line(here, lines):
    here.away = True
    here.service.startService()
    here.later()
    assert [text for level, text in lines] == ["Schedules wait for the database: the database does not answer: gone"]
    here.away = False
    here.later()
    assert len(credit_rows(here.engine)) == 3


def test_a_failing_schedule_is_logged_and_retried(here, expected_failures):
    with here.engine.begin() as tx:
        tx.execute(sa.text("update schedule set time_zone = 'Gone/Away'"))
    here.service.startService()
    assert [str(failure.value) for failure in expected_failures if "Gone/Away" in str(failure.value)]
    expected_failures.clear()
    with here.engine.begin() as tx:
        tx.execute(sa.text("update schedule set time_zone = 'UTC'"))
    here.later()
    assert len(credit_rows(here.engine)) == 3


def test_a_stop_waits_for_the_current_chunk(one_by_one, here):
    here.held = []
    here.service.startService()
    for _ in range(5):  # how late it is, the schedules, the decision, the open runs, the first chunk
        answer, done = here.held.pop()
        if here.held == [] and len(credit_rows(here.engine)) == 1:
            break
        answer.callback(done)
    over = []
    here.service.stopService().addCallback(over.append)
    assert over == []
    answer.callback(done)
    assert len(over) == 1
    assert len(credit_rows(here.engine)) == 1
    here.held = None
    here.service.startService()
    assert len(credit_rows(here.engine)) == 3


@pytest_twisted.ensureDeferred
async def test_calls_run_between_a_runs_chunks(one_by_one, engine):
    seen = []

    def perform(tx, requests, now):
        seen.append(tx.execute(sa.select(sa.func.count()).select_from(tables.schedule_credit)).scalar_one())
        return requests

    store = BatchWriter(reactor, engine, perform)
    store.start()
    asked = []
    round_ = schedule_pass.SchedulePass(
        store.transact,
        ScheduleRules(),
        clock=lambda: NOW,
        seconds=reactor.seconds,
        tell=lambda _: asked.append(store.charge("a call")),
    )
    await round_.run()
    for each in asked:
        await each
    await store.close()
    assert seen == [0, 1, 2, 3, 3]
    assert pots(engine, "u1001") == (10, 0, 0)
