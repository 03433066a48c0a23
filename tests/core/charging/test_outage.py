"""Who may call without the ledger, for how long, and what it may cost at most."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.catalogue.catalogue import Catalogue
from celcombiller.core.charging.outage import (
    Exposure,
    LedgerlessWish,
    OutageRule,
    OutageRules,
    grant_without_ledger,
    make_wish,
)
from celcombiller.core.charging.requests import Initiate
from celcombiller.core.errors import (
    Barred,
    BillerError,
    InsufficientBalance,
    NoRate,
    StoreUnavailable,
    SubscriberDisabled,
    TooManyCalls,
    UnknownSubscriber,
)
from celcombiller.core.model.calls import CallReport
from celcombiller.core.model.subscribers import Group, Level, Subscriber
from celcombiller.core.model.tariffs import Service, flat_rate
from celcombiller.core.rating.numbering import AS_DIALLED
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.subscribers.known_subscribers import KnownSubscribers

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
FLAT = (flat_rate(),)
BOUNDS = {"call_seconds_max": 600, "calls_max": 2, "credits_max": 100, "total_credits_max": 150}


def subscriber(number, **facts):
    facts = {"enabled": True, **facts}
    return Subscriber(
        number, f"user{number}", "", str(number), f"72400000000{number}", None, "", Level.SUBSCRIBER, **facts
    )


def known(*who, most=10, available=50):
    made = KnownSubscribers(most)
    for each in who:
        made.learn(each, available)
    return made


def request(caller=1001, called="5511", code=""):
    nothing = CallReport(answered=False, at=NOW)
    return Initiate("pbx1", "1.0", "a" * 16, "PJSIP/1", code, str(caller), called, False, nothing)


def wish(asked, who, *rules, default=None, groups=(), rates=FLAT):
    catalogue = Catalogue(settings={Service.VOICE: Tariff(rates)}, groups={each.id: each for each in groups})
    made = OutageRules(default or OutageRule(), rules)
    return make_wish(asked, who, catalogue, made, AS_DIALLED, max_call_seconds=7200, ring_seconds=40, now=NOW)


# -- the class of a number


@pytest.mark.parametrize(
    ("number", "on_net", "prefix"),
    [
        ("551199", False, "5511"),
        ("+551199", False, "5511"),
        ("5521", False, "+55"),
        ("49", False, ""),
        ("5511", True, "on-net"),
    ],
)
def test_the_longest_prefix_decides(number, on_net, prefix):
    rules = OutageRules(OutageRule("default"), tuple(OutageRule(each) for each in ("", "+55", "5511", "on-net")))
    assert rules.find(number, on_net=on_net).prefix == prefix


def test_numbers_without_rule_follow_the_default():
    rules = OutageRules(OutageRule("default"), (OutageRule("55"), OutageRule("on-net")))
    assert rules.find("49", on_net=False).prefix == "default"


# -- who may call


@pytest.mark.parametrize(
    ("caller", "facts", "group", "refusal"),
    [
        (1001, {"enabled": False}, None, SubscriberDisabled),
        (1001, {"barred": ("55",)}, None, Barred),
        (1001, {"group_id": 1}, Group(1, "poor", barred=("5",)), Barred),
        (1001, {"calls_max": 0}, None, TooManyCalls),
        (1009, {}, None, UnknownSubscriber),
    ],
)
def test_what_is_known_of_a_caller_counts(caller, facts, group, refusal):
    rule = OutageRule("55", allow=True, unknown_callers=False, **BOUNDS)
    with pytest.raises(refusal):
        wish(request(caller), known(subscriber(1001, **facts)), rule, groups=[group] if group else ())


def test_a_known_fact_refuses_also_on_failure():
    with pytest.raises(SubscriberDisabled):
        wish(request(), known(subscriber(1001, enabled=False)), default=OutageRule(allow=True))


def test_a_denied_class_refuses():
    with pytest.raises(StoreUnavailable):
        wish(request(), known(subscriber(1001)), OutageRule("55"), default=OutageRule(allow=True))


def test_numbers_without_price_follow_on_failure_only():
    rule = OutageRule("55", allow=True, **BOUNDS)
    with pytest.raises(NoRate):
        wish(request(), known(subscriber(1001)), rule, rates=())
    assert wish(request(), known(subscriber(1001)), default=OutageRule(allow=True), rates=()).rate is None


def test_a_known_callee_is_on_net():
    rule = OutageRule("on-net", allow=True, **BOUNDS)
    assert wish(request(called="1002"), known(subscriber(1001), subscriber(1002)), rule).callee.clid == "1002"


def test_group_limits_hold_without_the_ledger():
    group = Group(1, "short", call_seconds_max=30, call_cost_max=20)
    made = wish(request(), known(subscriber(1001, group_id=1)), OutageRule("", allow=True, **BOUNDS), groups=[group])
    assert (made.seconds_max, made.balance) == (30, 20)


# -- for how long


def simple(**facts):
    facts = {"balance": None, "seconds_max": 600, "rate": flat_rate(), **facts}
    return LedgerlessWish("me", None, OutageRule("", allow=True, **BOUNDS), at=NOW, ring_seconds=40, **facts)


@pytest.mark.parametrize(
    ("facts", "exposures", "granted"),
    [
        ({}, [], (100, 100)),
        ({"balance": 30}, [], (30, 30)),
        ({"balance": 30}, [Exposure("me", 10, is_open=False)], (20, 20)),
        ({"seconds_max": 20}, [], (20, 20)),
        ({}, [Exposure("me", 60, is_open=True)], (40, 40)),
        ({}, [Exposure("others", 120, is_open=True)], (30, 30)),
        ({"rate": flat_rate(price=0)}, [Exposure("me", 100, is_open=False)], (600, 0)),
        ({"rate": None}, [Exposure("me", 100, is_open=False)], (600, 0)),
    ],
)
def test_a_call_is_limited_by_what_is_exposed(facts, exposures, granted):
    grant = grant_without_ledger(simple(**facts), exposures)
    assert (grant.seconds, grant.credits) == granted


@pytest.mark.parametrize(
    ("facts", "exposures", "refusal"),
    [
        ({"balance": 0}, [], InsufficientBalance),
        ({"balance": -5}, [], InsufficientBalance),
        ({}, [Exposure("me", 100, is_open=False)], StoreUnavailable),
        ({}, [Exposure("others", 150, is_open=False)], StoreUnavailable),
        ({}, [Exposure("me", 1, is_open=True)] * 2, TooManyCalls),
    ],
)
def test_a_call_beyond_its_limit_is_refused(facts, exposures, refusal):
    with pytest.raises(refusal):
        grant_without_ledger(simple(**facts), exposures)


PRICES = st.builds(flat_rate, connect_fee=st.integers(0, 20), price=st.integers(0, 9), increment=st.integers(1, 60))
CALLS = st.lists(
    st.tuples(st.sampled_from("abc"), PRICES, st.integers(1, 600), st.none() | st.integers(-5, 80)), max_size=12
)


@given(CALLS)
def test_no_exposure_exceeds_its_limit(calls):
    """However many calls are let go one after the other, each caller and all together stay within their limits."""
    exposures, balances = [], {}
    for caller, rate, seconds_max, given_balance in calls:
        balance = balances.setdefault(caller, given_balance)
        rule = OutageRule("", allow=True, **BOUNDS)
        asked = LedgerlessWish(caller, None, rule, seconds_max, rate, balance, NOW, 40)
        try:
            grant = grant_without_ledger(asked, exposures)
        except BillerError:
            continue
        assert 1 <= grant.seconds <= seconds_max
        exposures.append(Exposure(caller, grant.credits, is_open=True))
        for each in "abc":
            own = [exposure for exposure in exposures if exposure.caller == each]
            spent = sum(exposure.credits for exposure in own)
            assert spent <= 100
            assert spent <= max(0, 100 if balances.get(each) is None else balances[each])
            assert len(own) <= 2
        assert sum(each.credits for each in exposures) <= 150


# -- what is remembered


@given(
    st.lists(st.tuples(st.sampled_from(["learn", "use", "forget"]), st.integers(1, 9), st.integers(1, 4)), max_size=40)
)
def test_memory_is_bounded_and_finds_the_newest(steps):
    made, newest = known(most=4), {}
    for step, number, revision in steps:
        if step == "learn":
            who = subscriber(number, tariff_id=revision)
            made.learn(who, revision)
            newest[number] = who
        elif step == "use":
            made.use(number)
        else:
            made.forget(number)
        assert len(made) <= 4
        for each in range(1, 10):
            found = made.directory.find_callee(str(each))
            assert (found is not None) == (each in made)
            if found is not None:
                assert found == newest[each]
                assert made.available(found) == newest[each].tariff_id


def test_who_was_used_longest_ago_is_forgotten():
    made = known(subscriber(1), subscriber(2), most=2)
    made.use(1)
    made.learn(subscriber(3), 0)
    assert [*made] == [1, 3]


def test_an_identity_passed_on_is_found():
    made = known(subscriber(1))
    made.learn(Subscriber(2, "user2", "", "1", "2", None, "", Level.SUBSCRIBER, enabled=True), 0)
    made.learn(Subscriber(1, "user1", "", "9", "1", None, "", Level.SUBSCRIBER, enabled=True), 0)
    assert [made.directory.find_callee(each).id for each in ("1", "9")] == [2, 1]
