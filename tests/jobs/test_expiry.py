"""Overdue messages end one by one: a fault in one keeps the holds of no other."""

from datetime import timedelta

import pytest
import pytest_twisted
from twisted.internet.defer import fail, succeed

from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.model.messages import MessageState
from celcombiller.jobs.expiry import expire_messages
from celcombiller.runtime.metrics import Metrics
from tests.core.ledger.test_book import NOW, credit, database, proved, voice
from tests.core.sms.test_message_properties import do, send

LATE = NOW + timedelta(days=2)


class Store:
    """A writer whose charging fails for some messages."""

    def __init__(self, engine, faults):
        self.engine, self.faults = engine, faults

    def transact(self, work):
        with self.engine.begin() as tx:
            return succeed(work(tx))

    def charge(self, request):
        if request.reference in self.faults:
            return fail(self.faults[request.reference])
        (result,) = do(self.engine, request, now=LATE)
        return succeed(result)


@pytest_twisted.ensureDeferred
async def test_a_fault_in_one_expiry_stops_none(tmp_path, nothing_goes_wrong_unseen):
    engine = database(tmp_path / "expiry.sqlite")
    do(engine, credit(100), *(send(each) for each in "abc"))
    store = Store(engine, {"sms:a": ZeroDivisionError()})
    for _ in range(2):
        await expire_messages(store, LATE, Metrics())
    (failure,) = nothing_goes_wrong_unseen
    assert failure.check(ZeroDivisionError)
    nothing_goes_wrong_unseen.clear()
    assert voice(engine).held == 3
    store.faults.clear()
    await expire_messages(store, LATE, Metrics())
    assert voice(engine).held == 0
    proved(engine)
    engine.dispose()


@pytest_twisted.ensureDeferred
async def test_a_round_waits_while_the_database_is_away(tmp_path):
    engine = database(tmp_path / "expiry.sqlite")
    do(engine, credit(100), send("a"), send("b"))
    asked = []
    store = Store(engine, {})
    store.charge = lambda request: asked.append(request) or fail(StoreUnavailable("away"))
    with pytest.raises(StoreUnavailable):
        await expire_messages(store, LATE, Metrics())
    assert [each.outcome for each in asked] == [MessageState.EXPIRED]
    engine.dispose()
