"""Messages priced by the payer's tariff."""

import pytest
import sqlalchemy as sa

from celcombiller.core.charging import messages
from celcombiller.core.errors import NoRate
from celcombiller.core.model.messages import MessageOrigin, MessageState, Route
from celcombiller.core.model.tariffs import Service, flat_rate
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import MessageOutcome, MessagePolicy, MessageSubmission
from tests.core.ledger.test_book import NOW, ask, credit, proved, voice
from tests.support.tariffs import make_policy

SETTINGS = MessagePolicy(on_net_route=Route.ASTERISK, off_net_route=Route.SMPP, on_net_price=7, off_net_price=7)
RATES = (flat_rate("1002", "Bia", price=2), flat_rate("55", "Brazil", 1, 4))


@pytest.fixture
def policy(engine):
    ask(engine, credit(100))
    with engine.begin() as tx:
        return make_policy(tx, Service.SMS, *RATES, messages=SETTINGS)


def send(to, text="hello", reference="m"):
    return MessageSubmission(reference, MessageOrigin.API, "u1001", "", to, text)


@pytest.mark.parametrize(
    ("to", "text", "cost"), [("1002", "x", 2), ("1002", "x" * 200, 4), ("5511", "x", 5), ("5511", "x" * 200, 9)]
)
def test_a_message_costs_what_its_destination_says(engine, policy, to, text, cost):
    (sent,) = ask(engine, send(to, text), terms=policy)
    assert (sent.message.cost, voice(engine).held) == (cost, cost)
    assert sent.message.tariff_version_id is not None
    ask(engine, MessageOutcome("m", MessageState.ACCEPTED), terms=policy)
    assert voice(engine).posted == 100 - cost
    proved(engine)


def test_a_failed_message_gives_its_fee_back(engine, policy):
    ask(
        engine,
        send("5511"),
        *(MessageOutcome("m", each) for each in (MessageState.ACCEPTED, MessageState.FAILED)),
        terms=policy,
    )
    assert voice(engine).posted == 100
    proved(engine)


def test_a_destination_without_a_rate_is_refused(engine, policy):
    (refused,) = ask(engine, send("44"), terms=policy)
    assert isinstance(refused, NoRate)
    assert voice(engine).held == 0


def test_the_api_charges_the_tariffs_price(engine, policy):
    with engine.begin() as tx:
        sent = messages.submit(
            *(tx, SETTINGS),
            reference="a",
            to_number="5511",
            text="x",
            now=NOW,
            payer="u1001",
            origin=MessageOrigin.API,
            catalogue=policy.catalogue.current,
        )
    assert sent.message.cost == 5
    proved(engine)


def test_the_audit_names_a_wrong_charge(engine, policy):
    ask(engine, send("5511"), MessageOutcome("m", MessageState.ACCEPTED), terms=policy)
    with engine.begin() as tx:
        tx.execute(sa.update(tables.message).values(charge=6))
    with pytest.raises(AssertionError, match="what it costs"):
        proved(engine)
