"""What operators watch, on PostgreSQL, which may be away: the numbers come when it is back."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from twisted.internet.task import Clock

from celcombiller.core.ledger import accounts
from celcombiller.core.model.accounts import Kind
from celcombiller.core.reports.open_items import calls_statement, count_open_items, holds_statement
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine
from celcombiller.jobs.ledger_audit import AUDIT_SECONDS_MAX, LedgerAuditService
from celcombiller.runtime.metrics import Metrics
from tests.core.ledger.test_book import NOW, ask, credit, database, ended, initiate
from tests.support import databases

ROWS = 2000
EVENING = NOW + timedelta(hours=6)
"""Late enough to be certain of the day: the audit does not know the operator's zone."""


@pytest.fixture
def url(cluster):
    """Give a database with a long history and one call in progress."""
    made = databases.postgresql(cluster)
    engine = database(url=made, lock_seconds=5)
    ask(engine, credit(60))
    ask(engine, initiate())
    engine.dispose()
    return made


@pytest.fixture
def reading(url):
    made = open_engine(url, lock_seconds=5, read_seconds=AUDIT_SECONDS_MAX)
    yield made
    made.dispose()


def test_open_items_use_partial_indexes(url, reading):
    with reading.begin() as tx:
        found = count_open_items(tx, datetime.now(UTC))
    assert (found.holds, found.held, found.calls, found.overdue) == (1, 60, {"pbx1": 1}, 1)
    engine = open_engine(url, lock_seconds=5)
    with engine.begin() as tx:
        tx.exec_driver_sql(
            "insert into hold (reference, account_id, amount, state, opened_at, expires_at, ended_at)"
            f" select 'old:' || n, account_id, 1, 'released', opened_at, expires_at, opened_at from hold, generate_series(1, {ROWS}) n"
        )
        tx.exec_driver_sql("set local enable_seqscan = off")
        for statement, index in ((holds_statement(NOW), "ix_hold_open"), (calls_statement(), "ix_call_open")):
            plan = tx.execute(
                sa.text("explain " + str(statement.compile(engine, compile_kwargs={"literal_binds": True})))
            )
            assert any(index in row[0] for row in plan)
    engine.dispose()


def voice_id(tx):
    return accounts.balances(tx, subscriber_records.find(tx, "u1001").id)[Kind.VOICE].id


class Here(Clock):
    def callFromThread(self, work, *arguments):
        work(*arguments)


def test_calls_during_an_audit_are_no_difference(url, reading):
    """1 s: after each of its statements a call is charged, which the next statement must not see."""
    writer, numbers = open_engine(url, lock_seconds=5), itertools.count()

    def charge_one():
        name = f"beside.{next(numbers)}"
        ask(writer, initiate(name), now=EVENING)
        ask(writer, ended(name), now=EVENING)

    ask(writer, credit(100_000, "for calls"))
    with writer.begin() as tx:
        accounts.set_spending_limits(tx, voice_id(tx), day_limit=100_000, month_limit=None, zone=UTC, now=NOW)
    charge_one()

    @sa.event.listens_for(reading, "after_cursor_execute")
    def during(*_):
        charge_one()

    metrics = Metrics()
    LedgerAuditService(Here(), reading, 24, metrics)._prove()
    assert b"\ncelcombiller_audit_timestamp_seconds 0.0\n" not in metrics.exposition(None, {})
    assert next(numbers) > 10
    assert b"\ncelcombiller_audit_differences 0.0\n" in metrics.exposition(None, {})
    writer.dispose()


def test_an_audit_only_reads_within_its_limit(reading):
    metrics = Metrics()
    LedgerAuditService(Here(), reading, 24, metrics)._prove()
    assert b"\ncelcombiller_audit_differences 0.0\n" in metrics.exposition(None, {})
    assert b"\ncelcombiller_audit_timestamp_seconds 0.0\n" not in metrics.exposition(None, {})
    with pytest.raises(sa.exc.InternalError, match="read-only"), reading.begin() as tx:
        tx.exec_driver_sql("delete from hold")
