"""Who pays for a use: bundles in their order, then the balance."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.tariffs import Prices, Rate, Step, Window, flat_rate
from celcombiller.core.rating.bill import Pot, affordable_with, assign_runs, list_bill_pieces, make_bill, make_grant
from celcombiller.core.rating.pricing import PieceKind, list_pieces, price
from tests.core.rating.rates import any_rates as rates
from tests.core.rating.rates import moments, slow_increments, slow_prices

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)

amounts = st.integers(0, 300) | st.just(10_000)
kinds = st.sampled_from([BundleKind.SECONDS, BundleKind.MONEY])
pots = st.lists(st.tuples(kinds, amounts), max_size=3).map(
    lambda made: [Pot(number, kind, amount) for number, (kind, amount) in enumerate(made, 1)]
)


def test_a_bundle_pays_first_and_then_the_balance():
    bill = make_bill(flat_rate(price=2), 50, AT, [Pot(7, BundleKind.SECONDS, 30)])
    assert (bill.balance_amount, bill.takes) == (40, {7: 30})


def test_a_bundled_first_increment_saves_the_fee():
    rate = flat_rate(connect_fee=10, price=60, increment=60)
    assert make_bill(rate, 61, AT, [Pot(7, BundleKind.SECONDS, 60)]).balance_amount == 60
    assert make_bill(rate, 61, AT, [Pot(7, BundleKind.SECONDS, 59)]).balance_amount == 130


def test_free_increments_are_taken_from_no_bundle():
    rate = Rate("", "", Prices(steps=(Step(0, 60, 0, 60), Step(60, 1, 1, 1))))
    bill = make_bill(rate, 70, AT, [Pot(7, BundleKind.SECONDS, 30)])
    assert (bill.balance_amount, bill.takes) == (0, {7: 10})


def test_money_pays_after_seconds_whatever_their_order():
    bill = make_bill(flat_rate(), 50, AT, [Pot(1, BundleKind.MONEY, 5), Pot(2, BundleKind.SECONDS, 30)])
    assert (bill.balance_amount, bill.takes) == (15, {1: 5, 2: 30})


@given(rates, st.integers(0, 4000), pots)
def test_no_bundle_pays_more_than_it_has(rate, used, given_pots):
    bill = make_bill(rate, used, AT, given_pots)
    assert bill.balance_amount >= 0
    assert all(0 <= bill.takes.get(pot.account_id, 0) <= pot.amount for pot in given_pots)


@given(rates, st.integers(0, 4000), st.integers(0, 300), pots)
def test_longer_use_takes_no_less_of_anything(rate, used, more, given_pots):
    one, other = (make_bill(rate, units, AT, given_pots) for units in (used, used + more))
    assert one.balance_amount <= other.balance_amount
    assert all(one.takes.get(pot.account_id, 0) <= other.takes.get(pot.account_id, 0) for pot in given_pots)


@given(rates, st.integers(0, 4000), pots)
def test_every_increment_is_paid_once(rate, used, given_pots):
    runs = [run for run, _ in assign_runs(rate, max(used, 1), AT, given_pots)]
    assert runs[0].start == 0
    assert all(one.end == other.start for one, other in pairwise(runs))
    assert runs[-1].end - runs[-1].step.increment < max(used, 1) <= runs[-1].end


@given(rates, st.integers(0, 4000))
def test_without_bundles_the_bill_is_the_price(rate, used):
    empty = [Pot(1, BundleKind.SECONDS, 0), Pot(2, BundleKind.MONEY, 0)]
    assert make_bill(rate, used, AT).balance_amount == price(rate, used, AT)
    assert make_bill(rate, used, AT, empty) == make_bill(rate, used, AT)


@given(rates, pots, st.integers(-50, 2000), st.integers(1, 4000))
def test_what_is_affordable_is_paid_and_no_more(rate, given_pots, available, most):
    units = affordable_with(rate, given_pots, available, AT, most)
    assert 0 <= units <= most
    if units:
        assert make_bill(rate, units, AT, given_pots).balance_amount <= max(available, 0)
        if units < most:
            assert make_bill(rate, units + 1, AT, given_pots).balance_amount > max(available, 0)


def each_second(at, wait):
    """All moments of a wait that can differ: prices change at whole seconds."""
    return [at, *(at.replace(microsecond=0) + timedelta(seconds=each) for each in range(1, wait + 1))]


@given(rates, pots, st.integers(-50, 2000), moments, st.integers(0, 4000), st.integers(0, 60))
def test_a_grant_is_paid_whenever_it_is_answered(rate, given_pots, available, at, most, wait):
    units, held = make_grant(rate, given_pots, available, at, most, wait)
    waited = each_second(at, wait)
    assert units == min(affordable_with(rate, given_pots, available, each, most) for each in waited)
    for answered_at in waited if units else ():
        bill = make_bill(rate, units, answered_at, given_pots)
        assert bill.balance_amount <= held.balance_amount <= max(available, 0)
        assert all(amount <= held.takes[account_id] for account_id, amount in bill.takes.items())


WEEK = frozenset(range(8))
EIGHT = datetime(2026, 11, 2, 8, tzinfo=UTC)


def flat(price, *, fee=0, increment=1):
    return Prices(fee, (Step(0, increment, price, increment),))


@pytest.mark.parametrize(
    ("night", "windows", "dearest"),
    [
        (flat(1, fee=20), [(Window(WEEK, 480, 1080), flat(2))], 20 + 1 + 2 * 59),
        (flat(1), [(Window(WEEK, 480, 481), flat(9))], 9 * 60),
        (flat(1), [(Window(WEEK, 480, 1080), flat(2))], 2 * 60),
        (flat(2), [(Window(WEEK, 480, 1080), flat(1))], 2 * 30 + 30),
    ],
    ids=["a fee that ends", "a dear minute", "dearer", "cheaper"],
)
def test_the_dearest_moment_of_ringing_is_held(night, windows, dearest):
    rate = Rate(prices=night, windows=tuple(windows))
    at = EIGHT - timedelta(seconds=30)
    _, held = make_grant(rate, [], 10_000, at, 60, 40)
    assert held.balance_amount == max(make_bill(rate, 60, each, []).balance_amount for each in each_second(at, 40))
    assert held.balance_amount == dearest


def slow_bill(rate, used, at, given_pots):
    """Return what each pot and the balance pay, increment by increment."""
    first = slow_prices(rate, at)
    if first.grace and used <= first.grace:
        return {}, 0
    queue = [[pot.account_id, pot.amount] for pot in given_pots if pot.kind is not BundleKind.MONEY]
    takes, credit, least = {}, Fraction(0), 0
    for start, length, share in slow_increments(rate, at):
        if start > 0 and start >= used:
            break
        while share and queue and queue[0][1] < length:
            queue.pop(0)
        if share and queue:
            queue[0][1] -= length
            takes[queue[0][0]] = takes.get(queue[0][0], 0) + length
            continue
        credit += share
        if start == 0:
            credit, least = credit + first.connect_fee, first.minimum_charge
    due = max(ceil(credit), least)
    for pot in given_pots:
        if pot.kind is BundleKind.MONEY:
            takes[pot.account_id] = min(due, pot.amount)
            due -= takes[pot.account_id]
    return {account: amount for account, amount in takes.items() if amount}, due


@given(rates, st.integers(0, 400), moments, pots)
def test_a_bill_is_the_slow_models(rate, used, at, given_pots):
    bill = make_bill(rate, used, at, given_pots)
    assert (bill.takes, bill.balance_amount) == slow_bill(rate, used, at, given_pots)


@given(rates, st.integers(0, 400), moments, pots)
def test_pieces_sum_to_what_was_paid(rate, used, at, given_pots):
    bill, pieces = make_bill(rate, used, at, given_pots), list_bill_pieces(rate, used, at, given_pots)
    of_money = {pot.account_id for pot in given_pots if pot.kind is BundleKind.MONEY}
    by_money = sum(amount for account, amount in bill.takes.items() if account in of_money)
    assert sum(each.credits for each in pieces) == bill.balance_amount + by_money
    for account in bill.takes.keys() - of_money:
        assert sum(each.units for each in pieces if each.account_id == account) == bill.takes[account]
    assert {each.account_id for each in pieces} <= {None, *bill.takes.keys() - of_money}
    use = [each for each in pieces if each.kind is PieceKind.USE]
    assert all(one.start + one.units == other.start for one, other in pairwise(use))
    if not given_pots:
        assert pieces == list_pieces(rate, used, at)
