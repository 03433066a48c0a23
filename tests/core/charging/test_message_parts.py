"""Long messages that an SMSC brings in parts: whatever their order, each reaches its phone once, as one text."""

from datetime import timedelta

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import given

from celcombiller.core.charging.message_parts import MISSING, delete_joined, join_parts, overdue_groups, record_part
from celcombiller.core.charging.messages import REPEATED
from celcombiller.core.errors import BadNumber, UnknownSubscriber
from celcombiller.core.model.messages import Route
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import MessagePolicy
from celcombiller.core.sms.inbound_message import InboundPart
from tests.core.ledger.test_book import NOW, database

POLICY = MessagePolicy(on_net_route=Route.ASTERISK, off_net_route=Route.SMPP, parts_max=4)
WAIT = timedelta(minutes=10)
GSM, UCS2 = 0, 8


@pytest.fixture
def engine(tmp_path):
    made = database(tmp_path / "parts.sqlite")
    yield made
    made.dispose()


def decode(coding, data):
    return data.decode("utf-16-be" if coding == UCS2 else "ascii", "replace")


def part(number, payload=b"part", *, total=3, group="g", to="1002", coding=GSM):
    return InboundPart(group, number, total, f"{group}{number}{payload}", "5599", to, coding, payload)


def bring(engine, *parts, now=NOW):
    """Take parts as a biller does, each in two transactions."""
    for each in parts:
        with engine.begin() as tx:
            record_part(tx, POLICY, each, decode, now)
        with engine.begin() as tx:
            join_parts(tx, POLICY, each.group_key, decode, now)


def pass_time(engine, now):
    with engine.begin() as tx:
        for group in overdue_groups(tx, WAIT, now):
            join_parts(tx, POLICY, group, decode, now, is_overdue=True)
        delete_joined(tx, now)


def texts(engine):
    with engine.begin() as tx:
        return list(tx.execute(sa.select(tables.message.c.text).order_by(tables.message.c.id)).scalars())


def test_all_parts_are_one_message(engine):
    bring(engine, part(2, b"b"), part(3, b"c"))
    assert texts(engine) == []
    bring(engine, part(1, b"a"))
    assert texts(engine) == ["abc"]


def test_a_character_cut_in_two_is_whole(engine):
    octets = "a 😀 b".encode("utf-16-be")
    cut = 6
    bring(engine, part(2, octets[cut:], total=2, coding=UCS2), part(1, octets[:cut], total=2, coding=UCS2))
    assert texts(engine) == ["a 😀 b"]


def test_a_message_without_a_part_goes_on(engine):
    bring(engine, part(1, b"a"), part(3, b"c"))
    pass_time(engine, NOW + WAIT)
    assert texts(engine) == []
    pass_time(engine, NOW + WAIT + timedelta(seconds=1))
    assert texts(engine) == [f"a{MISSING}c"]


def test_a_number_used_again_begins_another_message(engine):
    bring(engine, part(1, b"old"), part(1, b"new", total=2), part(2, b"er", total=2))
    assert texts(engine) == [f"old{MISSING}", "newer"]


def test_a_repeat_after_the_end_is_known(engine):
    bring(engine, *(part(number) for number in (1, 2, 3, 3, 1)))
    pass_time(engine, NOW + WAIT + timedelta(seconds=1))
    assert texts(engine) == ["partpartpart"]


def test_what_was_joined_is_deleted_in_time(engine):
    bring(engine, *(part(number) for number in (1, 2, 3)))
    pass_time(engine, NOW + REPEATED + timedelta(seconds=1))
    with engine.begin() as tx:
        assert tx.execute(sa.select(tables.inbound_part)).all() == []


def test_a_text_too_long_is_given_up(engine):
    bring(engine, *(part(number, b"x" * 153, total=5) for number in range(1, 6)))
    assert texts(engine) == []
    with engine.begin() as tx:
        became = set(tx.execute(sa.select(tables.inbound_part.c.joined_as)).scalars())
    assert len(became) == 1
    assert became.pop().startswith("INVALID: ")


@pytest.mark.parametrize(
    ("wrong", "policy", "error"),
    [(part(1, to="7777"), POLICY, UnknownSubscriber), (part(1), MessagePolicy(), BadNumber)],
)
def test_a_part_for_no_phone_is_refused(engine, wrong, policy, error):
    with engine.begin() as tx, pytest.raises(error):
        record_part(tx, policy, wrong, decode, NOW)
    with engine.begin() as tx:
        assert tx.execute(sa.select(tables.inbound_part)).all() == []


arrivals = st.lists(st.tuples(st.sampled_from("gh"), st.integers(1, 3)), max_size=12)


@given(arrivals)
def test_any_order_and_repeats_deliver_once(order):
    """0.1 s for each example. What is complete is one message; the rest is delivered as it is, when it is overdue."""
    engine = database()
    for group, number in order:
        bring(engine, part(number, f"{group}{number}".encode(), group=group))
    pass_time(engine, NOW + WAIT + timedelta(seconds=1))
    pass_time(engine, NOW + 2 * WAIT)
    wanted = []
    for group in "gh":
        came = {number for each, number in order if each == group}
        if came:
            wanted.append("".join(f"{group}{number}" if number in came else MISSING for number in (1, 2, 3)))
    found = sorted(text.replace(MISSING * 2, MISSING) for text in texts(engine))
    engine.dispose()
    assert found == sorted(text.replace(MISSING * 2, MISSING) for text in wanted)
