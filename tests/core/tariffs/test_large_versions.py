"""A large price list is written and read in seconds. 10 s on each database."""

import time

from celcombiller.core.tariffs import versions
from celcombiller.core.tariffs.rate_records import list_all_rates
from celcombiller.core.tariffs.versions import NewVersion
from celcombiller.database.transaction import transact
from tests.support.databases import NOW
from tests.support.tariffs import make_tariff, rate

RATES = 200_000
SECONDS_MAX = 60
"""Far above what it takes (5 to 8 s of CPU): a cost that grows with the square would need an hour."""


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


def test_200_000_rates_take_seconds(engine):
    with engine.begin() as tx:
        tariff = make_tariff(tx, NOW)
    rows = [rate(f"{number:06}", number % 7, name=f"destination {number}") for number in range(RATES)]
    began = time.process_time()
    written, _ = run(engine, versions.write_in_steps(tariff.id, NewVersion(rows, whole=True), lambda: NOW))
    wrote = time.process_time() - began
    assert len(written.changes.added) == RATES
    rows[5:9] = [each._replace(connect_fee=1) for each in rows[5:9]]
    again, _ = run(
        engine, versions.write_in_steps(tariff.id, NewVersion(rows, whole=True), lambda: written.version.effective_at)
    )
    assert (again.version.number, len(again.changes.changed)) == (2, 4)
    with engine.connect() as tx:
        assert sum(1 for _ in list_all_rates(tx, tariff.id, 2)) == RATES
    print(f"written in {wrote:.1f} s, all in {time.process_time() - began:.1f} s of CPU")
    assert time.process_time() - began < SECONDS_MAX
