"""A suspended subscriber may call chosen numbers only; who calls them gets through."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from celcombiller.core.charging.requests import ChargingPolicy
from celcombiller.core.errors import SubscriberSuspended
from celcombiller.core.model.calls import CallEnd, CallGrant
from celcombiller.core.model.messages import MessageOrigin, Route
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.numbering import NumberingPlan
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import MessagePolicy, MessageResult, MessageSubmission
from tests.core.charging.test_slices import begin, update
from tests.core.ledger.test_book import NOW, ask, credit, initiate

MESSAGES = MessagePolicy(on_net_route=Route.ASTERISK, off_net_route=Route.ASTERISK, suspended_allowed=("08", "1002"))
POLICY = ChargingPolicy(Tariff([Rate()]), external=True, messages=MESSAGES, suspended_allowed=("08", "+1002"))


def suspend(engine, username="u1001", at=NOW):
    with engine.begin() as tx:
        mine = tables.subscriber.c.username == username
        tx.execute(sa.update(tables.subscriber).where(mine).values(suspended_at=at))


@pytest.fixture
def funded(engine):
    ask(engine, credit(600), credit(600, "b", "u1002"))
    suspend(engine)
    return engine


@pytest.mark.parametrize(("number", "goes"), [("1002", True), ("0800123", True), ("1003", False), ("551199", False)])
def test_chosen_numbers_go(funded, number, goes):
    (answer,) = ask(funded, replace(initiate(), called_number=number), terms=POLICY)
    assert type(answer) is (CallGrant if goes else SubscriberSuspended)


def test_the_dialled_form_counts(funded):
    plan = NumberingPlan(country_code="55", international="00", trunk="0")
    terms = replace(POLICY, numbering=plan)
    (answer,) = ask(funded, replace(initiate(), called_number="0800123456"), terms=terms)
    assert isinstance(answer, CallGrant)


def test_incoming_calls_go_on(funded):
    (answer,) = ask(funded, replace(initiate(), account_code="u1002", caller_number="1002", called_number="1001"))
    assert isinstance(answer, CallGrant)


def test_back_on_when_lifted(funded):
    suspend(funded, at=None)
    (answer,) = ask(funded, replace(initiate(), called_number="1003"), terms=POLICY)
    assert isinstance(answer, CallGrant)


@pytest.mark.parametrize(("number", "end"), [("1003", CallEnd.SUSPENDED), ("0800123", None)])
def test_a_live_call_ends_when_suspended(engine, number, end):
    ask(engine, credit(600))
    (grant,) = ask(engine, replace(begin(), called_number=number), terms=POLICY)
    suspend(engine)
    (answer,) = ask(engine, update(granted=grant.seconds, used=20), terms=POLICY)
    assert answer.end is end


@pytest.mark.parametrize(("number", "goes"), [("1002", True), ("1003", False)])
def test_messages_go_to_chosen_numbers(funded, number, goes):
    sent = MessageSubmission("m", MessageOrigin.API, "u1001", "", number, "hello")
    (answer,) = ask(funded, sent, terms=POLICY)
    assert type(answer) is (MessageResult if goes else SubscriberSuspended)
