"""A large price list is written and read in seconds. 2 s on each database, and by night 15."""

import time
from datetime import timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.tariffs import versions
from celcombiller.core.tariffs.rate_records import list_all_rates
from celcombiller.core.tariffs.versions import NewVersion
from celcombiller.database.transaction import transact
from tests.support.databases import NOW
from tests.support.tariffs import make_tariff, rate

SECONDS_MAX = 60
"""Far above what it takes (5 to 8 s of CPU for 200,000 rates): a cost that grows with the square would need an hour."""


def run(engine, steps):
    """Do each step in a transaction of its own, and return the result and the longest step in seconds."""
    longest = 0.0
    result = None
    while True:
        try:
            work = steps.send(result)
        except StopIteration as end:
            return end.value, longest
        began = time.perf_counter()
        result = transact(engine, work)
        longest = max(longest, time.perf_counter() - began)


@pytest.mark.slow
@pytest.mark.parametrize("count", [20_000, pytest.param(200_000, marks=pytest.mark.nightly)])
def test_a_large_list_takes_seconds(engine, count):
    with engine.begin() as tx:
        tariff = make_tariff(tx, NOW)
    rows = [rate(f"{number:06}", number % 7, name=f"destination {number}") for number in range(count)]
    began = time.process_time()
    written, _ = run(engine, versions.write_in_steps(tariff.id, NewVersion(rows, whole=True), lambda: NOW))
    wrote = time.process_time() - began
    assert len(written.changes.added) == count
    rows[5:9] = [each._replace(connect_fee=1) for each in rows[5:9]]
    again, _ = run(
        engine, versions.write_in_steps(tariff.id, NewVersion(rows, whole=True), lambda: written.version.effective_at)
    )
    assert (again.version.number, len(again.changes.changed)) == (2, 4)
    with engine.connect() as tx:
        assert sum(1 for _ in list_all_rates(tx, tariff.id, 2)) == count
    print(f"written in {wrote:.1f} s, all in {time.process_time() - began:.1f} s of CPU")
    assert time.process_time() - began < SECONDS_MAX


def test_a_withdrawn_large_version_is_dropped_in_steps(engine):
    """2 s on each database. One transaction of it held the write lock of SQLite for a second at 200,000 rates."""
    with engine.begin() as tx:
        tariff = make_tariff(tx, NOW)
    rows, later = [rate(f"{number:04}", number % 7) for number in range(5_000)], NOW + timedelta(days=1)
    first, _ = run(engine, versions.write_in_steps(tariff.id, NewVersion(rows, whole=True), lambda: NOW))
    dearer = [each._replace(connect_fee=9) for each in rows]
    new = NewVersion(dearer, whole=True, effective_at=later)
    second, _ = run(engine, versions.write_in_steps(tariff.id, new, lambda: NOW))
    with engine.begin() as tx:
        versions.withdraw(tx, tariff.id, second.version.number, NOW)
    rows[5:9] = [each._replace(connect_fee=1) for each in rows[5:9]]
    written: list[int] = []
    sa.event.listen(engine, "commit", lambda _: written.append(0))
    sa.event.listen(engine, "after_cursor_execute", lambda *given: _count(written, *given))
    after = first.version.effective_at
    third, _ = run(engine, versions.write_in_steps(tariff.id, NewVersion(rows, whole=True), lambda: after))
    assert (third.version.number, len(third.changes.changed)) == (3, 4)
    assert max(written) <= versions.ROWS_IN_ONE_TRANSACTION
    with engine.connect() as tx:
        assert [each.row.connect_fee for each in list_all_rates(tx, tariff.id, 3)][4:10] == [0, 1, 1, 1, 1, 0]
        assert sum(1 for _ in list_all_rates(tx, tariff.id, 3)) == len(rows)
        assert sum(1 for _ in list_all_rates(tx, tariff.id, 1)) == len(rows)


def _count(written, _connection, cursor, statement, *_):
    """Count the rows that the transaction has written so far."""
    if written and statement.lower().startswith(("insert", "update", "delete")):
        written[-1] += cursor.rowcount
