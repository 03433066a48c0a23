"""What a batch costs when it has one request, as on a quiet network: counted, as times depend on the machine.

The limits are a sixth above what was counted on CPython 3.11. Raise one only for what a call cannot do without.
"""

from datetime import timedelta
from functools import partial

import pytest

from celcombiller.core.charging.batch import process_batch
from tests.core.ledger.test_book import NOW, TERMS, credit, database, ended, initiate
from tests.support.steps import count_function_calls

INITIATE_CALLS_MAX = 205
TERMINATE_CALLS_MAX = 205


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
