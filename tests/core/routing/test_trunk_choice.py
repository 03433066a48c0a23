"""Which trunks a call tries, and in which order."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.model.routing import CallRoute, RouteTrunk, Trunk, TrunkChoice
from celcombiller.core.model.tariffs import flat_rate
from celcombiller.core.routing.trunk_choice import choose_trunks, find_route
from tests.support.work_measures import count_function_calls

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def trunk(number, *, enabled=True, **facts):
    named = {"strip": "", "prepend": "", "caller_id": "", "tariff_id": None, "calls_max": None, **facts}
    return Trunk(id=number, name=f"t{number}", dial=f"PJSIP/{{number}}@t{number}", enabled=enabled, **named)


def route(choose, *trunks, prefix=""):
    return CallRoute(1, prefix, TrunkChoice(choose), tuple(RouteTrunk(*each) for each in trunks))


def chosen(found, trunks, *, rates=None, lot="", full=()):
    known = {each.id: each for each in trunks}
    return [each.id for each in choose_trunks(found, known, lambda each: (rates or {}).get(each.id), NOW, lot, full)]


TRUNKS = st.lists(st.builds(trunk, st.integers(1, 6), enabled=st.booleans()), unique_by=lambda each: each.id)
PLACES = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), max_size=8)
RATES = st.dictionaries(st.integers(1, 6), st.builds(flat_rate, price=st.integers(0, 9), increment=st.integers(1, 60)))


@given(TRUNKS, PLACES, st.sampled_from(TrunkChoice), RATES, st.text(max_size=3), st.sets(st.integers(1, 6)))
def test_each_usable_trunk_is_tried_once(trunks, places, choose, rates, lot, full):
    found = chosen(route(choose, *places), trunks, rates=rates, lot=lot, full=full)
    usable = {each.id for each in trunks if each.enabled} - full
    assert sorted(found) == sorted(usable & {trunk_id for trunk_id, _ in places})


@given(TRUNKS, PLACES, st.sampled_from(TrunkChoice), RATES, st.text(max_size=3), st.sets(st.integers(1, 6)))
def test_a_full_trunk_changes_no_others_order(trunks, places, choose, rates, lot, full):
    with_it = chosen(route(choose, *places), trunks, rates=rates, lot=lot)
    without = chosen(route(choose, *places), trunks, rates=rates, lot=lot, full=full)
    assert without == [each for each in with_it if each not in full]


def test_trunks_are_tried_as_they_stand():
    assert chosen(route("order", (3,), (1,), (2,)), [trunk(n) for n in (1, 2, 3)]) == [3, 1, 2]


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({1: flat_rate(price=3), 2: flat_rate(price=2), 3: flat_rate(price=1)}, [3, 2, 1]),
        ({2: flat_rate(price=9)}, [2, 1, 3]),
        ({1: flat_rate(price=2), 2: flat_rate(price=2), 3: flat_rate(price=2)}, [1, 2, 3]),
        ({1: flat_rate(connect_fee=100, price=1), 2: flat_rate(price=2), 3: flat_rate(price=3)}, [2, 1, 3]),
        ({1: flat_rate(price=60, increment=60), 2: flat_rate(price=3590, increment=3600), 3: flat_rate()}, [1, 3, 2]),
        ({1: flat_rate(price=1, increment=60), 2: flat_rate(price=1, increment=90), 3: flat_rate()}, [2, 1, 3]),
    ],
)
def test_the_cheapest_trunk_is_first(rates, expected):
    assert chosen(route("cost", (1,), (2,), (3,)), [trunk(n) for n in (1, 2, 3)], rates=rates) == expected


def test_weights_draw_the_first_in_proportion():
    found = route("weight", (1, 1), (2, 2), (3, 7))
    first = Counter(chosen(found, [trunk(n) for n in (1, 2, 3)], lot=str(lot))[0] for lot in range(4000))
    for number, share in ((1, 400), (2, 800), (3, 2800)):
        assert abs(first[number] - share) < 120  # six standard deviations are 114, 152 and 174


@given(st.text(max_size=8))
def test_the_same_lot_draws_the_same_order(lot):
    found, trunks = route("weight", (1, 1), (2, 2), (3, 7)), [trunk(n) for n in (1, 2, 3)]
    assert chosen(found, trunks, lot=lot) == chosen(found, trunks, lot=lot)


@pytest.mark.parametrize(
    ("number", "expected"), [("5511", "55"), ("+5511", "55"), ("+5521", "5521"), ("5", ""), ("5521", "5521")]
)
def test_the_route_has_the_longest_prefix(number, expected):
    routes = {each: route("order", prefix=each) for each in ("", "55", "5521", "9")}
    assert find_route(routes, number).prefix == expected


def test_a_route_is_found_by_its_prefix_alone():
    routes = {each: route("order", prefix=each) for each in map(str, range(2000))}
    assert count_function_calls(lambda: find_route(routes, "551199999999")) < 10


def test_without_a_matching_prefix_is_no_route():
    assert find_route({"55": route("order", prefix="55")}, "4411") is None
