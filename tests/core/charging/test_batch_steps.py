"""What a batch costs when it has one request, as on a quiet network: counted, as times depend on the machine.

That a call has a tariff with windows and steps, a bundle and two trunks with a cost may add only so much.

The limits are a sixth above what was counted on CPython 3.11. Raise one only for what a call cannot do without.
"""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from celcombiller.bench import environment
from celcombiller.bench.load_generator import FIRST_NUMBER
from celcombiller.bench.priced_network import OUTSIDE, add_prices
from celcombiller.core.catalogue.loading import read_catalogue
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy, Initiate, Terminate
from celcombiller.core.model.calls import CallReport, Witness
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.database.engine import open_engine
from tests.core.ledger.test_book import NOW, TERMS, credit, database, ended, initiate
from tests.support.work_measures import count_function_calls

INITIATE_CALLS_MAX = 200
TERMINATE_CALLS_MAX = 200
PRICED_INITIATE_CALLS_MAX = 295
PRICED_TERMINATE_CALLS_MAX = 260
CROSSING_CALLS_MAX = 550
"""Of the beginning of a call that may last into another window."""
UNTIL_WINDOW_ENDS = timedelta(hours=9.5)
"""The window of `add_prices` ends half an hour later at least, and within the two hours that a call may last."""


@pytest.fixture
def engine(tmp_path):
    made = database(tmp_path / "steps.sqlite")
    with made.begin() as tx:
        process_batch(tx, TERMS, [credit(1_000_000)], NOW)
    yield made
    made.dispose()


def count_of(engine, make_request):
    """Return the function calls of a batch of one such request, once all caches are filled."""
    with engine.begin() as tx:
        for number in range(3):
            batch = partial(process_batch, tx, TERMS, [make_request(f"{number}.0")], NOW + timedelta(seconds=1))
            calls = count_function_calls(batch)
    return calls


def test_one_request_takes_few_steps(engine):
    assert count_of(engine, initiate) <= INITIATE_CALLS_MAX
    assert count_of(engine, ended) <= TERMINATE_CALLS_MAX


def count_priced(tx, policy, make_request, ahead):
    """Return the function calls of a batch of one call's request, once all caches are filled."""
    answers = []
    for number in range(3):
        now = datetime.now(UTC) + ahead
        steps = partial(process_batch, tx, policy, [make_request(number, now)], now)
        calls = count_function_calls(lambda steps=steps: answers.extend(steps()))
    return calls, answers[-1].call


def begun(number, now):
    clid = str(FIRST_NUMBER)
    before = CallReport(answered=False, at=now)
    return Initiate("s", f"{number}.0", f"a{number}", "PJSIP/x", clid, clid, f"{OUTSIDE}1199", False, before)


def talked(number, now):
    report = CallReport(answered=True, at=now, talk_ms=30_000, outcome="ANSWER")
    return Terminate("s", f"{number}.0", Witness.AGI, report, leg=0)


@pytest.mark.parametrize(
    ("ahead", "initiate_max"),
    [(timedelta(), PRICED_INITIATE_CALLS_MAX), (UNTIL_WINDOW_ENDS, CROSSING_CALLS_MAX)],
    ids=["within", "across"],
)
def test_tariffs_bundles_and_trunks_add_few_steps(tmp_path, ahead, initiate_max):
    url = f"sqlite:///{tmp_path}/priced.sqlite"
    environment.fill(url, 2)
    add_prices(url, 1)
    engine, policy = open_engine(url, lock_seconds=1), ChargingPolicy(Tariff([Rate()]))
    with engine.begin() as tx:
        policy.catalogue.current = read_catalogue(tx, policy.catalogue.current, lambda: datetime.now(UTC))
        initiate_calls, call = count_priced(tx, policy, begun, ahead)
        terminate_calls, settled = count_priced(tx, policy, talked, ahead)
    engine.dispose()
    assert call.bundles
    assert None not in (call.tariff_version_id, call.trunk_id, settled.trunk_cost)
    assert PRICED_INITIATE_CALLS_MAX * bool(ahead) < initiate_calls <= initiate_max
    assert terminate_calls <= PRICED_TERMINATE_CALLS_MAX
