"""Calls in slices: what a slice holds, how calls share a balance, and that slices cost what one hold would."""

from collections import Counter
from dataclasses import replace

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec import structs

from celcombiller.core.charging.requests import Update
from celcombiller.core.charging.slices import LEAST_SHARE_SECONDS, first_slice, make_slice
from celcombiller.core.errors import InsufficientBalance, SharedBalance, UnknownCall
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.calls import CallEnd, CallGrant, CallState, CallUpdate, RenewalReason
from celcombiller.core.rating.bill import Pot, make_bill, make_grant
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from tests.core.ledger.test_book import NOW, TERMS, ask, credit, database, ended, initiate, proved, voice
from tests.core.rating.rates import any_rates, moments
from tests.support.bundles import give
from tests.support.properties import share

SLICE = 60


@pytest.fixture
def engine(tmp_path):
    made = database(tmp_path / "slices.sqlite")
    yield made
    made.dispose()


def begin(uniqueid="1.0", slice_seconds=SLICE, **facts):
    return initiate(uniqueid, slice_seconds=slice_seconds, **facts)


def update(uniqueid="1.0", *, granted, used, slice_seconds=SLICE, **facts):
    return Update("pbx1", uniqueid, 0, granted, used, NOW, slice_seconds, **facts)


def renewals(engine):
    columns = ("reason", "seconds_before", "seconds_after", "held_before", "held_after")
    with engine.begin() as tx:
        query = sa.select(*(tables.call_renewal.c[name] for name in columns)).order_by(tables.call_renewal.c.id)
        return [tuple(row) for row in tx.execute(query)]


# -- one call --------------------------------------------------------------------------------------------------------


def test_a_call_holds_its_slice_only(engine):
    ask(engine, credit(1000))
    (grant,) = ask(engine, begin())
    assert SLICE // 2 <= grant.seconds <= SLICE
    assert voice(engine).held == grant.seconds
    proved(engine)


def test_a_renewal_holds_the_next_slice(engine):
    ask(engine, credit(1000))
    (grant,) = ask(engine, begin())
    (renewed,) = ask(engine, update(granted=grant.seconds, used=20))
    assert (renewed.call.granted_seconds, renewed.is_final) == (20 + SLICE, False)
    assert voice(engine).held == 20 + SLICE
    assert renewals(engine) == [("renewal", grant.seconds, 80, grant.seconds, 80)]
    (settled,) = ask(engine, ended(talk_ms=70_000))
    assert (settled.call.cost, voice(engine).posted, voice(engine).held) == (70, 930, 0)
    proved(engine)


def test_the_last_slice_is_what_credit_pays(engine):
    ask(engine, credit(70))
    (grant,) = ask(engine, begin())
    (last,) = ask(engine, update(granted=grant.seconds, used=20))
    assert (last.call.granted_seconds, last.is_final) == (70, True)
    (none,) = ask(engine, update(granted=70, used=69))
    assert (none.call.granted_seconds, none.is_final) == (70, True)


def test_a_top_up_lengthens_the_last_slice(engine):
    ask(engine, credit(40), begin())
    ask(engine, credit(30, "top-up"))
    (longer,) = ask(engine, update(granted=40, used=39, reason=RenewalReason.CREDIT))
    assert longer.call.granted_seconds == 70
    assert renewals(engine)[-1][0] == "credit"


@pytest.mark.parametrize("granted", [30, 79, 81])
def test_an_update_of_another_grant_changes_nothing(engine, granted):
    ask(engine, credit(1000))
    (grant,) = ask(engine, begin())
    ask(engine, update(granted=grant.seconds, used=20))
    (answer,) = ask(engine, update(granted=granted, used=50))
    assert answer.call.granted_seconds == 80
    assert len(renewals(engine)) == 1


def test_two_updates_at_once_renew_once(engine):
    ask(engine, credit(1000))
    (grant,) = ask(engine, begin())
    first, second = ask(engine, *[update(granted=grant.seconds, used=20)] * 2)
    assert first.call == second.call
    assert len(renewals(engine)) == 1


def test_a_renewal_and_the_end_together_settle(engine):
    ask(engine, credit(1000))
    (grant,) = ask(engine, begin())
    _, settled = ask(engine, update(granted=grant.seconds, used=20), ended(talk_ms=75_000))
    assert (settled.call.cost, voice(engine).posted, voice(engine).held) == (75, 925, 0)
    proved(engine)


def test_a_call_that_is_over_is_not_renewed(engine):
    ask(engine, credit(1000))
    (grant,) = ask(engine, begin())
    ask(engine, ended(talk_ms=5000))
    (answer,) = ask(engine, update(granted=grant.seconds, used=20))
    assert (answer.is_final, answer.call.state) == (True, CallState.SETTLED)
    assert renewals(engine) == []
    (unknown,) = ask(engine, update("9.9", granted=1, used=1))
    assert isinstance(unknown, UnknownCall)


def test_a_call_is_renewed_up_to_its_most(engine):
    terms = replace(TERMS, max_call_seconds=100)
    ask(engine, credit(1000))
    (grant,) = ask(engine, begin(), terms=terms)
    (last,) = ask(engine, update(granted=grant.seconds, used=50), terms=terms)
    assert (last.call.granted_seconds, last.is_final) == (100, True)


def test_a_fallen_limit_is_told_before_it_acts(engine):
    ask(engine, credit(1000))
    (grant,) = ask(engine, begin(slice_seconds=None))
    lower = replace(TERMS, max_call_seconds=100)
    (told,) = ask(engine, update(granted=grant.seconds, used=50), terms=lower)
    assert (told.at_most, told.call.granted_seconds) == (100, grant.seconds)
    (done,) = ask(engine, update(granted=grant.seconds, used=50, at_most=100, reason=RenewalReason.LIMIT), terms=lower)
    assert (done.call.granted_seconds, voice(engine).held) == (100, 100)
    proved(engine)


@pytest.mark.parametrize(("at_most", "granted"), [(30, 30), (5, 20), (0, 20), (500, 100)])
def test_a_shortened_call_keeps_what_it_used(engine, at_most, granted):
    ask(engine, credit(100), begin(slice_seconds=None))
    (answer,) = ask(engine, update(granted=100, used=20, at_most=at_most))
    assert (answer.call.granted_seconds, voice(engine).held) == (granted, granted)
    proved(engine)


@pytest.mark.parametrize(
    ("change", "end"),
    [
        (lambda tx: subscriber_records.change(tx, "u1001", {"enabled": False}, NOW), CallEnd.DISABLED),
        (lambda tx: subscriber_records.delete(tx, "u1001", NOW), CallEnd.DELETED),
        (lambda tx: subscriber_records.change(tx, "u1001", {"barred": "1"}, NOW), CallEnd.BARRED),
    ],
)
def test_a_call_must_end_with_its_right(engine, change, end):
    ask(engine, credit(1000))
    (grant,) = ask(engine, begin())
    with engine.begin() as tx:
        change(tx)
    (answer,) = ask(engine, update(granted=grant.seconds, used=20))
    assert (answer.end, answer.call.granted_seconds) == (end, grant.seconds)


# -- bundles ---------------------------------------------------------------------------------------------------------


def test_slices_take_from_bundles_before_the_balance(engine):
    ask(engine, credit(100))
    account = give(engine, BundleKind.SECONDS, 70)
    (grant,) = ask(engine, begin())
    (renewed,) = ask(engine, update(granted=grant.seconds, used=20))
    assert (renewed.call.granted_seconds, voice(engine).held) == (80, 10)
    (settled,) = ask(engine, ended(talk_ms=75_000))
    assert (settled.call.cost, settled.call.bundles) == (5, (account,))
    proved(engine)


def test_a_bundle_bought_meanwhile_pays_on(engine):
    ask(engine, credit(40), begin())
    account = give(engine, BundleKind.SECONDS, 30)
    (longer,) = ask(engine, update(granted=40, used=39))
    assert (longer.call.granted_seconds, longer.call.bundles) == (70, (account,))
    (settled,) = ask(engine, ended(talk_ms=70_000))
    assert settled.call.cost == 40
    proved(engine)


# -- several calls ---------------------------------------------------------------------------------------------------


def test_a_second_call_gets_a_fair_part(engine):
    ask(engine, credit(100))
    (first,) = ask(engine, begin("1.0"))
    (second,) = ask(engine, begin("2.0"))
    left = 100 - first.seconds
    assert second.seconds == max(left // 2, LEAST_SHARE_SECONDS)
    proved(engine)


def test_shares_do_not_become_ever_smaller(engine):
    ask(engine, credit(36 + 15))
    ask(engine, begin("1.0", slice_seconds=None, called="1002"), terms=replace(TERMS, max_call_seconds=36))
    (second,) = ask(engine, begin("2.0"))
    assert second.seconds == LEAST_SHARE_SECONDS
    (third,) = ask(engine, begin("3.0"))
    assert third.seconds == 5


@pytest.mark.parametrize(("slice_seconds", "error"), [(SLICE, SharedBalance), (None, InsufficientBalance)])
def test_a_call_without_a_part_says_so(engine, slice_seconds, error):
    ask(engine, credit(50), begin("1.0", slice_seconds=None))
    (refused,) = ask(engine, begin("2.0", slice_seconds=slice_seconds))
    assert type(refused) is error
    assert refused.code == "NO_CREDIT"


def test_who_has_no_other_call_shares_nothing(engine):
    (refused,) = ask(engine, begin())
    assert type(refused) is InsufficientBalance


def test_the_room_of_a_shortened_call_is_granted(engine):
    ask(engine, credit(100), begin("1.0", slice_seconds=None))
    ask(engine, update("1.0", granted=100, used=10, at_most=55, reason=RenewalReason.SHARING))
    (second,) = ask(engine, begin("2.0"))
    assert second.seconds >= 45 // 2
    proved(engine)


# -- the laws --------------------------------------------------------------------------------------------------------


@given(st.text(), st.integers(1, 10_000))
def test_a_first_slice_is_half_at_least(reference, slice_seconds):
    seconds = first_slice(reference, slice_seconds)
    assert slice_seconds - slice_seconds // 2 <= seconds <= slice_seconds
    assert seconds == first_slice(reference, slice_seconds)


def test_first_slices_are_spread_evenly():
    spread = Counter(first_slice(f"call:pbx1:1795387479.{number}:0", 300) // 15 for number in range(15_000))
    assert len(spread) == 11
    assert max(count for place, count in spread.items() if place < 20) < 1.2 * 15_000 / 10


pots = st.lists(
    st.tuples(st.sampled_from([BundleKind.SECONDS, BundleKind.MONEY]), st.integers(0, 400)), max_size=3
).map(lambda rows: [Pot(number, *row) for number, row in enumerate(rows)])


@given(any_rates, pots, st.integers(0, 2000), moments, st.integers(1, 600), st.lists(st.integers(1, 200), max_size=6))
def test_slices_cost_what_one_hold_would(rate, all_pots, balance, at, most, slices):
    """Each slice is affordable, none is beyond one hold, and the talk of all costs what it costs at once."""
    whole, _ = make_grant(rate, all_pots, balance, at, most, 0)
    granted, bill, used = 0, make_bill(rate, 0, at, all_pots), 0
    for seconds in slices:
        wanted = min(most, granted + seconds)
        got, bill_of_slice = make_slice(rate, all_pots, at, wanted, 0, spendable=balance, granted=granted)
        if got <= granted:
            break
        granted, bill = got, bill_of_slice
        assert bill.balance_amount <= balance
        assert all(bill.takes.get(pot.account_id, 0) <= pot.amount for pot in all_pots)
    assert granted <= whole
    if granted:
        held = [
            structs.replace(pot, amount=bill.takes[pot.account_id]) for pot in all_pots if pot.account_id in bill.takes
        ]
        for used in (granted, granted // 2 + 1):
            assert make_bill(rate, used, at, held) == make_bill(rate, used, at, all_pots)


class SharingMachine(RuleBasedStateMachine):
    """Calls of one subscriber begin, are renewed, shortened and end in any order, with credit in between.

    Each talks as long as its channel's limit lets it: that is never longer than what the ledger holds for it.
    """

    @initialize(credit_first=st.integers(0, 300))
    def start(self, credit_first):
        self.engine, self.number, self.talks = database(), 0, {}
        self.credit(credit_first)

    def teardown(self):
        self.prove()
        self.engine.dispose()

    @rule()
    def prove(self):
        proved(self.engine)

    @rule(value=st.integers(0, 120))
    def credit(self, value):
        self.number += 1
        ask(self.engine, credit(value, f"r{self.number}"))

    @rule(slice_seconds=st.sampled_from([None, 2, 20, 60]))
    def begin_call(self, slice_seconds):
        self.number += 1
        (answer,) = ask(self.engine, begin(f"{self.number}.0", slice_seconds))
        if isinstance(answer, CallGrant):
            self.talks[f"{self.number}.0"] = (0, answer.seconds)
        else:
            assert isinstance(answer, InsufficientBalance)
            assert voice(self.engine).available == 0

    @rule(data=st.data(), seconds=st.integers(1, 50))
    def talk(self, data, seconds):
        if self.talks:
            uniqueid = data.draw(st.sampled_from(sorted(self.talks)))
            used, limit = self.talks[uniqueid]
            self.talks[uniqueid] = (min(limit, used + seconds), limit)

    @rule(data=st.data(), slice_seconds=st.integers(0, 90), again=st.booleans())
    def renew(self, data, slice_seconds, again):
        if self.talks:
            uniqueid = data.draw(st.sampled_from(sorted(self.talks)))
            used, limit = self.talks[uniqueid]
            asked = update(uniqueid, granted=limit, used=used, slice_seconds=slice_seconds)
            answer, *_ = ask(self.engine, *[asked] * (1 + again))
            assert isinstance(answer, CallUpdate)
            assert answer.call.granted_seconds >= limit
            self.talks[uniqueid] = (used, answer.call.granted_seconds)

    @rule(data=st.data(), seconds=st.integers(0, 90))
    def shorten(self, data, seconds):
        if self.talks:
            uniqueid = data.draw(st.sampled_from(sorted(self.talks)))
            used, limit = self.talks[uniqueid]
            at_most = max(used, min(limit, seconds), 1)
            asked = update(uniqueid, granted=limit, used=used, at_most=at_most, reason=RenewalReason.SHARING)
            (answer,) = ask(self.engine, asked)
            assert answer.call.granted_seconds == at_most
            self.talks[uniqueid] = (used, at_most)

    @rule(data=st.data())
    def end(self, data):
        if self.talks:
            uniqueid = data.draw(st.sampled_from(sorted(self.talks)))
            used, _ = self.talks.pop(uniqueid)
            (settled,) = ask(self.engine, ended(uniqueid, used * 1000))
            assert settled.call.cost == max(1, used)

    @invariant()
    def nothing_is_held_or_spent_twice(self):
        if hasattr(self, "engine"):
            account = voice(self.engine)
            assert account.held == sum(limit for _, limit in self.talks.values())
            assert account.posted >= account.held


TestSharing = SharingMachine.TestCase
TestSharing.settings = share(0.5)
