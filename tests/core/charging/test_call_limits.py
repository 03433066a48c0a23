"""Limits of calls and routes, as the charging of a call applies them."""

from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.audit.report import audit
from celcombiller.core.catalogue.catalogue import Catalogue, CatalogueHolder, CatalogueTariff, TariffVersion
from celcombiller.core.charging.requests import ChargingPolicy, TakeTrunk
from celcombiller.core.errors import (
    BadNumber,
    Barred,
    GroupFull,
    NoTrunk,
    TooExpensive,
    TooManyCalls,
    UnknownCall,
)
from celcombiller.core.model.calls import CallGrant, CallState
from celcombiller.core.model.routing import CallRoute, RouteTrunk, TrunkChoice
from celcombiller.core.model.subscribers import Group
from celcombiller.core.model.tariffs import Rate, Service, flat_rate
from celcombiller.core.rating.numbering import NumberingPlan
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import tables
from celcombiller.core.voice import call_queries
from tests.core.ledger.test_book import NOW, ask, credit, database, ended, initiate, proved, voice
from tests.core.routing.test_trunk_choice import trunk

OFF_NET = "5511999"


@pytest.fixture
def funded(engine):
    ask(engine, credit(600), credit(600, "b", "u1002"), credit(600, "c", "u1003"))
    yield engine
    proved(engine)


def terms(*, groups=(), trunks=(), order=None, prefix="", tariffs=(), rate=None, **facts):
    """Make a policy whose route has these trunks in this order."""
    route = CallRoute(1, prefix, TrunkChoice.ORDER, tuple(map(RouteTrunk, order or [each.id for each in trunks])))
    catalogue = Catalogue(
        settings={Service.VOICE: Tariff([rate or Rate()])},
        groups={each.id: each for each in groups},
        trunks={each.id: each for each in trunks},
        routes={route.prefix.removeprefix("+"): route} if trunks else {},
        tariffs=dict(tariffs),
    )
    return ChargingPolicy(Tariff([Rate()]), catalogue=CatalogueHolder(catalogue), **facts)


def write(engine, policy, **of_1001):
    """Write the rows that foreign keys need, and facts of the first subscriber."""
    catalogue = policy.catalogue.current
    with engine.begin() as tx:
        for each in catalogue.trunks.values():
            facts = {"name": each.name, "dial": each.dial, "enabled": each.enabled, "created_at": NOW}
            tx.execute(tables.trunk.insert().values(id=each.id, calls_max=each.calls_max, **facts))
        for each in catalogue.groups.values():
            tx.execute(tables.subscriber_group.insert().values(id=each.id, name=each.name, created_at=NOW))
        if of_1001:
            table = tables.subscriber
            tx.execute(table.update().where(table.c.username == "u1001").values(**of_1001))


def called(engine, policy, uniqueid="1.0", to=OFF_NET, caller="1001"):
    return ask(engine, initiate(uniqueid, caller=caller, called=to), terms=policy)[0]


def kind(answer):
    return type(answer) if not isinstance(answer, CallGrant) else CallGrant


def tried(engine):
    with engine.begin() as tx:
        rows = tx.execute(tables.call.select().order_by(tables.call.c.id)).all()
    return [(row.trunk_id, row.trunks_tried, row.trunk_cost) for row in rows]


# -- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "own", "refusal"),
    [
        ({}, 2, TooManyCalls),
        ({"subscriber_calls_max": 2}, None, TooManyCalls),
        ({"subscriber_calls_max": 9}, 2, TooManyCalls),
        ({"subscriber_calls_max": 0}, 2, TooManyCalls),
        ({"calls_max": 2}, None, GroupFull),
        ({"calls_max": 2}, 9, GroupFull),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_one_call_too_many_is_refused(funded, group, own, refusal, together):
    policy = terms(groups=[Group(5, "shop", **group)], max_call_seconds=10)
    write(funded, policy, calls_max=own, group_id=5)
    asked = [initiate(f"{n}.0", called="1002") for n in range(4)]
    answers = ask(funded, *asked, terms=policy) if together else [ask(funded, each, terms=policy)[0] for each in asked]
    assert [kind(each) for each in answers] == [CallGrant, CallGrant, refusal, refusal]
    ask(funded, ended("0.0"), terms=policy)
    assert kind(called(funded, policy, "9.0", "1002")) is CallGrant


def test_an_end_makes_room_in_its_batch(funded):
    policy = terms(max_call_seconds=10)
    write(funded, policy, calls_max=1)
    assert kind(called(funded, policy, "1.0", "1002")) is CallGrant
    _, second, third = ask(
        funded, ended("1.0"), initiate("2.0", called="1002"), initiate("3.0", called="1002"), terms=policy
    )
    assert (kind(second), kind(third)) == (CallGrant, TooManyCalls)


def test_the_next_dial_of_a_channel_counts_once(funded):
    policy = terms(max_call_seconds=10)
    write(funded, policy, calls_max=1)
    for authorization in ("a", "b", "b"):
        asked = initiate("1.0", called="1002", authorization=authorization)
        assert kind(ask(funded, asked, terms=policy)[0]) is CallGrant


def test_others_count_for_the_group_only(funded):
    policy = terms(groups=[Group(5, "shop", calls_max=2, subscriber_calls_max=1)], max_call_seconds=10)
    write(funded, policy)
    with funded.begin() as tx:
        tx.execute(tables.subscriber.update().values(group_id=5))
    kinds = [
        kind(called(funded, policy, f"{n}.0", "1002", caller)) for n, caller in enumerate(("1001", "1003", "1003"))
    ]
    assert kinds == [CallGrant, CallGrant, TooManyCalls]
    assert kind(called(funded, policy, "9.0", "1001", "1002")) is GroupFull


@given(st.lists(st.sampled_from(["begin", "end", "expire"]), max_size=20), st.integers(0, 3))
def test_no_order_of_calls_exceeds_a_limit(tmp_path_factory, steps, calls_max):
    engine = database(tmp_path_factory.mktemp("limit") / "ledger.sqlite")
    ask(engine, credit(600))
    policy = terms(trunks=[trunk(1, calls_max=calls_max)], max_call_seconds=1)
    write(engine, policy, calls_max=2)
    running = []
    for number, step in enumerate(steps):
        if step == "begin":
            answer = called(engine, policy, f"{number}.0")
            expected = CallGrant if len(running) < min(2, calls_max) else TooManyCalls if len(running) == 2 else NoTrunk
            assert kind(answer) is expected
            if expected is CallGrant:
                running.append(f"{number}.0")
        elif running:
            ask(engine, ended(running.pop(0), answered=step == "end", expired=step == "expire"), terms=policy)
    proved(engine)


@pytest.mark.parametrize(
    ("own", "group", "refused"),
    [
        ({"barred": "5511"}, {}, True),
        ({}, {"barred": ("55",)}, True),
        ({"barred": ""}, {"barred": ("55",)}, False),
        ({"allowed": "5511"}, {"barred": ("55",)}, False),
        ({"allowed": "44"}, {}, True),
    ],
)
def test_a_barred_prefix_is_refused(funded, own, group, refused):
    policy = terms(groups=[Group(5, "shop", **group)], external=True)
    write(funded, policy, group_id=5, **own)
    assert kind(called(funded, policy)) is (Barred if refused else CallGrant)


def test_a_call_let_go_is_charged_beyond_limits(funded):
    policy = terms(external=True)
    write(funded, policy, calls_max=0, barred="5")
    request = initiate(called=OFF_NET)
    (settled,) = ask(funded, ended(talk_ms=5000, unauthorized_request=request), terms=policy)
    assert (settled.call.state, settled.call.cost) == (CallState.SETTLED, 5)


@pytest.mark.parametrize(("seconds_max", "cost_max", "expected"), [(30, None, 30), (None, 61, 60), (None, 600, 600)])
def test_a_group_limits_each_call(funded, seconds_max, cost_max, expected):
    group = Group(5, "shop", call_seconds_max=seconds_max, call_cost_max=cost_max)
    policy = terms(groups=[group], rate=flat_rate(price=60, increment=60), external=True)
    policy = replace(policy, tariff=Tariff([flat_rate(price=60, increment=60)]))
    write(funded, policy, group_id=5)
    assert called(funded, policy).seconds == expected


def test_a_first_increment_above_the_limit_is_refused(funded):
    group = Group(5, "shop", call_cost_max=59)
    policy = terms(groups=[group], rate=flat_rate(price=60, increment=60), external=True)
    policy = replace(policy, tariff=Tariff([flat_rate(price=60, increment=60)]))
    write(funded, policy, group_id=5)
    assert kind(called(funded, policy)) is TooExpensive


# -- trunks ----------------------------------------------------------------------------------------------------------


def test_without_a_route_a_call_goes_as_before(funded):
    policy = terms(trunks=[trunk(1)], prefix="44", external=True)
    write(funded, policy)
    grant = called(funded, policy)
    assert (grant.trunks, grant.call.trunk_id) == ((), None)
    assert kind(called(funded, replace(policy, external=False), "2.0")) is BadNumber


def test_a_grant_has_the_trunks_in_order(funded):
    policy = terms(trunks=[trunk(1), trunk(2, enabled=False), trunk(3)], order=[3, 2, 1])
    write(funded, policy)
    grant = called(funded, policy)
    assert [each.dial for each in grant.trunks] == [f"PJSIP/{OFF_NET}@t3", f"PJSIP/{OFF_NET}@t1"]
    assert tried(funded) == [(3, None, None)]
    assert called(funded, policy).trunks == grant.trunks


def test_a_full_trunk_is_passed_over(funded):
    policy = terms(trunks=[trunk(1, calls_max=1), trunk(2)], max_call_seconds=10)
    write(funded, policy)
    firsts = [called(funded, policy, f"{n}.0").trunks[0].trunk_id for n in range(3)]
    ask(funded, ended("0.0"), terms=policy)
    assert (firsts, called(funded, policy, "9.0").trunks[0].trunk_id) == ([1, 2, 2], 1)


def test_a_route_is_of_the_international_number(funded):
    plan = NumberingPlan(country_code="55", trunk="0", international="00")
    policy = replace(terms(trunks=[trunk(1, calls_max=1)], prefix="+5591"), numbering=plan)
    write(funded, policy)
    assert called(funded, policy, to="09133334444").trunks[0].dial == "PJSIP/+559133334444@t1"
    assert kind(called(funded, policy, "2.0", to="00559133334444")) is NoTrunk


def test_a_subscriber_is_called_by_no_trunk(funded):
    policy = terms(trunks=[trunk(1, calls_max=0)])
    write(funded, policy)
    assert called(funded, policy, to="1002").trunks == ()


def take(engine, policy, failed, *trunk_ids, uniqueid="1.0", leg=0):
    return ask(engine, TakeTrunk("pbx1", uniqueid, leg, failed, trunk_ids), terms=policy)[0]


def test_the_next_trunk_is_recorded_once(funded):
    policy = terms(trunks=[trunk(1), trunk(2), trunk(3)])
    write(funded, policy)
    called(funded, policy)
    for _ in range(2):  # the answer may be lost, and the request come again
        assert take(funded, policy, 1, 2, 3).trunk_id == 2
    assert take(funded, policy, 2, 3).trunk_id == 3
    assert tried(funded) == [(3, "1 2", None)]
    assert kind(take(funded, policy, 3)) is NoTrunk
    assert [each.trunk_id for each in called(funded, policy).trunks] == [3]
    ask(funded, ended(answered=False), terms=policy)
    assert kind(take(funded, policy, 3, 1)) is UnknownCall


def test_the_next_trunk_must_have_room(funded):
    policy = terms(trunks=[trunk(1), trunk(2, calls_max=1), trunk(3)], max_call_seconds=10)
    write(funded, policy)
    for uniqueid in ("1.0", "2.0"):
        called(funded, policy, uniqueid)
    assert take(funded, policy, 1, 2, 3).trunk_id == 2
    assert take(funded, policy, 1, 2, 3, uniqueid="2.0").trunk_id == 3
    assert take(funded, policy, 2, 3).trunk_id == 3
    called(funded, policy, "3.0")
    assert take(funded, policy, 1, 2, 3, uniqueid="3.0").trunk_id == 2


def test_a_failed_trunk_has_room_again(funded):
    policy = terms(trunks=[trunk(1, calls_max=1), trunk(2)], max_call_seconds=10)
    write(funded, policy)
    called(funded, policy)
    take(funded, policy, 1, 2)
    assert called(funded, policy, "2.0").trunks[0].trunk_id == 1


def provider(tariff_id, *rates):
    version = TariffVersion(tariff_id * 10, 1, NOW, {Service.VOICE: Tariff(rates)})
    return tariff_id, CatalogueTariff(tariff_id, f"provider {tariff_id}", versions=(version,))


@pytest.mark.parametrize(("answered", "cost", "margin"), [(True, 20, -17), (False, None, None)])
def test_a_talk_costs_what_its_trunk_charges(funded, answered, cost, margin):
    tariffs = [provider(7, flat_rate(price=1)), provider(8, flat_rate(price=20, increment=60))]
    policy = terms(trunks=[trunk(1, tariff_id=7), trunk(2, tariff_id=8)], tariffs=tariffs)
    write(funded, policy)
    called(funded, policy)
    take(funded, policy, 1, 2)
    (settled,) = ask(funded, ended(talk_ms=2100, answered=answered), terms=policy)
    assert (settled.trunk, settled.call.trunk_cost, settled.call.margin) == ("t2", cost, margin)
    assert tried(funded) == [(2, "1", cost)]


@pytest.mark.parametrize(("tampered", "expected"), [({"trunk_cost": 9}, 3), ({"trunk_rate": None}, None)])
def test_the_audit_proves_what_a_trunk_costs(engine, tampered, expected):
    ask(engine, credit(60))
    policy = terms(trunks=[trunk(1, tariff_id=7)], tariffs=[provider(7, flat_rate(price=1))])
    write(engine, policy)
    called(engine, policy)
    ask(engine, ended(talk_ms=2100), terms=policy)
    proved(engine)
    with engine.begin() as tx:
        tx.execute(tables.call.update().values(**tampered))
        (difference,) = audit(tx).differences
    assert (difference.law, difference.expected) == ("a call's trunk costs what its rate says", expected)


def test_a_trunk_without_prices_has_no_margin(funded):
    policy = terms(trunks=[trunk(1)])
    write(funded, policy)
    called(funded, policy)
    (settled,) = ask(funded, ended(), terms=policy)
    assert (settled.call.trunk_id, settled.call.trunk_cost, settled.call.margin) == (1, None, None)


def test_an_open_call_is_read_with_its_trunk(funded):
    policy = terms(trunks=[trunk(1, tariff_id=7), trunk(2)], tariffs=[provider(7, flat_rate(price=3))])
    write(funded, policy)
    grant = called(funded, policy)
    with funded.begin() as tx:
        assert call_queries.still_open(tx, [grant.call.reference]) == [grant.call]


def test_a_subscriber_without_limits_is_not_counted(funded):
    policy = terms(external=True)
    statements = []
    sa.event.listen(funded, "before_cursor_execute", lambda _c, _k, text, *_: statements.append(text))
    called(funded, policy)
    assert not [each for each in statements if "count(" in each]
    assert voice(funded).held == 600
