"""The queue of one way is worked to its end: a message spoils no other, and what the network took is recorded."""

from datetime import timedelta

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from celcombiller.core.charging import messages
from celcombiller.core.errors import BillerError, StoreUnavailable
from celcombiller.core.model.messages import MessageOrigin, Route
from celcombiller.core.sms import message_queries, outbox_queue
from celcombiller.core.sms.carrier import MessageDeferred, MessageRejected
from celcombiller.jobs import sms_outbox
from celcombiller.jobs.sms_outbox import Outbox
from celcombiller.runtime.metrics import Metrics
from tests.core.ledger.test_book import NOW, credit, database, proved, voice
from tests.core.sms.test_message_properties import ROUTES, do


class Network:
    """A carrier that does to each text what it says, and a ledger that is away as often as it is told."""

    at_once = 3
    is_there = True

    def __init__(self, path):
        self.engine = database(path)
        do(self.engine, credit(100))
        self.clock = Clock()
        self.away = 0
        self.unrecordable = set()
        self.sent = []
        self.outbox = Outbox(
            self.clock,
            Route.SMPP,
            self,
            transact=self.transact,
            read=self.transact,
            charge=self.charge,
            now=lambda: NOW + timedelta(seconds=self.clock.seconds()),
            retry_seconds_max=60,
            metrics=Metrics(),
        )

    def transact(self, work):
        with self.engine.begin() as tx:
            return succeed(work(tx))

    def charge(self, told):
        if told.reference in self.unrecordable:
            return fail(ZeroDivisionError())
        if self.away:
            self.away -= 1
            return fail(StoreUnavailable("away"))
        (answer,) = do(self.engine, told)
        return fail(answer) if isinstance(answer, BillerError) else succeed(answer)

    async def carry(self, due, took):
        text = due.message.text
        self.sent.append(text)
        if text in ("refused", "later"):
            raise {"refused": MessageRejected, "later": MessageDeferred}[text](f"it says {text}")
        if text.startswith("broken"):
            raise ZeroDivisionError
        if text == "odd":
            raise MessageDeferred("it says \0\ud800later")

    def queue(self, *texts):
        with self.engine.begin() as tx:
            for text in texts:
                facts = {"payer": "u1001", "origin": MessageOrigin.API, "now": NOW}
                messages.submit(tx, ROUTES, reference=text, to_number="5599", text=text, **facts)

    def states(self):
        with self.engine.begin() as tx:
            return {
                each.message.reference[4:]: each.message.state.value
                for each in message_queries.list_messages(tx, limit=99)
            }


@pytest.fixture
def network(tmp_path):
    made = Network(tmp_path / "outbox.sqlite")
    yield made
    proved(made.engine)
    made.engine.dispose()


@pytest_twisted.ensureDeferred
async def test_each_message_has_its_own_end(network):
    network.queue("a", "refused", "b", "later", "c")
    await network.outbox.work()
    assert network.states() == {
        "a": "accepted",
        "refused": "refused",
        "b": "accepted",
        "later": "queued",
        "c": "accepted",
    }
    assert (voice(network.engine).posted, voice(network.engine).held) == (85, 5)
    network.clock.advance(1)
    await network.outbox.work()
    assert sorted(network.sent) == ["a", "b", "c", "later", "later", "refused"]


@pytest_twisted.ensureDeferred
async def test_a_fault_in_one_message_stops_none(network, monkeypatch, nothing_goes_wrong_unseen):
    monkeypatch.setattr(sms_outbox, "BATCH_MAX", 3)
    faulty = [f"broken {n}" for n in range(4)]
    network.queue(*faulty, "a", "b")
    for seconds in (0, 1, 2, 4, 8):
        network.clock.advance(seconds)
        await network.outbox.work()
    states = network.states()
    assert {states[each] for each in faulty} == {"queued"}
    assert (states["a"], states["b"]) == ("accepted", "accepted")
    assert network.sent.count(faulty[0]) == 5
    assert len(nothing_goes_wrong_unseen) == len(faulty)
    nothing_goes_wrong_unseen.clear()
    with network.engine.begin() as tx:
        first = message_queries.list_messages(tx, limit=99)[-1]
    assert (first.attempts, first.message.note) == (5, "unexpected error: ZeroDivisionError()")


@pytest_twisted.ensureDeferred
async def test_an_outcome_that_cannot_be_recorded_is_retried(network, nothing_goes_wrong_unseen):
    network.queue("a", "b")
    network.unrecordable = {"sms:a"}
    working = Deferred.fromCoroutine(network.outbox.work())
    for _ in range(int(sms_outbox.RECORD.total_seconds()) + 2):
        network.clock.advance(1)
    await working
    assert network.states() == {"a": "queued", "b": "accepted"}
    (failure,) = nothing_goes_wrong_unseen
    assert failure.check(ZeroDivisionError)
    nothing_goes_wrong_unseen.clear()
    assert network.sent.count("a") == 1
    network.unrecordable = set()
    network.clock.advance(1)
    await network.outbox.work()
    assert network.states() == {"a": "accepted", "b": "accepted"}


@pytest_twisted.ensureDeferred
async def test_a_note_of_odd_characters_is_stored(network):
    network.queue("odd")
    await network.outbox.work()
    with network.engine.begin() as tx:
        (row,) = message_queries.list_messages(tx, limit=9)
    assert (row.message.state, row.message.note) == ("queued", "it says   later")


@pytest_twisted.ensureDeferred
async def test_a_short_ledger_outage_resends_nothing(network):
    network.queue("a")
    network.away = 3
    working = Deferred.fromCoroutine(network.outbox.work())
    for _ in range(3):
        assert network.states() == {"a": "queued"}
        network.clock.advance(1)
    await working
    assert (network.states(), network.sent) == ({"a": "accepted"}, ["a"])


@pytest_twisted.ensureDeferred
async def test_an_absent_networks_messages_are_released(network):
    network.queue("a")
    network.is_there = False
    await network.outbox.work()
    assert network.sent == []
    network.is_there = True
    network.outbox.end()
    await network.outbox.work()
    assert network.sent == []
    with network.engine.begin() as tx:
        assert outbox_queue.is_due(tx, Route.SMPP, NOW)
