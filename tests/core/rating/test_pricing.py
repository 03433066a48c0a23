"""The price of a use: its laws, against a slow model, and worked examples from public tariff sheets."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import assume, example, given

from celcombiller.core.model.tariffs import HOLIDAY, Calendar, Prices, Rate, Step, Window, flat_rate
from celcombiller.core.rating.pricing import (
    PieceKind,
    affordable,
    list_pieces,
    next_step,
    price,
    prices_at,
    rate_at,
    rate_throughout,
)
from tests.core.rating.rates import (
    any_rates,
    moments,
    plain_rates,
    slow_increments,
    slow_price,
    slow_prices,
    window_rates,
)

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)  # a Monday


def stepped(*steps, fee=0, minimum=0, grace=0):
    return Rate(prices=Prices(fee, tuple(Step(*each) for each in steps), minimum, grace))


# -- worked examples ---------------------------------------------------------------------------------------------------

FULL_MINUTES = stepped((0, 60, 12, 60))  # 60/60
HALF_THEN_SIX = stepped((0, 30, 60, 60), (30, 6, 60, 60))  # 30/6, 60 credits a minute
BY_SECOND = stepped((0, 1, 90, 60), fee=50)  # 1/1 and a fee
FREE_FIRST_MINUTE = stepped((0, 60, 0, 60), (60, 1, 10, 60))
PROGRESSIVE = stepped((0, 60, 30, 60), (180, 60, 20, 60), (600, 60, 10, 60))
THIRDS = stepped((0, 1, 1, 3))
MINIMUM = stepped((0, 1, 1, 1), minimum=30)
GRACE = stepped((0, 1, 1, 1), fee=5, grace=10)
INTERNATIONAL = stepped((0, 60, 25, 60), (60, 60, 15, 60), fee=10, minimum=40, grace=3)


@pytest.mark.parametrize(
    ("rate", "costs"),
    [
        (FULL_MINUTES, {0: 12, 1: 12, 60: 12, 61: 24, 120: 24, 3600: 720}),
        (HALF_THEN_SIX, {0: 30, 1: 30, 30: 30, 31: 36, 36: 36, 37: 42, 60: 60, 61: 66}),
        (BY_SECOND, {0: 52, 1: 52, 2: 53, 3: 55, 60: 140, 61: 142}),
        (FREE_FIRST_MINUTE, {0: 0, 60: 0, 61: 1, 66: 1, 67: 2, 120: 10}),
        (PROGRESSIVE, {1: 30, 180: 90, 181: 110, 600: 230, 601: 240, 3600: 730}),
        (THIRDS, {0: 1, 3: 1, 4: 2, 300: 100, 301: 101}),
        (MINIMUM, {0: 30, 30: 30, 31: 31}),
        (GRACE, {0: 0, 10: 0, 11: 16}),
        (INTERNATIONAL, {3: 0, 4: 40, 60: 40, 61: 50, 120: 50, 121: 65}),
        (flat_rate(price=0), {0: 0, 100_000: 0}),
        (flat_rate(connect_fee=7, price=2, increment=30), {0: 9, 30: 9, 31: 11}),
    ],
)
def test_tariff_sheets_cost_what_they_say(rate, costs):
    assert {used: price(rate, used, NOON) for used in costs} == costs
    assert {used: slow_price(rate, used, NOON) for used in costs} == costs


PEAK = Window(frozenset(range(5)), 8 * 60, 18 * 60)
NIGHT = Window(frozenset(range(7)), 22 * 60, 6 * 60)
WEEKEND = Window(frozenset({5, 6, HOLIDAY}))
EARLY = Window(frozenset(range(7)), 60, 2 * 60)


def timed(zone, *windows, price=1, increment=1, holidays=()):
    """Return a rate of 1 credit an increment, and of others in windows."""
    own = tuple((window, Prices(steps=(Step(0, increment, cost, increment),))) for window, cost in windows)
    off = Prices(steps=(Step(0, increment, price, increment),))
    return Rate(prices=off, windows=own, calendar=Calendar(zone, frozenset(holidays)))


def wall(zone, *parts, fold=0):
    return datetime(*parts, fold=fold, tzinfo=ZoneInfo(zone)).astimezone(UTC)


BERLIN, PAULO = "Europe/Berlin", "America/Sao_Paulo"


@pytest.mark.parametrize(
    ("rate", "at", "used", "cost"),
    [
        # 30 s before the peak begins and 30 s in it; and after its end
        (timed(BERLIN, (PEAK, 3)), wall(BERLIN, 2026, 11, 2, 7, 59, 30), 60, 30 + 90),
        (timed(BERLIN, (PEAK, 3)), wall(BERLIN, 2026, 11, 2, 17, 59, 30), 60, 90 + 30),
        # an increment of a minute that begins before 18:00 counts whole at its own price
        (timed(BERLIN, (PEAK, 3), increment=60), wall(BERLIN, 2026, 11, 2, 17, 59, 30), 90, 3 + 1),
        # a night window of Monday goes on after midnight; a Saturday begins at midnight
        (timed(BERLIN, (NIGHT, 2)), wall(BERLIN, 2026, 11, 2, 23, 59, 30), 60, 120),
        (timed(BERLIN, (WEEKEND, 0)), wall(BERLIN, 2026, 11, 6, 23, 59, 30), 60, 30),
        # a holiday is no Friday
        (timed(BERLIN, (PEAK, 3), (WEEKEND, 0)), wall(BERLIN, 2026, 12, 25, 12), 60, 180),
        (timed(BERLIN, (PEAK, 3), (WEEKEND, 0), holidays=[date(2026, 12, 25)]), wall(BERLIN, 2026, 12, 25, 12), 60, 0),
        (timed(BERLIN, (PEAK, 3), holidays=[date(2026, 12, 25)]), wall(BERLIN, 2026, 12, 25, 12), 60, 60),
        # the hour from 02:00 is left out: 01:59:30 is followed by 03:00
        (timed(BERLIN, (EARLY, 2)), wall(BERLIN, 2026, 3, 29, 1, 59, 30), 60, 60 + 30),
        # 02:00 to 03:00 comes twice, so 01:00-02:00 is one hour, and two hours lie between it and 03:00
        (timed(BERLIN, (EARLY, 2)), wall(BERLIN, 2026, 10, 25, 1, 30), 3 * 3600, 2 * 1800 + 9000),
        # São Paulo: midnight is left out, 23:59:59 is followed by 01:00
        (timed(PAULO, (EARLY, 2)), wall(PAULO, 2018, 11, 3, 23, 59, 30), 60, 30 + 60),
        # and the hour before midnight comes twice: a night window is two hours longer than its clock says
        (timed(PAULO, (NIGHT, 2)), wall(PAULO, 2019, 2, 16, 21, 30), 4 * 3600, 1800 + 2 * (3 * 3600 + 1800)),
    ],
)
def test_talk_is_priced_by_the_wall_clock(rate, at, used, cost):
    assert price(rate, used, at) == slow_price(rate, used, at) == cost


# -- laws --------------------------------------------------------------------------------------------------------------

units = st.integers(0, 400) | st.integers(0, 2000)
budgets = st.integers(-5, 300) | st.integers(0, 20_000)


@given(any_rates, units, moments)
def test_a_price_is_the_slow_models(rate, used, at):
    assert price(rate, used, at) == slow_price(rate, used, at)


@given(window_rates, moments)
def test_prices_are_those_on_the_wall(rate, at):
    assert prices_at(rate, at) == slow_prices(rate, at)
    assert price(rate_at(rate, at), 1, at) == price(Rate(prices=slow_prices(rate, at)), 1, at)


@given(any_rates, moments, st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 7200)), min_size=1, max_size=4))
def test_a_rate_throughout_prices_the_same(rate, at, uses):
    for since, seconds in uses:  # the second one asks of what the first one remembered
        begun = at + timedelta(milliseconds=since)
        steady = rate_throughout(rate, begun, seconds)
        for used in (0, 1, seconds // 2, seconds):
            costs = [sum(each.credits for each in list_pieces(one, used, begun)) for one in (rate, steady)]
            assert costs[0] == costs[1]


def test_remembered_prices_end_at_their_second():
    """Also for a use that begins within the second after, and is charged for 0 units of talk."""
    change = datetime(2026, 11, 2, 8, tzinfo=UTC)
    dear = Prices(steps=(Step(0, 60, 9, 60),))
    rate = Rate(windows=((Window(frozenset({0}), 8 * 60, 18 * 60), dear),))
    assert price(rate, 5, change - timedelta(seconds=10.3)) == 5
    assert price(rate, 0, change + timedelta(seconds=0.2)) == 9
    assert price(rate, 9, change - timedelta(seconds=0.1)) == 1 + 9


@given(any_rates, units, units, moments)
def test_a_price_never_falls_with_use(rate, used, more, at):
    assert 0 <= price(rate, used, at) <= price(rate, used + more, at)


@given(any_rates, budgets, moments, st.integers(0, 7200))
def test_credit_buys_all_it_pays_for(rate, available, at, most):
    bought = affordable(rate, available, at, most)
    grace = prices_at(rate, at).grace
    assert 0 <= bought <= most
    if bought == 0:
        assert most == 0 or available < price(rate, grace + 1, at)
    else:
        assert price(rate, bought, at) <= available
        if bought < most:
            assert available < price(rate, bought + next_step(rate, bought, at), at)
            assert available < price(rate, bought + 1, at)


@given(any_rates, units, moments)
def test_the_next_step_is_the_next_increment(rate, used, at):
    following = next(length for start, length, _ in slow_increments(rate, at) if start >= used)
    assert next_step(rate, used, at) == following


@given(any_rates, units, moments)
@example(INTERNATIONAL, 4, NOON)
def test_pieces_sum_to_the_price(rate, used, at):
    pieces = list_pieces(rate, used, at)
    assert sum(each.credits for each in pieces) == price(rate, used, at)
    assert all(each.credits >= 0 and each.exact >= 0 for each in pieces)
    use = [each for each in pieces if each.kind is PieceKind.USE]
    end = 0
    for each in use:
        assert each.start == end
        assert each.units % each.step.increment == 0
        end += each.units
    if not use:
        assert [each.kind for each in pieces] == [PieceKind.GRACE]
    else:
        assert use[-1].start < max(used, 1) <= end


def test_pieces_name_fee_use_and_minimum():
    fee, use, minimum = list_pieces(INTERNATIONAL, 4, NOON)
    assert (fee.kind, fee.credits) == (PieceKind.CONNECT_FEE, 10)
    assert (use.kind, use.start, use.units, use.step.price, use.credits) == (PieceKind.USE, 0, 60, 25, 25)
    assert (minimum.kind, minimum.credits) == (PieceKind.MINIMUM, 5)


def test_a_piece_names_its_window_and_moment():
    rate, at = timed(BERLIN, (PEAK, 3)), wall(BERLIN, 2026, 11, 2, 17, 59, 30)
    before, after = list_pieces(rate, 60, at)
    assert (before.window, before.units, before.credits, before.at) == (PEAK, 30, 90, at)
    assert (after.window, after.units, after.credits) == (None, 30, 30)
    assert after.at == wall(BERLIN, 2026, 11, 2, 18)


@given(plain_rates, st.integers(0, 10**12))
def test_a_long_use_takes_no_loop(rate, used):
    last = rate.prices.steps[-1]
    assume(used >= last.start)
    grown = price(rate, used + last.per * last.increment, NOON) - price(rate, used, NOON)
    assert used <= rate.prices.grace or grown <= last.price * last.increment or rate.prices.minimum_charge


def test_grace_alone_is_no_reason_to_begin():
    assert affordable(GRACE, 15, NOON, 7200) == 0
    assert affordable(GRACE, 16, NOON, 7200) == 11
