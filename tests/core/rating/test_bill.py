"""Who pays for a use: bundles in their order, then the balance."""

from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.tariffs import Prices, Rate, Step, flat_rate
from celcombiller.core.rating.bill import Pot, affordable_with, assign_runs, make_bill
from celcombiller.core.rating.pricing import price
from tests.core.rating.rates import any_rates as rates

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)

amounts = st.integers(0, 300)
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
