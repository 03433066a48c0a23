"""Rows written set-wise are what SQLAlchemy reads, guards hold, and the driver's errors are the ones the store knows."""

from datetime import UTC, datetime, timedelta, timezone

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from sqlalchemy import exc

from celcombiller.core.schema import bulk, driver, tables
from tests.core.ledger.test_book import NOW
from tests.support.properties import share

HOLD = bulk.insert(tables.hold, tables.hold.c.keys())
HOLD_ONCE = bulk.insert(tables.hold, tables.hold.c.keys(), once=True)
END = bulk.update(tables.hold, ("state", "ended_at"), key="reference", unchanged=("state", "amount"))
FOUND = bulk.BulkQuery(
    "reference, amount, ended_at",
    "from hold where reference {among}",
    of=tables.hold.c.reference,
    lock="reference",
)

AMOUNTS = bulk.BulkQuery("amount", "from hold where reference {among}", of=tables.hold.c.reference)


def hold(reference="a", amount=5, *, state="open", at=NOW, ended_at=None):
    return (reference, 1, amount, state, at, at, ended_at)


def write(engine, *, insert=(), once=(), update=()):
    with engine.begin() as tx:
        bulk.write(tx, [(HOLD, list(insert)), (END, list(update))])
        bulk.write(tx, [(HOLD_ONCE, list(once))])


def read(engine):
    with engine.begin() as tx:
        return [tuple(row) for row in tx.execute(sa.select(tables.hold).order_by(tables.hold.c.reference))]


zones = st.integers(-12, 12).map(lambda hours: timezone(timedelta(hours=hours)))
moments = st.integers(0, 4 * 10**15).map(lambda since: datetime(1970, 1, 2, tzinfo=UTC) + timedelta(microseconds=since))
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


row_sets = st.dictionaries(texts, st.tuples(st.integers(0, 2**53), moments, st.none() | moments, zones), max_size=8)
many_rows = share(0.3, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check_round_trip(engine, rows):
    made = [
        hold(key, amount, at=at.astimezone(zone), ended_at=end, state="open" if end is None else "settled")
        for key, (amount, at, end, zone) in rows.items()
    ]
    write(engine, insert=made)
    try:
        assert sorted(read(engine)) == sorted(made)
        with engine.begin() as tx:
            (rows_found,) = bulk.read(tx, FOUND.with_values(set(rows)))
        found = {key: (amount, driver.parse_timestamp(end)) for key, amount, end in rows_found}
        assert found == {row[0]: (row[2], row[6]) for row in made}
    finally:
        with engine.begin() as tx:
            tx.execute(sa.delete(tables.hold))


@many_rows
@given(row_sets)
def test_rows_are_read_as_written(engine, rows):
    check_round_trip(engine, rows)


def test_a_row_inserted_once_stays_as_it_is(engine):
    write(engine, insert=[hold("a", 1)], once=[hold("a", 2), hold("b", 3)])
    assert [row[2] for row in read(engine)] == [1, 3]


def test_a_row_changed_meanwhile_is_a_lost_race(engine):
    write(engine, insert=[hold("a", 1), hold("b", 2)])
    with pytest.raises(bulk.LedgerRace):
        write(
            engine,
            insert=[hold("c")],
            update=[("settled", NOW, "a", "open", 1), ("settled", NOW, "b", "open", 7)],
        )
    assert [row[3] for row in read(engine)] == ["open", "open"]
    write(engine, update=[("settled", NOW, "a", "open", 1), ("released", NOW, "b", "open", 2)])
    assert [row[3] for row in read(engine)] == ["settled", "released"]


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 203])
def test_each_row_gets_its_own_values(engine, count):
    keys = [f"{number:03}" for number in range(count)]
    write(engine, insert=[hold(key, number) for number, key in enumerate(keys)])
    with pytest.raises(bulk.LedgerRace):
        write(engine, update=[("settled", NOW, key, "open", max(number, 1)) for number, key in enumerate(keys)])
    later = [NOW + timedelta(seconds=number) for number in range(count)]
    write(engine, update=[("settled", later[number], key, "open", number) for number, key in enumerate(keys)])
    assert read(engine) == [
        hold(key, number, state="settled", ended_at=later[number]) for number, key in enumerate(keys)
    ]


def test_the_drivers_errors_are_sqlalchemys(engine):
    write(engine, insert=[hold("a")])
    with pytest.raises(exc.IntegrityError):
        write(engine, insert=[hold("a")])
    wrong = bulk.BulkQuery("nothing", "from hold where reference {among}", of=tables.hold.c.reference)
    with engine.begin() as tx, pytest.raises(exc.DBAPIError):
        bulk.read(tx, wrong.with_values(["a"]))


def test_a_time_without_a_zone_is_refused(engine):
    with pytest.raises(ValueError, match="zone"):
        write(engine, insert=[hold("a", at=datetime(2026, 1, 1))])  # noqa: DTZ001  that is the point
    assert read(engine) == []


def test_each_question_gets_its_own_rows(engine):
    write(engine, insert=[hold("a", 1), hold("b", 2), hold("c", 3)])
    with engine.begin() as tx:
        questions = [
            FOUND.with_values(["c"]),
            FOUND.with_values([]),
            AMOUNTS.with_values(["a", "b"]),
            FOUND.with_values(["nobody"]),
        ]
        ours, nothing, amounts, nobody = bulk.read(tx, *questions)
        assert [row[:2] for row in ours] == [["c", 3]]
        assert sorted(amounts) == [[1], [2]]
        assert [list(nothing), list(nobody)] == [[], []]
        assert [list(rows) for rows in bulk.read(tx, FOUND.with_values([]), FOUND.with_values(set()))] == [[], []]


def test_a_moment_comes_back_in_utc():
    assert [driver.parse_timestamp(None), driver.parse_timestamp(NOW)] == [None, NOW]
    for written in ("2026-11-01 12:00:00.000000", "2026-11-01T12:00:00+00:00", "2026-11-01T09:00:00.0-03:00"):
        read_back = driver.parse_timestamp(written)
        assert (read_back, read_back.tzinfo) == (NOW, UTC)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
@pytest.mark.real
def test_a_cut_connection_is_recognized(engine):
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
