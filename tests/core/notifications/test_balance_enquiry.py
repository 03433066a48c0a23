"""Who asks his balance by text message is answered, once and for nothing, and nobody else is."""

import pytest
import sqlalchemy as sa

from celcombiller.config.tables import Balance, Config, Sms
from celcombiller.core.charging.requests import Credit
from celcombiller.core.errors import BadNumber, UnknownSubscriber
from celcombiller.core.ledger.balance_format import BalanceStyle
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.messages import Route
from celcombiller.core.notifications import balance_enquiry
from celcombiller.core.notifications.balance_enquiry import Wording
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import MessagePolicy
from celcombiller.core.subscribers import subscriber_records
from tests.core.ledger.test_book import NOW, ask, credit, database, initiate, proved, voice

WAY = MessagePolicy(on_net_route=Route.ASTERISK)


@pytest.fixture
def engine(tmp_path):
    made = database(tmp_path / "enquiries.sqlite")
    ask(made, credit(125))
    yield made
    proved(made)
    made.dispose()


def asked_by(engine, number, *, asked="1 MESSAGE", code="", terms=WAY, wording=None):
    with engine.begin() as tx:
        return balance_enquiry.answer(
            tx, terms, wording or Wording(), asked=asked, account_code=code, caller_number=number, now=NOW
        )


def queued(engine):
    with engine.connect() as tx:
        rows = tx.execute(sa.select(tables.message).order_by(tables.message.c.id)).all()
    assert all(row.subscriber_id is None and row.price == 0 for row in rows)
    return [(row.to_number, row.text) for row in rows]


def test_an_enquiry_is_answered_free(engine):
    assert asked_by(engine, "1001").first
    assert queued(engine) == [("1001", "Your balance is 2 min 5 s.")]
    assert (voice(engine).posted, voice(engine).held) == (125, 0)


def test_a_repeated_enquiry_keeps_its_first_answer(engine):
    asked_by(engine, "1001")
    ask(engine, credit(-5, "spent"))
    assert not asked_by(engine, "1001").first
    assert queued(engine) == [("1001", "Your balance is 2 min 5 s.")]
    asked_by(engine, "1001", asked="2 MESSAGE")
    assert queued(engine)[1:] == [("1001", "Your balance is 2 min.")]


def test_two_who_send_the_same_are_two(engine):
    asked_by(engine, "1001")
    asked_by(engine, "1002")
    assert [number for number, _ in queued(engine)] == ["1001", "1002"]


def test_what_a_call_holds_is_not_available(engine):
    ask(engine, initiate())
    asked_by(
        engine,
        "1001",
        wording=Wording("{credits} credits, {data} bytes, {balance}", BalanceStyle(as_time=False, scale=2)),
    )
    assert queued(engine) == [("1001", "0 credits, 0 bytes, 0")]


@pytest.mark.parametrize(
    ("account", "sms_text", "says"),
    [
        ("voice", "For messages: {sms}.", "Your balance is 2 min 5 s."),
        ("sms", "For messages: {sms}.", "Your balance is 2 min 5 s. For messages: 7."),
        ("sms", "{sms} of {credits}", "Your balance is 2 min 5 s. 7 of 125"),
        ("sms", "", "Your balance is 2 min 5 s."),
    ],
)
def test_sms_credit_of_its_own_is_answered(engine, account, sms_text, says):
    ask(engine, Credit("u1001", Kind.SMS, 7, "web", "sms"))
    settings = Config(sms=Sms(account=account), balance=Balance(sms_text=sms_text))
    asked_by(engine, "1001", wording=settings.wording)
    assert queued(engine) == [("1001", says)]


def test_the_payer_that_the_dialplan_names_counts(engine):
    asked_by(engine, "", code="u1001")
    assert [number for number, _ in queued(engine)] == ["1001"]


def test_who_is_disabled_still_may_know(engine):
    with engine.begin() as tx:
        subscriber_records.enable(tx, "u1001", NOW, enabled=False)
    asked_by(engine, "1001")
    assert len(queued(engine)) == 1


@pytest.mark.parametrize("number", ["", "1009", "' or 1=1 --", "IMSI", "x" * 5000, "1001\n1002", "%"])
def test_a_stranger_is_answered_nothing(engine, number):
    with pytest.raises(UnknownSubscriber):
        asked_by(engine, number)
    assert queued(engine) == []


@pytest.mark.parametrize("asked", ["", "\x00", "\ud800", "'; drop table message", "x" * 100_000])
def test_any_message_key_is_answered_once(engine, asked):
    for _ in range(2):
        asked_by(engine, "1001", asked=asked)
    assert len(queued(engine)) == 1


def test_without_a_route_there_is_no_answer(engine):
    with pytest.raises(BadNumber):
        asked_by(engine, "1001", terms=MessagePolicy())
