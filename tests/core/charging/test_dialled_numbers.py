"""Calls and messages are priced by the international form of the number that was dialled."""

from dataclasses import replace

import pytest

from celcombiller.core.catalogue.catalogue import Catalogue, CatalogueHolder, CatalogueTariff, TariffVersion
from celcombiller.core.charging.requests import ChargingPolicy
from celcombiller.core.model.messages import MessageOrigin, Route
from celcombiller.core.model.tariffs import Service, flat_rate
from celcombiller.core.rating.numbering import NumberingPlan
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.sms.charging import MessagePolicy, MessageSubmission
from celcombiller.core.subscribers import subscriber_records
from tests.core.charging.test_rerating import version
from tests.core.ledger.test_book import NOW, ask, credit, database, initiate, proved, voice

PLAN = NumberingPlan("55", international="00", trunk="0", area_code="11", local_digits_max=9)
RATES = Tariff([flat_rate("", price=50), flat_rate("55", price=5), flat_rate("5511", price=2)])
POLICY = ChargingPolicy(
    RATES,
    external=True,
    numbering=PLAN,
    messages=MessagePolicy(off_net_route=Route.ASTERISK, off_net_price=7, numbering=PLAN),
)


@pytest.fixture
def engine(tmp_path):
    made = database(tmp_path / "ledger.sqlite")
    ask(made, credit(10_000))
    yield made
    made.dispose()


@pytest.mark.parametrize(
    ("called", "number", "price"),
    [
        ("011987654321", "+5511987654321", 2),
        ("98765-4321", "+5511987654321", 2),
        ("tel:+552198765432", "+552198765432", 5),
        ("00493012345678", "+493012345678", 50),
        ("*100#", "*100#", 50),
        ("1002", "1002", 50),
    ],
)
def test_a_call_is_priced_internationally(engine, called, number, price):
    (grant,) = ask(engine, initiate(called=called), terms=POLICY)
    assert (grant.call.to_number, grant.call.rate.price) == (number, price)
    assert (grant.callee is None) == (called != "1002")
    proved(engine)


def test_a_message_is_priced_internationally(engine):
    new = version(engine, flat_rate("5511", price=3))
    in_force = TariffVersion(new.version_id, 1, NOW, {Service.SMS: new.rates})
    catalogue = Catalogue(tariffs={1: CatalogueTariff(1, "T1", versions=(in_force,))}, default_tariff_id=1)
    request = MessageSubmission("m", MessageOrigin.API, "u1001", "", "011987654321", "hello")
    (result,) = ask(engine, request, terms=replace(POLICY, catalogue=CatalogueHolder(catalogue)))
    assert (result.message.to_number, result.message.price, voice(engine).held) == ("011987654321", 3, 3)


@pytest.mark.parametrize("called", ["5511987654321", "+5511987654321", "011987654321", "987654321", "005511987654321"])
def test_a_subscriber_is_reached_however_dialled(engine, called):
    with engine.begin() as tx:
        subscriber_records.change(tx, "u1002", {"clid": "5511987654321"}, NOW)
    (grant,) = ask(engine, initiate(called=called), terms=POLICY)
    assert (grant.callee.username, grant.call.to_number) == ("u1002", "5511987654321")
    (sent,) = ask(
        engine,
        MessageSubmission("m", MessageOrigin.API, "u1001", "", called, "hello"),
        terms=replace(POLICY, messages=replace(POLICY.messages, on_net_route=Route.ASTERISK)),
    )
    assert (sent.callee.username, sent.message.to_number) == ("u1002", "5511987654321")
    proved(engine)
