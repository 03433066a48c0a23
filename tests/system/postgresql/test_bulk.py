"""As tests/test_setwise.py, on PostgreSQL; and a connection that is cut in mid-transaction."""

import pytest
import sqlalchemy as sa
from hypothesis import given
from sqlalchemy import exc

from celcombiller.bench import environment
from celcombiller.core.schema import bulk
from celcombiller.database.engine import open_engine
from tests.core.schema.test_bulk import (
    HOLD,
    check_round_trip,
    hold,
    many_rows,
    read,
    row_sets,
    test_a_row_inserted_once_stays_as_it_is,
    test_a_row_that_is_not_as_it_was_read_is_a_lost_race_and_nothing_is_written,
    test_a_time_without_a_zone_is_refused,
    test_each_question_gets_its_own_rows_and_who_asks_for_nothing_gets_nothing,
    test_the_drivers_errors_are_sqlalchemys,
    write,
)

__all__ = [
    "test_a_row_inserted_once_stays_as_it_is",
    "test_a_row_that_is_not_as_it_was_read_is_a_lost_race_and_nothing_is_written",
    "test_a_time_without_a_zone_is_refused",
    "test_each_question_gets_its_own_rows_and_who_asks_for_nothing_gets_nothing",
    "test_the_drivers_errors_are_sqlalchemys",
]


@pytest.fixture
def engine(cluster):
    url = cluster.database()
    environment.fill(url, 1)
    made = open_engine(url, lock_seconds=5)
    yield made
    made.dispose()


@many_rows
@given(row_sets)
def test_rows_are_read_as_they_were_written(engine, rows):
    check_round_trip(engine, rows)


def test_a_connection_that_was_cut_is_known_to_be_gone(engine):
    write(engine, insert=[hold("a")])
    with engine.connect() as connection:
        transaction = connection.begin()
        (number,) = connection.exec_driver_sql("select pg_backend_pid()").one()
        with engine.begin() as other:
            other.execute(sa.text("select pg_terminate_backend(:number)"), {"number": number})
        with pytest.raises(exc.OperationalError) as caught:
            bulk.write(connection, [(HOLD, [hold("b")])])
        assert caught.value.connection_invalidated
        assert connection.invalidated
        transaction.close()
    assert len(read(engine)) == 1
