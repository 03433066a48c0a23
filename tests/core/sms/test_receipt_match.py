"""A receipt gives back the charge of its own message, once, whatever ids an SMSC uses for others."""

from datetime import timedelta

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import given

from celcombiller.core.charging import messages
from celcombiller.core.model.messages import MessageOrigin, MessageState
from celcombiller.core.schema import tables
from celcombiller.core.sms import outbox_queue
from celcombiller.core.sms.charging import MessageOutcome
from celcombiller.core.sms.receipt_match import ALIKE_FOR
from tests.core.ledger.test_book import NOW, credit, database, proved
from tests.core.sms.test_message_properties import ROUTES, do, receipt

FAILED, DELIVERED, ACCEPTED = MessageState.FAILED, MessageState.DELIVERED, MessageState.ACCEPTED


class Sent:
    """Messages that were accepted, each with its parts' ids at the SMSC."""

    def __init__(self, path):
        self.engine = database(path)
        do(self.engine, credit(100))

    def send(self, reference, *network_ids, to="5599", now=NOW):
        with self.engine.begin() as tx:
            facts = {"payer": "u1001", "origin": MessageOrigin.API, "now": now}
            text = "x" * (100 if len(network_ids) == 1 else 160 * len(network_ids) - 100)
            messages.submit(tx, ROUTES, reference=reference, to_number=to, text=text, **facts)
            for part, network_id in enumerate(network_ids, 1):
                outbox_queue.record_accepted_part(tx, f"sms:{reference}", part, network_id, now)
        do(self.engine, MessageOutcome(f"sms:{reference}", ACCEPTED), now=now)

    def apply(self, network_id, outcome=FAILED, note="receipt", *numbers, now=NOW):
        with self.engine.begin() as tx:
            return messages.apply_receipt(tx, receipt(network_id, outcome, note, *numbers), now)

    def states(self):
        with self.engine.connect() as tx:
            rows = tx.execute(sa.select(tables.message.c.reference, tables.message.c.state)).all()
        return {row.reference.removeprefix("sms:"): row.state for row in rows}


@pytest.fixture
def sent(tmp_path):
    made = Sent(tmp_path / "receipts.sqlite")
    yield made
    proved(made.engine)
    made.engine.dispose()


@pytest.mark.parametrize(
    ("stored", "received"),
    [
        ("1A2B3C4D", "439041101"),
        ("439041101", "1A2B3C4D"),
        ("439041101", "000000001a2b3c4d"),
        ("1a2b3c4d", "1A2B3C4D"),
        ("0000012345", "12345"),
        ("m1", "m1"),
    ],
)
def test_a_receipt_in_another_form_gives_back_once(sent, stored, received):
    sent.send("a", stored)
    for first in (True, False, False):
        assert sent.apply(received).first is first
    assert sent.states() == {"a": "failed"}


def test_the_exact_id_wins(sent):
    sent.send("hexadecimal", "10")
    sent.send("decimal", "16")
    assert sent.apply("16", note="one").message.reference == "sms:decimal"
    assert sent.apply("10", note="two").message.reference == "sms:hexadecimal"


def test_the_recipient_decides_between_forms(sent):
    sent.send("hexadecimal", "10", to="5500005599")
    sent.send("other", "0x10", to="5500005577")
    sent.send("decimal", "16", to="5500005588")
    assert sent.apply("16", FAILED, "n", "+5500005599", "2001").message.reference == "sms:hexadecimal"
    assert sent.states() == {"hexadecimal": "failed", "other": "accepted", "decimal": "accepted"}


def test_two_equally_likely_messages_match_none(sent):
    sent.send("a", "0010", to="5599")
    sent.send("b", "010", to="5588")
    assert sent.apply("10") is None
    assert sent.states() == {"a": "accepted", "b": "accepted"}
    assert sent.apply("10", FAILED, "n", "5588").message.reference == "sms:b"


def test_a_reused_id_means_the_last_message(sent):
    sent.send("a", "7")
    sent.send("b", "7", now=NOW + timedelta(days=1))
    assert sent.apply("7", now=NOW + timedelta(days=1)).message.reference == "sms:b"


def test_a_repeat_is_of_the_first_message_still(sent):
    sent.send("a", "10")
    assert sent.apply("16", note="receipt: UNDELIV (id 16, done 1)").first
    sent.send("b", "16")
    again = sent.apply("16", note="receipt: UNDELIV (id 16, done 1)")
    assert (again.first, again.message.reference) == (False, "sms:a")
    assert sent.states() == {"a": "failed", "b": "accepted"}
    assert sent.apply("16", note="receipt: UNDELIV (id 16, done 2)").message.reference == "sms:b"


def test_an_old_message_needs_its_exact_id(sent):
    sent.send("a", "1A2B3C4D")
    late = NOW + ALIKE_FOR + timedelta(seconds=1)
    assert sent.apply("439041101", now=late) is None
    assert sent.apply("1A2B3C4D", now=late).message.reference == "sms:a"


@pytest.mark.parametrize("empty", ["", "0"])
def test_a_message_without_id_is_of_no_receipt(sent, empty):
    sent.send("a", "")
    assert sent.apply(empty) is None


def test_parts_of_one_id_are_all_delivered(sent):
    sent.send("a", "7", "7")
    sent.apply("7", DELIVERED, "one")
    assert sent.states() == {"a": "accepted"}
    sent.apply("7", DELIVERED, "two")
    assert sent.states() == {"a": "delivered"}


@pytest.mark.slow
@given(st.data())
def test_one_receipt_fails_one_message_at_most(tmp_path_factory, data):
    sent = Sent(tmp_path_factory.mktemp("receipts") / "receipts.sqlite")
    ids = st.sampled_from(["10", "16", "a", "A", "0a", "010", "0010", "22", "0x10", "1A2B3C4D", "439041101"])
    numbers = st.sampled_from(["5599", "5588"])
    for count, (network_id, to) in enumerate(data.draw(st.lists(st.tuples(ids, numbers), min_size=1, max_size=5))):
        sent.send(str(count), network_id, to=to)
    receipts = data.draw(st.lists(st.tuples(ids, st.none() | numbers), max_size=4, unique=True))
    for network_id, number in receipts:
        for _ in range(2):
            sent.apply(network_id, FAILED, f"{network_id} {number}", *([number] if number else []))
    failed = sum(state == "failed" for state in sent.states().values())
    proved(sent.engine)
    sent.engine.dispose()
    assert failed <= len(receipts)
