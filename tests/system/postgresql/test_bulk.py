"""A connection to PostgreSQL that is cut in mid-transaction."""

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from celcombiller.core.schema import bulk
from tests.core.schema.test_bulk import HOLD, hold, read, write

pytestmark = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


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
