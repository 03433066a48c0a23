"""As tests/core/test_query_plans.py, asked of PostgreSQL's planner."""

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import DeferredList

from celcombiller.bench import environment
from celcombiller.core.charging.batch import process_batch
from celcombiller.database.batch_writer import BatchWriter
from celcombiller.database.engine import open_engine
from tests.core.ledger.test_book import TERMS, ended, initiate
from tests.core.test_query_plans import scans, the_path_of_a_call
from tests.support import databases
from tests.system.lab.waiting import until

ROWS_OF_A_CALL = 40
"""Looked at by indexes for one call, and the checks of its foreign keys; rows that are changed leave old ones."""


@pytest.fixture
def engine(cluster):
    url = databases.postgresql(cluster)
    environment.fill(url, 10)
    made = open_engine(url, lock_seconds=5)
    with made.begin() as tx:
        tx.execute(
            sa.text("update subscriber set username = 'u1001', clid = '1001', imsi = '724000000001001' where id = 2")
        )
        tx.execute(sa.text("update subscriber set clid = '1002' where id = 3"))
    yield made
    made.dispose()


def without_scans_if_possible(connection, _branch=None):
    """Small tables are scanned because they are small; here only a query for which there is no index is."""
    connection.exec_driver_sql("set enable_seqscan = off")


def test_no_call_query_scans_a_table_on_postgresql(engine, monkeypatch):
    statements = the_path_of_a_call(engine, monkeypatch)
    assert len(statements) >= 15
    sa.event.listen(engine, "begin", without_scans_if_possible)
    assert scans(engine, "explain", statements) == []
    assert len(scans(engine, "explain", {"select * from call where outcome = 'x'": ()})) == 1


def looked_at(url):
    """Return the number of sequential scans of each table of a call, and of rows that were read by indexes.

    A session adds its counts when it ends, a moment after its client has gone.
    """
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as tx:
        others = (
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            " and backend_type = 'client backend'"
        )
        until(lambda: tx.exec_driver_sql(others).scalar_one() == 0, "all other sessions are over")
        scans = tx.execute(sa.text("select relname, seq_scan from pg_stat_user_tables")).all()
        found = tx.execute(
            sa.text("select relname, sum(idx_tup_read) from pg_stat_user_indexes group by relname")
        ).all()
    engine.dispose()
    of_a_call = {"call", "hold", "account", "subscriber", "transfer", "testimony"}
    return {name: each for name, each in scans if name in of_a_call}, sum(n for name, n in found if name in of_a_call)


@pytest.mark.parametrize(("singles", "batches"), [(0, 30), (20, 30), (200, 0)])
@pytest_twisted.ensureDeferred
async def test_first_batches_leave_no_sequential_scan_plans(cluster, singles, batches):
    """A plan for a batch of any size is made after five of them, while the tables are small, and kept as they grow."""
    url = databases.postgresql(cluster)
    environment.fill(url, 1000)
    scans_before, rows_before = looked_at(url)
    made = open_engine(url, lock_seconds=5)
    store = BatchWriter(reactor, made, lambda tx, requests, now: process_batch(tx, TERMS, requests, now))
    store.start()
    sizes = [1] * singles + [64] * batches
    for batch, size in enumerate(sizes):
        uniqueids = [f"{batch}.{n}" for n in range(size)]
        numbers = [str(environment.FIRST_NUMBER + n) for n in range(size)]
        asked = [initiate(each, number, number) for each, number in zip(uniqueids, numbers, strict=True)]
        for requests in (asked, [ended(each) for each in uniqueids]):
            assert all(success for success, _ in await DeferredList(map(store.charge, requests)))
    await store.close()
    made.dispose()
    scans, rows = looked_at(url)
    assert scans == scans_before
    assert rows - rows_before < sum(sizes) * ROWS_OF_A_CALL
