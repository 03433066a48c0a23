"""As tests/test_plans.py, asked of PostgreSQL's planner."""

import pytest
import pytest_twisted
import sqlalchemy as sa
from test_ledger import TERMS, ended, initiate
from test_plans import scans, the_path_of_a_call
from twisted.internet import reactor
from twisted.internet.defer import DeferredList

from celcombiller.bench import house
from celcombiller.charging import perform
from celcombiller.store import Store, open_engine


@pytest.fixture
def engine(cluster):
    url = cluster.database()
    house.fill(url, 10)
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


def test_no_query_of_a_call_scans_a_table_on_postgresql(engine, monkeypatch):
    statements = the_path_of_a_call(engine, monkeypatch)
    assert len(statements) >= 15
    sa.event.listen(engine, "begin", without_scans_if_possible)
    assert scans(engine, "explain", statements) == []
    assert len(scans(engine, "explain", {"select * from call where outcome = 'x'": ()})) == 1


def scanned(url):
    """Give how often each table of a call was read from end to end."""
    engine = sa.create_engine(url)
    with engine.begin() as tx:
        rows = tx.execute(sa.text("select relname, seq_scan from pg_stat_user_tables")).all()
    engine.dispose()
    return {name: count for name, count in rows if name in {"call", "hold", "account", "subscriber", "transfer"}}


@pytest_twisted.ensureDeferred
async def test_large_batches_on_new_tables_leave_no_plan_behind_that_scans_them(cluster):
    """A plan for a batch of any size is made after five of them, while the tables are small, and kept as they grow."""
    url = cluster.database()
    house.fill(url, 200)
    before = scanned(url)
    made = open_engine(url, lock_seconds=5)
    store = Store(reactor, made, lambda tx, requests, now: perform(tx, TERMS, requests, now))
    store.start()
    for batch in range(30):
        uniqueids = [f"{batch}.{n}" for n in range(64)]
        numbers = [str(house.FIRST_NUMBER + n) for n in range(64)]
        asked = [initiate(each, number, number) for each, number in zip(uniqueids, numbers, strict=True)]
        for requests in (asked, [ended(each) for each in uniqueids]):
            assert all(success for success, _ in await DeferredList(map(store.charge, requests)))
    await store.close()
    made.dispose()  # a session's counts are there when it is over
    assert scanned(url) == before
