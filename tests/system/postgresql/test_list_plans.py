"""Long lists on PostgreSQL: whatever is asked, its planner finds an index, as SQLite's does."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.voice import call_queries
from celcombiller.database.engine import open_engine
from tests.support import databases
from tests.support.query_plans import calls_plan, every_question, plans_of, record_calls

pytestmark = pytest.mark.xdist_group("lists")  # one database for all of it
SUBSCRIBERS, CALLS = 200, 50_000


@pytest.fixture(scope="module")
def engine(cluster):
    made = open_engine(databases.postgresql(cluster), lock_seconds=5)
    with made.begin() as tx:
        payers = []
        for n in range(SUBSCRIBERS):
            added = subscriber_records.add(
                tx,
                username=f"u{n}",
                name="N",
                clid=f"{10_000 + n}",
                imsi=f"7240000000{10_000 + n}",
                cpf=None,
                address="",
                level=Level.SUBSCRIBER,
                password_hash=None,
                now=datetime.now(UTC),
            )
            payers.append(added.id)
        accounts = dict(map(tuple, tx.execute(sa.select(tables.account.c.subscriber_id, tables.account.c.id))))
        record_calls(tx, CALLS, subscribers=[(each, accounts[each]) for each in payers])
    with made.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("analyze"))
    yield made
    made.dispose()


def test_no_filter_of_calls_scans_the_table(engine):
    for wanted, after in every_question():
        plan = calls_plan(engine, wanted, after)
        assert plan
        assert not [line for line in plan if "Seq Scan on call" in line], f"{wanted} {after}: {plan}"


OPEN = call_queries.OpenCall(1, "r", "u", 1, datetime(2030, 1, 1, tzinfo=UTC))


def test_the_sweeps_look_at_open_calls_only(engine):
    for work in (
        lambda tx: call_queries.list_open(tx, "pbx1", after=None, limit=9),
        lambda tx: call_queries.list_open(tx, "pbx1", after=OPEN, limit=9),
        lambda tx: call_queries.overdue_calls(tx, datetime.now(UTC), limit=9),
    ):
        plan = plans_of(engine, work)
        assert plan
        assert not [line for line in plan if "Seq Scan on call" in line], plan
