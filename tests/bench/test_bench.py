"""The benchmark measures what it says: its wire is the product's, its calls are real ones, its ledgers are proved."""

import re

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor

from celcombiller.asterisk.agi.server import FastAGIFactory
from celcombiller.asterisk.agi.simulator import Channel, play
from celcombiller.bench import environment, long_history, measurements, priced_network, report, wire_baseline
from celcombiller.bench.measurements import Run, percentile
from celcombiller.config.tables import Calls
from celcombiller.core.schema import tables
from celcombiller.database.engine import open_engine
from tests.support.script_biller import House
from tests.system.lab.waiting import until

pytestmark = [
    pytest.mark.xdist_group("timing"),  # one after another, whatever runs beside them
    pytest.mark.slow,  # each starts a biller and offers it calls
]
SUBSCRIBERS = 20


async def said_to(port, called):
    channel = Channel("1001", called, talk_ms=1000)
    await play(reactor, "127.0.0.1", port.getHost().port, channel)
    return [re.sub("[0-9a-f]{16}|[0-9]+", "#", line) for who, line in channel.transcript if who == "biller"]


@pytest_twisted.ensureDeferred
async def test_the_yardstick_speaks_like_the_scripts(tmp_path):
    product = House(tmp_path / "db.sqlite", internal_dial=Calls().internal_dial)
    yardstick = reactor.listenTCP(0, FastAGIFactory(wire_baseline.script, clock=reactor), interface="127.0.0.1")
    try:
        assert await said_to(product.port, "1002") == await said_to(yardstick, "1002")
    finally:
        await yardstick.stopListening()
        await product.close()


def calls_of(made):
    """Give the run if a call was counted in it: on a busy machine none may be."""
    return made if made.calls_per_second else None


@pytest.fixture
def url(tmp_path):
    made = f"sqlite:///{tmp_path}/bench.sqlite"
    environment.fill(made, SUBSCRIBERS)
    return made


def test_calls_of_both_loops_are_all_settled(url, tmp_path):
    with environment.biller(url, tmp_path) as server:
        closed = measurements.run("x", "sqlite", server, 2, in_flight=4, subscribers=SUBSCRIBERS)
        offered = measurements.run("x", "sqlite", server, 2, rate=20, subscribers=SUBSCRIBERS)
        held = measurements.hold("x", "sqlite", server, 60, seconds=2, subscribers=SUBSCRIBERS)
    for made in (closed, offered, held):
        assert (made.broken, made.refused) == (0, 0)
        assert 0 < made.dial_p50_ms <= made.dial_p95_ms <= made.dial_p99_ms
    assert closed.calls_per_second > 0
    assert closed.cpu_ms_per_call > 0
    assert held.in_flight == 60
    assert environment.differences(url) == 0


@pytest.mark.nightly
def test_a_transaction_a_request_is_the_same_biller(url, tmp_path):
    with environment.biller(url, tmp_path, unbatched=True) as server:
        made = measurements.run("x", "sqlite", server, 2, in_flight=4, subscribers=SUBSCRIBERS)
    assert made.calls_per_second > 0
    assert environment.differences(url) == 0


@pytest.mark.nightly
def test_a_made_history_can_be_proved_and_charged(url, tmp_path):
    long_history.fill_history(url, 300, 100)
    assert environment.count(url) == 100
    with environment.biller(url, tmp_path, settings=long_history.rates(50)) as server:
        made = measurements.run("x", "sqlite", server, 2, in_flight=4, subscribers=100)
    assert (made.broken, made.refused) == (0, 0)
    assert environment.differences(url) == 0


@pytest.mark.nightly
def test_calls_with_all_prices_can_be_proved(url, tmp_path):
    priced_network.add_prices(url, 1)
    with environment.biller(url, tmp_path, settings=priced_network.EXTERNAL_DIAL) as server:
        made = measurements.run(
            "x", "sqlite", server, 2, in_flight=4, subscribers=SUBSCRIBERS, called_prefix=priced_network.OUTSIDE
        )
    assert (made.broken, made.refused) == (0, 0)
    assert made.calls_per_second > 0
    assert environment.differences(url) == 0
    engine = open_engine(url, lock_seconds=5)
    with engine.begin() as tx:
        columns = tables.call.c
        cheapest = sa.select(columns.trunk_id, columns.bundles.is_not(None), columns.trunk_cost > 0).distinct()
        assert tx.execute(cheapest).all() == [(1, True, True)]
    engine.dispose()


@pytest.mark.nightly
def test_syncs_are_slower_under_the_shim(url, tmp_path):
    slowly = environment.slow_sync(tmp_path, 100)
    with environment.biller(url, tmp_path, slowly) as server:
        made = until(
            lambda: calls_of(measurements.run("x", "sqlite", server, 2, in_flight=1, subscribers=SUBSCRIBERS)),
            "a call within half a second",
            seconds=60,
        )
    assert made.dial_p50_ms >= 100


def test_a_figure_is_the_median_of_rounds():
    rounds = [Run(name="x", database="y", in_flight=8, calls_per_second=each) for each in (1.0, 9.0, 2.0)]
    assert report.median_of(rounds) == rounds[2]


def test_percentiles_are_in_milliseconds():
    assert percentile(list(range(1000, 101_000, 1000)), 0.5) == 51
    assert percentile([7000], 0.99) == 7
    assert percentile([], 0.99) == 0
