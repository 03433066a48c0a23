"""Fees: each period once, never below zero, paid later, waived, undone; who owes too long is suspended."""

from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.bundles import bundle_records, offers
from celcombiller.core.bundles.terms import BundleTerms
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy, Credit
from celcombiller.core.errors import InsufficientBalance, InvalidValue
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.model.bundles import UNLIMITED
from celcombiller.core.model.schedules import FeeState
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schedules import fee_periods, forecast, memberships, runs, schedule_records
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from tests.support.schedules import DAY, NOW, RULES, TODAY, go, plan, proved, subscriber

POLICY = ChargingPolicy(Tariff([Rate()]), external=True)


def credit(engine, username, value, now=NOW):
    with engine.begin() as tx:
        credit.number += 1
        request = Credit(username, Kind.VOICE, value, "web", f"id:{credit.number}")
        (made,) = process_batch(tx, POLICY, [request], now)
    assert not isinstance(made, Exception), made


credit.number = 0


def fee(engine, *, members=3, value=50, joined_on=TODAY, **facts):
    """Make a daily fee with some members, who have 100, 50 and 20 credits."""
    with engine.begin() as tx:
        usual = {"when_short": "retry", "count": 1000, "first_on": date(2026, 11, 1)}
        schedule = plan(tx, value=value, **usual | facts)
        for number in range(1, members + 1):
            who = subscriber(tx, number)
            memberships.join(tx, schedule, who.id, joined_on=joined_on, now=NOW)
    for number, value_ in zip(range(1, members + 1), (100, 50, 20), strict=False):
        credit(engine, f"u{number}", value_)
    return schedule


def voice(engine, username):
    with engine.begin() as tx:
        return balances(tx, subscriber_records.find(tx, username).id)[Kind.VOICE].posted


def periods(engine, username=None):
    with engine.begin() as tx:
        who = None if username is None else subscriber_records.find(tx, username).id
        return [each.period for each in reversed(fee_periods.list_all(tx, subscriber_id=who, limit=1000))]


def collect(engine, now=NOW):
    """Try all that can be paid, and suspend who owes too long, as the service does."""
    with engine.begin() as tx:
        found = fee_periods.collect(tx, fee_periods.list_collectable(tx, now, limit=100), now)
        fee_periods.cancel_orphans(tx, now)
        fee_periods.suspend_some(tx, now)
    return found


def is_suspended(engine, username):
    with engine.begin() as tx:
        return subscriber_records.find(tx, username).suspended


def test_a_run_takes_the_fee_once(engine):
    fee(engine)
    for _ in range(3):
        go(engine)
    assert [voice(engine, f"u{n}") for n in (1, 2, 3)] == [50, 0, 20]
    assert [(each.state, each.paid) for each in periods(engine)] == [("paid", 50), ("paid", 50), ("owed", 0)]
    with engine.begin() as tx:
        (run,) = runs.history(tx, limit=9)
        references = tx.execute(sa.select(tables.transfer.c.reference).where(tables.transfer.c.origin == "fee"))
        found = sorted(references.scalars())
    assert found == [f"fee:1:{each.subscriber_id}:{TODAY}" for each in periods(engine)[:2]]
    assert (run.credited, run.passed, run.failed) == (2, 0, 1)
    proved(engine)


@pytest.mark.parametrize(("when_short", "left", "paid"), [("retry", 20, 0), ("wait", 20, 0), ("part", 0, 20)])
def test_too_low_a_balance_stays_above_zero(engine, when_short, left, paid):
    fee(engine, when_short=when_short)
    go(engine)
    assert voice(engine, "u3") == left
    assert periods(engine, "u3")[0].paid == paid
    proved(engine)


@pytest.mark.parametrize("when_short", ["retry", "wait", "part"])
def test_a_topup_pays_what_is_owed(engine, when_short):
    fee(engine, when_short=when_short)
    go(engine)
    assert collect(engine) == []
    credit(engine, "u3", 40)
    (paid,) = collect(engine)
    assert (paid.period.state, voice(engine, "u3")) == (FeeState.PAID, 10)
    assert collect(engine) == []
    proved(engine)


def test_parts_are_taken_as_credit_comes(engine):
    fee(engine, when_short="part")
    go(engine)
    for _ in range(2):
        credit(engine, "u3", 10)
        collect(engine)
    (owed,) = periods(engine, "u3")
    assert (owed.paid, owed.parts, owed.left, voice(engine, "u3")) == (40, 3, 10, 0)
    proved(engine)
    credit(engine, "u3", 100)
    collect(engine)
    assert (periods(engine, "u3")[0].state, voice(engine, "u3")) == ("paid", 90)
    proved(engine)


def test_held_credit_is_not_taken(engine):
    fee(engine)
    with engine.begin() as tx:
        tx.execute(sa.update(tables.account).where(tables.account.c.posted == 100).values(held=60))
    go(engine)
    assert (periods(engine, "u1")[0].state, voice(engine, "u1")) == ("owed", 100)


def test_a_credit_limit_pays_no_fee(engine):
    fee(engine, when_short="part")
    with engine.begin() as tx:
        tx.execute(sa.update(tables.account).where(tables.account.c.kind == "voice").values(floor=-1000))
    go(engine)
    assert voice(engine, "u3") == 0


def test_waiting_fees_want_new_credit(engine):
    fee(engine, when_short="wait")
    with engine.begin() as tx:
        tx.execute(sa.update(tables.account).where(tables.account.c.posted == 50).values(held=40))
    go(engine)
    with engine.begin() as tx:
        tx.execute(sa.update(tables.account).values(held=0))
    assert collect(engine) == []
    credit(engine, "u2", 1)
    collect(engine)
    assert voice(engine, "u2") == 1


def test_a_disabled_member_pays_nothing(engine):
    fee(engine)
    with engine.begin() as tx:
        subscriber_records.enable(tx, "u1", NOW, enabled=False)
    go(engine)
    assert (periods(engine, "u1")[0].state, voice(engine, "u1")) == ("passed", 100)
    proved(engine)


@pytest.mark.parametrize(("joining", "amount"), [("whole", [31]), ("days", [17]), ("next", [])])
def test_joining_within_a_period(engine, joining, amount):
    with engine.begin() as tx:
        facts = {"recurrence": "monthly", "day": 20, "first_on": date(2026, 10, 1), "count": 1000}
        schedule = plan(tx, value=31, when_short="retry", joining=joining, **facts)
        memberships.join(tx, schedule, subscriber(tx, 1).id, joined_on=date(2026, 11, 3), now=NOW)
    credit(engine, "u1", 100)
    go(engine)
    collect(engine)
    assert [(each.due_on, each.paid) for each in periods(engine)] == [(date(2026, 10, 20), each) for each in amount]
    go(engine, NOW + 15 * DAY)
    assert periods(engine)[-1].due_on == date(2026, 11, 20)
    assert voice(engine, "u1") == 100 - 31 - sum(amount)
    proved(engine)


def test_leaving_and_joining_pays_once(engine):
    with engine.begin() as tx:
        facts = {"recurrence": "monthly", "day": 20, "first_on": date(2026, 10, 1), "count": 1000}
        schedule = plan(tx, value=31, when_short="retry", joining="whole", **facts)
        who = subscriber(tx, 1)
        first = memberships.join(tx, schedule, who.id, now=NOW)
    with engine.begin() as tx:
        memberships.leave(tx, first, NOW)
    assert periods(engine)[0].state is FeeState.CANCELLED
    credit(engine, "u1", 100)
    for _ in range(2):
        with engine.begin() as tx:
            again = memberships.join(tx, schedule, who.id, now=NOW)
        collect(engine)
        with engine.begin() as tx:
            memberships.leave(tx, again, NOW)
    assert [(each.state, each.paid) for each in periods(engine)] == [("paid", 31)]
    assert voice(engine, "u1") == 69
    proved(engine)


def test_unpaid_days_suspend_until_paid(engine):
    fee(engine, suspend_days=3, recurrence="monthly", day=5)
    go(engine)
    collect(engine, NOW + 2 * DAY)
    assert not is_suspended(engine, "u3")
    collect(engine, NOW + 3 * DAY)
    assert [is_suspended(engine, f"u{n}") for n in (1, 2, 3)] == [False, False, True]
    proved(engine)
    with engine.begin() as tx:
        changes = tx.execute(sa.select(tables.live_change.c.subscriber_id)).scalars().all()
        assert changes == [subscriber_records.find(tx, "u3").id]
    credit(engine, "u3", 50)
    (paid,) = collect(engine, NOW + 3 * DAY)
    assert paid.resumed
    assert not is_suspended(engine, "u3")
    proved(engine)


def test_leaving_lifts_the_suspension(engine):
    fee(engine, suspend_days=0)
    go(engine)
    collect(engine)
    assert is_suspended(engine, "u3")
    with engine.begin() as tx:
        who = subscriber_records.find(tx, "u3")
        memberships.leave(tx, memberships.member(tx, 1, who.id), NOW)
    assert not is_suspended(engine, "u3")
    proved(engine)


def test_a_deleted_schedule_is_owed_nothing(engine):
    fee(engine, suspend_days=0)
    go(engine)
    collect(engine)
    with engine.begin() as tx:
        schedule_records.delete(tx, 1, NOW)
    collect(engine)
    assert (periods(engine, "u3")[0].state, is_suspended(engine, "u3")) == ("cancelled", False)
    proved(engine)


def offer(engine, **facts):
    with engine.begin() as tx:
        terms = BundleTerms(
            "local", BundleKind.SECONDS, UNLIMITED[BundleKind.SECONDS], destinations=("on-net",), call_seconds_max=300
        )
        return offers.add(tx, terms, price=999, valid_hours=24, now=NOW, **facts)


def bundles(engine, username):
    with engine.begin() as tx:
        return bundle_records.list_of(tx, subscriber_records.find(tx, username).id)


def test_a_fee_buys_an_offer_until_its_end(engine):
    bought = offer(engine)
    fee(engine, offer_id=bought.id, recurrence="monthly", day=5)
    go(engine)
    (mine,) = bundles(engine, "u1")
    reference = f"fee:1:{mine.subscriber_id}:{TODAY}:bundle"
    assert (mine.reference, mine.call_seconds_max, mine.unlimited) == (reference, 300, True)
    assert mine.valid_until.date() == date(2026, 12, 6)
    assert voice(engine, "u1") == 50
    assert bundles(engine, "u3") == []
    credit(engine, "u3", 30, NOW + DAY)
    collect(engine, NOW + DAY)
    (late,) = bundles(engine, "u3")
    assert (late.valid_from, late.valid_until) == (NOW + DAY, mine.valid_until)
    proved(engine)


def test_a_period_that_is_over_buys_nothing(engine):
    bought = offer(engine)
    fee(engine, offer_id=bought.id, recurrence="monthly", day=5)
    go(engine)
    credit(engine, "u3", 30)
    collect(engine, NOW + 40 * DAY)
    assert (voice(engine, "u3"), bundles(engine, "u3")) == (0, [])
    proved(engine)


def test_waiving_forgives_and_gives_back(engine):
    bought = offer(engine)
    fee(engine, offer_id=bought.id, suspend_days=0, when_short="part")
    go(engine)
    collect(engine)
    for username in ("u1", "u3"):
        (was,) = periods(engine, username)
        with engine.begin() as tx:
            waived = fee_periods.waive(tx, was.id, note="storm", now=NOW)
            assert fee_periods.waive(tx, was.id, note="storm", now=NOW).state is FeeState.WAIVED
        assert waived.state is FeeState.WAIVED
    assert [voice(engine, each) for each in ("u1", "u3")] == [100, 20]
    assert [len(bundles(engine, each)) for each in ("u1", "u3")] == [1, 1]
    assert not is_suspended(engine, "u3")
    proved(engine)


def test_paying_by_hand(engine):
    fee(engine)
    go(engine)
    (owed,) = periods(engine, "u3")
    with engine.begin() as tx, pytest.raises(InsufficientBalance):
        fee_periods.pay(tx, owed.id, NOW)
    credit(engine, "u3", 30)
    with engine.begin() as tx:
        assert fee_periods.pay(tx, owed.id, NOW).state is FeeState.PAID
    with engine.begin() as tx, pytest.raises(InvalidValue, match="is paid"):
        fee_periods.pay(tx, owed.id, NOW)
    proved(engine)


def test_undoing_a_run_gives_all_back(engine):
    bought = offer(engine)
    fee(engine, offer_id=bought.id, suspend_days=0, when_short="part")
    go(engine)
    collect(engine)
    with engine.begin() as tx:
        (run,) = runs.history(tx, limit=9)
        for _ in range(2):
            run = fee_periods.request_undo(tx, run.id, note="wrong price", now=NOW)
    while True:
        with engine.begin() as tx:
            if fee_periods.undo_some(tx, run, NOW, limit=2) == 0:
                break
    assert [voice(engine, f"u{n}") for n in (1, 2, 3)] == [100, 50, 20]
    assert {each.state for each in periods(engine)} == {FeeState.UNDONE}
    assert [bundles(engine, f"u{n}") for n in (1, 2, 3)] == [[], [], []]
    assert not is_suspended(engine, "u3")
    go(engine)
    collect(engine)
    assert voice(engine, "u1") == 100
    proved(engine)


def test_an_open_run_stops_when_undone(engine):
    fee(engine)
    with engine.begin() as tx:
        runs.decide(tx, 1, runs.ScheduleRules(), TODAY, NOW)
        (run,) = runs.history(tx, limit=9)
        runs.advance(tx, run.id, runs.ScheduleRules(), NOW, size=1)
        fee_periods.request_undo(tx, run.id, note="", now=NOW)
        fee_periods.undo_some(tx, runs.find_run(tx, run.id), NOW)
    go(engine)
    assert [voice(engine, f"u{n}") for n in (1, 2, 3)] == [100, 50, 20]
    proved(engine)


def test_a_run_that_gives_is_not_undone(engine):
    with engine.begin() as tx:
        schedule = plan(tx)
        memberships.join(tx, schedule, subscriber(tx, 1).id, now=NOW)
    go(engine)
    with engine.begin() as tx, pytest.raises(InvalidValue, match="gives credit"):
        fee_periods.request_undo(tx, 1, note="", now=NOW)


def test_terms_of_a_fee_are_checked(engine):
    with engine.begin() as tx:
        for wrong in (
            {"suspend_days": 3},
            {"when_short": "never"},
            {"when_short": "retry", "suspend_days": 366},
            {"when_short": "retry", "remind_days": "a"},
            {"when_short": "retry", "joining": "half"},
        ):
            with pytest.raises(InvalidValue):
                plan(tx, **wrong)
        made = plan(tx, when_short="retry", remind_days="0, 3")
        assert (made.remind_days, made.joining, made.kind_word) == ("3 0", "next", "fee")
        with pytest.raises(InvalidValue, match="when_short"):
            schedule_records.change(tx, made.id, when_short=None)
        assert schedule_records.change(tx, made.id, value=7, suspend_days=2).suspend_days == 2
        assert schedule_records.find(tx, made.id).takes


def test_periods_follow_the_days(engine):
    fee(engine, members=1, value=10)
    for day in range(4):
        go(engine, NOW + day * DAY)
    assert [each.due_on for each in periods(engine)] == [TODAY + timedelta(days=n) for n in range(4)]
    assert voice(engine, "u1") == 60
    proved(engine)


@pytest.mark.parametrize(("when_short", "values"), [("retry", [50, 50, 0]), ("part", [50, 50, 20])])
def test_the_preview_says_who_lacks_what(engine, when_short, values):
    schedule = fee(engine, when_short=when_short)
    with engine.begin() as tx:
        (due,) = forecast.due(tx, schedule, RULES, TODAY, NOW)
        members = forecast.due_members(tx, [due], RULES, limit=9)
    assert (due.credited, due.failed, due.total(Kind.VOICE)) == (2, 1, 100)
    assert [(each.value, each.lacking) for each in members] == list(zip(values, [0, 0, 30], strict=True))


def test_the_preview_counts_earlier_dates(engine):
    schedule = fee(engine)
    with engine.begin() as tx:
        dues = forecast.due(tx, schedule, RULES, TODAY + DAY, NOW)
        members = forecast.due_members(tx, dues, RULES, limit=9)
    assert [(each.credited, each.failed) for each in dues] == [(2, 1), (1, 2)]
    assert [each.lacking for each in members] == [0, 0, 30, 0, 50, 50]
