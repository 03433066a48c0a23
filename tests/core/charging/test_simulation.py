"""The simulator: what it says is what the live path charges."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from celcombiller.core.catalogue.catalogue import Catalogue, CatalogueHolder, CatalogueTariff, TariffVersion
from celcombiller.core.charging.requests import ChargingPolicy
from celcombiller.core.charging.simulation import simulate_call
from celcombiller.core.errors import InsufficientBalance, NoRate, NoTrunk, SubscriberDisabled, UnknownSubscriber
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.routing import CallRoute, RouteTrunk, Trunk, TrunkChoice
from celcombiller.core.model.tariffs import Service, Window, flat_rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.reports.call_price import call_price_view, describe_call_price
from celcombiller.core.subscribers import subscriber_records
from tests.core.ledger.test_book import NOW, ask, credit, database, ended, initiate, proved, voice
from tests.core.rating.rates import any_rates
from tests.support.bundles import give


def priced(rate):
    """Return a policy whose settings have this rate alone."""
    return ChargingPolicy(Tariff([rate]), external=True)


def simulate(engine, policy, *, seconds=60, to="1002", caller="1001", at=NOW, **facts):
    with engine.begin() as tx:
        return simulate_call(tx, policy, from_number=caller, to_number=to, seconds=seconds, at=at, **facts)


def test_nothing_is_recorded_by_a_simulation(engine):
    ask(engine, credit(100))
    give(engine, BundleKind.SECONDS, 30)
    simulated = simulate(engine, priced(flat_rate()))
    assert (simulated.bill.balance_amount, simulated.affordable_seconds) == (30, 130)
    assert (voice(engine).posted, voice(engine).held) == (100, 0)
    proved(engine)


@pytest.mark.slow
@given(any_rates, st.integers(0, 5000), st.integers(0, 500), st.integers(0, 4000))
def test_what_it_says_is_what_is_charged(rate, balance, bundled, seconds):
    """Some milliseconds an example, on a database in memory."""
    engine, policy = database(), priced(structs.replace(rate, prefix=""))
    if balance:
        ask(engine, credit(balance))
    if bundled:
        give(engine, BundleKind.SECONDS, bundled)
    most = simulate(engine, policy, seconds=seconds).affordable_seconds
    said = simulate(engine, policy, seconds=min(seconds, most))
    (grant,) = ask(engine, initiate(), terms=policy)
    if isinstance(grant, InsufficientBalance):
        assert isinstance(said.refusal, InsufficientBalance)
    else:
        assert most == grant.seconds
        end = ended(talk_ms=said.seconds * 1000)
        end = replace(
            end, ending=structs.replace(end.ending, answered_at=NOW, at=NOW + timedelta(seconds=said.seconds))
        )
        (settled,) = ask(engine, end, terms=policy)
        assert settled.call.cost == said.bill.balance_amount
    proved(engine)
    engine.dispose()


@pytest.mark.parametrize(
    ("facts", "error"),
    [({"caller": "999"}, UnknownSubscriber), ({"to": "5511"}, NoRate), ({"username": "u1003"}, SubscriberDisabled)],
)
def test_what_cannot_be_priced_says_why(engine, facts, error):
    with engine.begin() as tx:
        subscriber_records.enable(tx, "u1003", NOW, enabled=False)
    with pytest.raises(error):
        simulate(engine, priced(flat_rate("1")), **facts)


def test_a_call_without_credit_has_its_price(engine):
    simulated = simulate(engine, priced(flat_rate(price=2)), seconds=30)
    assert (simulated.bill.balance_amount, simulated.affordable_seconds) == (60, 0)
    assert isinstance(simulated.refusal, InsufficientBalance)


def test_talk_is_paid_whenever_it_is_answered(engine):
    dearer = Window(frozenset(range(8)), 12 * 60 + 1, 13 * 60), flat_rate(price=2).prices
    ask(engine, credit(100))
    simulated = simulate(engine, priced(structs.replace(flat_rate(), windows=(dearer,))))
    assert simulated.affordable_seconds == 20 + 40  # after 40 s of ringing; 60 + 20 if it were answered at once


def trunked(*, enabled=True):
    """Return a policy with a tariff of the ledger, and one trunk with its provider's prices."""
    version = TariffVersion(
        7, 3, NOW - timedelta(days=1), {Service.VOICE: Tariff([flat_rate("55", "Brazil", 5, 60, 60)])}
    )
    cost = TariffVersion(8, 1, NOW - timedelta(days=1), {Service.VOICE: Tariff([flat_rate("5", "", 0, 10, 30)])})
    tariffs = {
        1: CatalogueTariff(1, "retail", "BRL", 100, versions=(version,)),
        2: CatalogueTariff(2, "north's", versions=(cost,)),
    }
    trunk = Trunk(4, "north", "PJSIP/{number}@north", "", "", "", 2, None, enabled)
    route = CallRoute(1, "55", TrunkChoice.ORDER, (RouteTrunk(4),))
    catalogue = Catalogue({}, 1, tariffs, 1, trunks={4: trunk}, routes={route.prefix: route})
    return ChargingPolicy(Tariff([]), catalogue=CatalogueHolder(catalogue))


def test_tariff_trunk_and_margin_are_named(engine):
    ask(engine, credit(1000))
    view = call_price_view(simulate(engine, trunked(), to="5511999", seconds=61))
    assert (view.tariff, view.version, view.prefix, view.destination) == ("retail", 3, "55", "Brazil")
    assert (view.cost, view.money) == (125, "BRL 1.25")
    assert [(each.name, each.cost, each.margin) for each in view.trunks] == [("north", 30, 95)]
    assert view.refusal is None


def test_a_route_without_a_trunk_is_said(engine):
    simulated = simulate(engine, trunked(enabled=False), to="5511999")
    assert isinstance(simulated.refusal, NoTrunk)


def test_the_words_tell_each_piece(engine):
    ask(engine, credit(1000))
    give(engine, BundleKind.SECONDS, 60)
    lines = describe_call_price(call_price_view(simulate(engine, trunked(), to="5511999", seconds=130)))
    assert lines == [
        "Call of u1001 to 5511999, to another network, 130 s of talk.",
        "Tariff retail, version 3: prefix 55 Brazil.",
        "  second 0 to 60: 60 s in increments of 60 s, paid by the bundle B",
        "  second 60 to 180: 120 s in increments of 60 s, 60 credits for each 60 s: 120, 120 credits",
        "The balance pays 120 credits (BRL 1.20), rounded up once.",
        "It has 1000 credits for it: 1020 s would be granted.",
        "Trunk 1: north, costs 50 credits, margin 70.",
    ]
