"""Trunks and routes in the ledger."""

import pytest

from celcombiller.core.access import audit_trail
from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.access.changes import routing_changes
from celcombiller.core.errors import (
    AlreadyTaken,
    Forbidden,
    InUse,
    InvalidValue,
    UnknownRoute,
    UnknownTariff,
    UnknownTrunk,
)
from celcombiller.core.model.routing import CallRoute, RouteTrunk, TrunkChoice
from celcombiller.core.routing import route_records, trunk_records
from celcombiller.core.schema.catalogue_change import last_change
from tests.core.charging.test_call_limits import terms
from tests.core.ledger.test_book import NOW, ask, credit, initiate, proved

ADMINISTRATOR = Actor("admin", "::1", manages=ALL_LEVELS)


@pytest.fixture
def tx(engine):
    with engine.begin() as made:
        yield made


def trunk(tx, name, **facts):
    return trunk_records.add(tx, name=name, dial=f"PJSIP/{{number}}@{name}", now=NOW, **facts)


def route(tx, prefix, *trunks, choose=TrunkChoice.ORDER):
    places = tuple(RouteTrunk(each.id, weight) for weight, each in enumerate(trunks, 1))
    return route_records.add(tx, prefix=prefix, choose=choose, trunks=places, now=NOW)


def test_a_trunk_is_found_as_it_was_made(tx):
    made = trunk(tx, "north", strip="+", prepend="00", caller_id="+55{number}", calls_max=3)
    assert trunk_records.find(tx, "north") == trunk_records.find_by_id(tx, made.id) == made
    assert trunk_records.list_all(tx) == [made]
    assert (made.strip, made.prepend, made.caller_id, made.calls_max, made.enabled) == (
        "+",
        "00",
        "+55{number}",
        3,
        True,
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("name", each) for each in ("", "a b", "a\n", "a" * 65)),
        *(("dial", each) for each in ("PJSIP/x", "PJSIP/{number},1", "PJSIP/{number}" + "x" * 200)),
        *(("strip", "a"), ("prepend", "1&"), ("caller_id", "Ana"), ("calls_max", -1), ("calls_max", 10**9)),
    ],
)
def test_wrong_fields_of_a_trunk_are_named(tx, field, value):
    made = trunk(tx, "north")
    with pytest.raises(InvalidValue) as refused:
        trunk_records.change(tx, made.id, {field: value})
    assert set(refused.value.fields) == {field}
    assert trunk_records.find_by_id(tx, made.id) == made


def test_a_name_belongs_to_one_living_trunk(tx):
    made = trunk(tx, "north")
    with pytest.raises(AlreadyTaken):
        trunk(tx, "north")
    with pytest.raises(UnknownTariff):
        trunk_records.change(tx, made.id, {"tariff_id": 77})
    trunk_records.delete(tx, made.id, NOW)
    with pytest.raises(UnknownTrunk):
        trunk_records.find(tx, "north")
    assert trunk(tx, "north").id != made.id


def test_a_route_is_found_as_it_was_made(tx):
    first, second = trunk(tx, "north"), trunk(tx, "south")
    made = route(tx, "+55", second, first, choose=TrunkChoice.WEIGHT)
    assert made == CallRoute(made.id, "55", TrunkChoice.WEIGHT, (RouteTrunk(second.id, 1), RouteTrunk(first.id, 2)))
    assert route_records.find(tx, "+55") == route_records.find_by_id(tx, made.id) == made
    changed = route_records.change(
        tx, made.id, {"trunks": (RouteTrunk(first.id),), "prefix": "", "choose": TrunkChoice.COST}
    )
    assert route_records.list_all(tx) == [changed]
    assert (changed.prefix, changed.trunks) == ("", (RouteTrunk(first.id, 1),))
    route_records.delete(tx, made.id, NOW)
    with pytest.raises(UnknownRoute):
        route_records.find(tx, "")


def test_wrong_routes_are_refused(tx):
    first = trunk(tx, "north")
    route(tx, "55", first)
    with pytest.raises(AlreadyTaken):
        route(tx, "+55", first)
    for wrong in ((), (RouteTrunk(first.id), RouteTrunk(first.id)), (RouteTrunk(first.id, 0),)):
        with pytest.raises(InvalidValue):
            route_records.add(tx, prefix="44", choose=TrunkChoice.ORDER, trunks=wrong, now=NOW)
    with pytest.raises(UnknownTrunk):
        route_records.add(tx, prefix="44", choose=TrunkChoice.ORDER, trunks=(RouteTrunk(77),), now=NOW)
    with pytest.raises(InvalidValue):
        route(tx, "a", first)


def test_a_trunk_of_a_route_stays(tx):
    first = trunk(tx, "north")
    made = route(tx, "55", first)
    with pytest.raises(InUse, match="'55'"):
        trunk_records.delete(tx, first.id, NOW)
    route_records.delete(tx, made.id, NOW)
    trunk_records.delete(tx, first.id, NOW)


def test_each_change_is_counted_for_the_billers(tx):
    numbers = [last_change(tx)]
    first = trunk(tx, "north")
    made = route(tx, "55", first)
    for step in (
        lambda: None,
        lambda: trunk_records.change(tx, first.id, {"enabled": False}),
        lambda: route_records.change(tx, made.id, {"choose": TrunkChoice.COST}),
        lambda: route_records.delete(tx, made.id, NOW),
        lambda: trunk_records.delete(tx, first.id, NOW),
    ):
        step()
        numbers.append(last_change(tx))
    assert [number - numbers[0] for number in numbers] == [0, 2, 3, 4, 5, 6]


def test_changes_are_the_administrators_and_on_trail(tx):
    for work in (
        lambda actor: routing_changes.add_trunk(tx, actor, name="north", dial="PJSIP/{number}@north", now=NOW),
        lambda actor: routing_changes.add_route(
            tx, actor, prefix="55", choose=TrunkChoice.ORDER, trunks=(RouteTrunk(1),), now=NOW
        ),
        lambda actor: routing_changes.change_trunk(tx, actor, 1, {"enabled": False}, NOW),
        lambda actor: routing_changes.change_route(tx, actor, 1, {"prefix": "44"}, NOW),
        lambda actor: routing_changes.delete_route(tx, actor, 1, NOW),
        lambda actor: routing_changes.delete_trunk(tx, actor, 1, NOW),
    ):
        with pytest.raises(Forbidden):
            work(Actor("bia", "::1"))
        work(ADMINISTRATOR)
    written = [(each.action, each.subject) for each in reversed(audit_trail.entries(tx, limit=9))]
    subjects = ("trunk:1", "route:1")
    assert written == [(action, each) for action in ("add", "change") for each in subjects] + [
        ("delete", each) for each in reversed(subjects)
    ]


def test_open_calls_of_trunks_are_counted(engine):
    with engine.begin() as tx:
        made = trunk(tx, "north")
    policy = terms(trunks=[made])
    ask(engine, credit(60), initiate(called="5511"), terms=policy)
    with engine.begin() as tx:
        assert trunk_records.count_open_calls(tx, [made.id, 77]) == {made.id: 1}
    proved(engine)
