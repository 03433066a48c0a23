"""As tests/test_plans.py, asked of PostgreSQL's planner."""

import pytest
import sqlalchemy as sa
from test_plans import scans, the_path_of_a_call

from celcombiller.bench import house
from celcombiller.store import open_engine


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
