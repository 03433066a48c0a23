"""A suspended caller hears the prompt; a chosen number and an emergency go, and calls to them too."""

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet.defer import Deferred

from celcombiller.config.tables import Fees
from celcombiller.core.schema import tables
from tests.core.ledger.test_book import NOW
from tests.support.script_biller import House


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path / "db.sqlite", fees=Fees(suspended_allowed=("1003",)), external_dial="PJSIP/{number}@out")
    with made.engine.begin() as tx:
        mine = tables.subscriber.c.username == "u1001"
        tx.execute(sa.update(tables.subscriber).where(mine).values(suspended_at=NOW))
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


@pytest_twisted.ensureDeferred
async def test_a_suspended_caller_hears_the_prompt(house):
    channel = await house.call("1002")
    assert channel.variables["CELCOMBILLER_RESULT"] == "SUSPENDED"
    assert ("biller", 'STREAM FILE pay-first "" 0') in channel.transcript
    assert not any("EXEC DIAL" in line for _, line in channel.transcript)
    assert house.decided() == {"SUSPENDED": 1}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("called", "result"), [("1003", "GRANTED"), ("190", "GRANTED")])
async def test_chosen_and_emergency_numbers_go(house, called, result):
    channel = await house.call(called)
    assert channel.variables["CELCOMBILLER_RESULT"] == result


@pytest_twisted.ensureDeferred
async def test_a_suspended_callee_is_reached(house):
    with house.engine.begin() as tx:
        tx.execute(
            sa.update(tables.account)
            .where(tables.account.c.kind == "voice", tables.account.c.subscriber_id == 2)
            .values(floor=-60)
        )
    channel = await house.call("1001", caller="1002")
    assert channel.variables["CELCOMBILLER_RESULT"] == "GRANTED"
