"""Limits of what an account may spend in a day and in a month."""

from datetime import date, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.charging import messages
from celcombiller.core.charging.requests import ChargingPolicy
from celcombiller.core.errors import InsufficientBalance
from celcombiller.core.ledger.spending import Spending, on_day, remaining, spend
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.messages import MessageOrigin, MessageState, Route
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import MessageOutcome, MessagePolicy, MessageSubmission
from tests.core.ledger.test_book import NOW, ask, credit, ended, initiate, proved, voice

TODAY = date(2026, 11, 1)

limits = st.none() | st.integers(0, 500)


def limit(engine, **values):
    account = voice(engine).id
    with engine.begin() as tx:
        tx.execute(sa.update(tables.account).where(tables.account.c.id == account).values(**values))


def spent(engine):
    account = voice(engine).id
    with engine.begin() as tx:
        row = tx.execute(sa.select(tables.account).where(tables.account.c.id == account)).one()
    return row.spent_on, row.spent_day, row.spent_month


@pytest.mark.parametrize(("days", "left"), [(0, 40), (1, 70), (29, 70), (30, 100), (400, 100)])
def test_a_new_day_and_month_begin_anew(days, left):
    spending = Spending(day_limit=100, month_limit=130, spent_on=TODAY, spent_day=60, spent_month=60)
    assert remaining(spending, TODAY + timedelta(days=days)) == left


def test_a_clock_set_back_forgets_no_spending():
    spending = Spending(day_limit=100, spent_on=TODAY, spent_day=60, spent_month=60)
    assert remaining(spending, TODAY - timedelta(days=1)) == 40


@given(st.integers(0, 500), limits, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 200))))
def test_spending_is_the_sum_of_its_days(day_limit, month_limit, charges):
    spending, today, by_day, by_month = Spending(day_limit, month_limit), TODAY, {}, {}
    for days, amount in charges:
        today += timedelta(days=days)
        spending = spend(spending, amount, today)
        by_day[today] = by_day.get(today, 0) + amount
        by_month[today.replace(day=1)] = by_month.get(today.replace(day=1), 0) + amount
    now = on_day(spending, today)
    assert (now.spent_day, now.spent_month) == (by_day.get(today, 0), by_month.get(today.replace(day=1), 0))
    assert remaining(spending, today) >= 0


def test_a_call_is_granted_what_the_day_leaves(engine):
    ask(engine, credit(100))
    limit(engine, day_limit=30)
    (grant,) = ask(engine, initiate())
    assert grant.seconds == 30
    ask(engine, ended(talk_ms=20_000))
    assert spent(engine) == (TODAY, 20, 20)
    (second,) = ask(engine, initiate("2.0"))
    assert second.seconds == 10
    third, _ = ask(engine, initiate("3.0"), ended("2.0", talk_ms=10_000))
    assert isinstance(third, InsufficientBalance)
    assert voice(engine).posted == 70
    (next_day,) = ask(engine, initiate("4.0"), now=NOW + timedelta(days=1))
    assert next_day.seconds == 30
    proved(engine)


def test_credit_and_corrections_are_no_spending(engine):
    limit(engine, month_limit=10)
    ask(engine, credit(100), credit(-50, "taken back"))
    assert (voice(engine).posted, spent(engine)[1:]) == (50, (0, 0))
    assert voice(engine).kind is Kind.VOICE


def test_a_charge_by_a_receipt_counts_as_spent(engine):
    ask(engine, credit(100))
    limit(engine, day_limit=50)
    sent = MessageSubmission("m", MessageOrigin.API, "u1001", "", "1002", "hello")
    ask(
        engine,
        sent,
        terms=ChargingPolicy(Tariff([Rate()]), messages=MessagePolicy(on_net_route=Route.SMPP, on_net_price=7)),
    )
    with engine.begin() as tx:
        messages.record_outcome(tx, MessageOutcome("m", MessageState.DELIVERED), NOW)
    assert spent(engine) == (TODAY, 7, 7)
    proved(engine)
