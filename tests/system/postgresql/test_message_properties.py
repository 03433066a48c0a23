"""The laws of messages (tests/core/sms/test_message_properties.py) on PostgreSQL, and two nodes that work one queue at the same time."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta

import pytest
from hypothesis.stateful import run_state_machine_as_test

from celcombiller.core.charging import messages
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.messages import MessageOrigin, MessageState, Route
from celcombiller.core.sms import message_queries, outbox_queue
from celcombiller.core.sms.charging import MessageOutcome
from celcombiller.database.transaction import transact
from tests.core.ledger.test_book import NOW, credit, proved, voice
from tests.core.sms.test_message_properties import (
    BY_SMS,
    LEASE,
    PRICED,
    ROUTES,
    MessageMachine,
    accounts,
    do,
    send,
    sms_credit,
)
from tests.smpp.test_deliver_sm import ARRIVAL
from tests.support import databases
from tests.support.properties import share


@pytest.fixture
def fresh(cluster):
    with ExitStack() as made:
        yield lambda: made.enter_context(databases.on_postgresql(cluster, databases.three_subscribers))


def test_the_laws_hold_under_any_order_of_events(fresh):
    class OnPostgreSQL(MessageMachine):
        def open(self):
            return fresh()

    run_state_machine_as_test(OnPostgreSQL, settings=share(0.06))


def test_two_nodes_on_one_queue_charge_once(fresh):
    engine = fresh()
    do(engine, credit(1000))
    with engine.begin() as tx:
        for n in range(60):
            facts = {"reference": str(n), "to_number": "5599", "text": "x", "now": NOW + timedelta(seconds=n)}
            messages.submit(tx, ROUTES, payer="u1001", origin=MessageOrigin.API, **facts)

    def work(owner):
        taken = []
        while True:
            with engine.begin() as tx:
                due = outbox_queue.claim(tx, Route.SMPP, owner, NOW + timedelta(minutes=2), limit=7, lease=LEASE)
            if not due:
                return taken
            for each in due:
                taken.append(each.message.reference)
                do(engine, MessageOutcome(each.message.reference, MessageState.ACCEPTED))

    with ThreadPoolExecutor(4) as pool:
        taken = [reference for each in pool.map(work, "abcd") for reference in each]
    assert sorted(taken) == sorted(f"sms:{n}" for n in range(60))
    assert (voice(engine).posted, voice(engine).held) == (1000 - 60 * 5, 0)
    proved(engine)


def test_two_nodes_take_an_smscs_message_once(fresh):
    engine = fresh()

    def bring(_node):
        return transact(engine, lambda tx: messages.accept_inbound(tx, ROUTES, ARRIVAL, NOW)).message.reference

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(bring, range(12)))) == 1
    with engine.begin() as tx:
        (found,) = message_queries.list_queues(tx, NOW, troubles_max=5)
    assert (found.route, found.waiting, found.oldest_at, found.sending, found.troubles) == (
        *(Route.ASTERISK, 1, NOW, 0),
        [],
    )
    proved(engine)


def test_a_queue_shows_sending_and_failed_messages(fresh):
    engine = fresh()
    with engine.begin() as tx:
        for number in range(4):
            messages.submit(tx, ROUTES, reference=str(number), to_number="5599", text="x", now=NOW)
        due = outbox_queue.claim(tx, Route.SMPP, "me", NOW, limit=3, lease=LEASE)
        later = [each.message.reference for each in due[:2]]
        outbox_queue.reschedule(tx, "me", later, "it has no time", NOW, retry_seconds_max=60)
        (found,) = message_queries.list_queues(tx, NOW, troubles_max=5)
    assert (found.waiting, found.sending, found.failing, found.troubles) == (4, 1, 2, [("it has no time", 2)])


def test_a_message_keeps_the_account_it_began_with(fresh):
    """While the operator changes the setting node by node; each ends messages of the other too."""
    engine = fresh()
    do(engine, credit(1000), sms_credit(1000))

    def work(place):
        mine, theirs = (PRICED, BY_SMS) if place % 2 else (BY_SMS, PRICED)
        for n in range(20):
            reference = f"{place}.{n}"
            do(engine, send(reference), send(reference + "b"), terms=mine)
            do(engine, MessageOutcome(messages.reference_of(reference), MessageState.ACCEPTED), terms=theirs)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert accounts(engine) == dict.fromkeys((Kind.VOICE, Kind.SMS), (1000 - 40 * 3, 40 * 3))
    proved(engine)
