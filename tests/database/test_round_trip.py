"""Statements of one round trip on PostgreSQL: begun, committed and prepared as by psycopg, and safe after any error."""

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from celcombiller.core.schema import bulk, driver
from celcombiller.database import round_trip
from tests.core.ledger.test_book import NOW
from tests.core.schema.test_bulk import END, FOUND, HOLD, hold, read, write

pytestmark = [pytest.mark.real, pytest.mark.parametrize("engine", ["postgresql"], indirect=True)]


@pytest.fixture
def exchanges(monkeypatch):
    """Collect the texts of the statements of each round trip."""
    seen, exchange = [], round_trip.RoundTrips._exchange

    def collect(trips, statements):
        seen.append([text for text, _ in statements])
        return exchange(trips, statements)

    monkeypatch.setattr(round_trip.RoundTrips, "_exchange", collect)
    return seen


def test_no_statement_is_compiled_first(engine):
    with engine.connect() as tx:
        assert tx.exec_driver_sql("show jit").scalar_one() == "off"


def test_a_batch_takes_two_round_trips(engine, exchanges):
    write(engine, insert=[hold("a")])
    exchanges.clear()
    with engine.begin() as tx:
        assert bulk.read(tx, FOUND.with_values(["a"])) == [[["a", 5, None]]]
        bulk.write(tx, [(HOLD, [hold("b")])], commits=True)
        with engine.connect() as other:
            assert other.execute(sa.text("select count(*) from hold")).scalar_one() == 2
    assert [[text.partition(" ")[0] for text in each] for each in exchanges] == [
        ["begin", "select"],
        ["with", "commit"],
    ]


def test_a_lost_race_commits_nothing(engine):
    write(engine, insert=[hold("a", 1)])
    with pytest.raises(bulk.LedgerRace), engine.begin() as tx:
        bulk.write(tx, [(HOLD, [hold("b")]), (END, [("settled", NOW, "a", "open", 7)])], commits=True)
    assert [(row[0], row[3]) for row in read(engine)] == [("a", "open")]


def test_a_failed_statement_leaves_the_connection_usable(engine):
    write(engine, insert=[hold("a")])
    with engine.connect() as connection:
        for _ in range(3):
            with pytest.raises(exc.IntegrityError), connection.begin():
                bulk.write(connection, [(HOLD, [hold("b"), hold("a")])], commits=True)
        with connection.begin():
            assert bulk.read(connection, FOUND.with_values(["a", "b"])) == [[["a", 5, None]]]


def test_statements_outlive_psycopgs_deallocation(engine):
    with engine.connect() as connection:
        for commits in (False, True, False):
            with connection.begin() as transaction:
                assert bulk.read(connection, FOUND.with_values(["a"])) == [()]
                connection.connection.dbapi_connection.execute("select 1", prepare=True)
                if not commits:
                    transaction.rollback()
        with connection.begin():
            assert bulk.read(connection, FOUND.with_values(["a"])) == [()]


def test_statements_outlive_a_savepoint_that_is_undone(engine):
    with engine.connect() as connection:
        for _ in range(20):  # psycopg prepares what it has executed some times, and then deallocates all in a rollback
            with connection.begin():
                assert bulk.read(connection, FOUND.with_values(["a"])) == [()]
                nested = connection.begin_nested()
                connection.execute(sa.text("select count(*) from hold"))
                nested.rollback()
                assert bulk.read(connection, FOUND.with_values(["a"])) == [()]


def test_statements_outlive_a_return_to_the_pool(engine):
    for _ in range(3):
        with engine.connect() as connection:
            assert bulk.read(connection, FOUND.with_values(["a"])) == [()]
            connection.connection.dbapi_connection.execute("select 1", prepare=True)


def test_only_so_many_statements_are_prepared(engine, monkeypatch):
    monkeypatch.setattr(round_trip, "PREPARED_MAX", 3)
    with engine.begin() as tx:
        for number in range(6):
            assert driver.fetch_row(tx, f"select {number} + %s::int", ["1"]) == [b"%d" % (number + 1)]
        assert driver.fetch_row(tx, "select count(*) from pg_prepared_statements where %s = ''", [""]) == [b"3"]


def test_values_larger_than_any_buffer_are_sent(engine):
    with engine.begin() as tx:
        large = "x" * (16 << 20)
        assert driver.fetch_row(tx, "select length(%s)", [large]) == [b"%d" % len(large)]
        assert driver.fetch_row(tx, "select %s || 'y'", [large]) == [large.encode() + b"y"]


def test_a_chosen_isolation_level_is_kept(engine):
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
        assert driver.fetch_row(connection, "show transaction_isolation", []) == [b"repeatable read"]
