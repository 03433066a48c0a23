"""Which transfers took an account below its floor, and why they could."""

from dataclasses import replace
from datetime import timedelta

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import given

from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.charging.operator_credit import set_credit_limit
from celcombiller.core.charging.requests import Terminate
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.calls import CallReport, Witness
from celcombiller.core.model.tariffs import flat_rate
from celcombiller.core.reports.explanation.debts import describe_debt, list_debts
from celcombiller.core.schema import tables
from tests.core.charging.test_rerating import rerate, version
from tests.core.ledger.test_book import NOW, TERMS, ask, credit, database, ended, initiate, proved, voice

OPERATOR = Actor("admin", "", manages=ALL_LEVELS)


def debts(engine):
    with engine.begin() as tx:
        return [debt for _, debt in list_debts(tx)]


def test_no_account_below_its_floor_is_no_debt(engine):
    ask(engine, credit(10), initiate(), ended(talk_ms=10_000))
    assert debts(engine) == []


def test_talk_that_no_limit_cut_is_named(engine):
    ask(engine, credit(10), initiate(), ended(talk_ms=25_000))
    (debt,) = debts(engine)
    assert (debt.username, debt.posted, debt.below, debt.explained) == ("u1001", -15, 15, True)
    (row,) = debt.rows
    assert (row.reference, row.held, row.beyond, row.posted) == ("call:pbx1:1.0:0", 10, 15, -15)
    assert row.why == "talk that no limit cut: 25000 ms of talk, 10 s were granted, 10 credits were held"
    assert "25 for the talk, 10 were held" in describe_debt(debt)[1]


def test_a_late_charge_is_named(engine):
    ending = CallReport(answered=True, at=NOW, talk_ms=4000)
    ask(engine, Terminate("pbx1", "1.0", Witness.AGI, ending, unauthorized_request=initiate()))
    (debt,) = debts(engine)
    assert (debt.below, debt.rows[0].held, debt.rows[0].why.startswith("a late charge")) == (4, 0, True)


def test_the_cause_is_an_earlier_charge_too(engine):
    """The row that crosses the floor was held for; what was held for it had been taken by another call."""
    ask(engine, credit(100))
    ask(engine, initiate("1.0"), terms=limited(50))
    ask(engine, initiate("2.0"), terms=limited(50))
    ask(engine, ended("1.0", talk_ms=80_000), ended("2.0", talk_ms=50_000), terms=limited(50))
    (debt,) = debts(engine)
    assert [(row.beyond, row.posted) for row in debt.rows] == [(30, 20), (0, -30)]
    assert (debt.below, debt.explained) == (30, True)


def limited(seconds):
    """Return conditions under which a call may talk so long, and hold as much."""
    return replace(TERMS, max_call_seconds=seconds)


def test_a_dearer_version_is_named(engine):
    ask(engine, credit(10), initiate(), ended(talk_ms=10_000))
    rerate(engine, version(engine, flat_rate(price=3)))
    (debt,) = debts(engine)
    assert [(row.value, row.why) for row in debt.rows] == [
        (-20, "a call was charged again by a dearer version of a tariff")
    ]


def test_a_raised_floor_is_named(engine):
    with engine.begin() as tx:
        set_credit_limit(tx, "u1001", Kind.VOICE, 50, OPERATOR, NOW)
    ask(engine, initiate(), ended(talk_ms=40_000))
    assert debts(engine) == []
    with engine.begin() as tx:
        set_credit_limit(tx, "u1001", Kind.VOICE, 15, OPERATOR, NOW + timedelta(days=1))
    (debt,) = debts(engine)
    assert [(each.actor, each.before, each.after) for each in debt.raised] == [("admin", 50, 15)]
    assert (debt.below, debt.explained) == (25, True)
    assert "lowered its credit limit from 50 to 15" in "\n".join(describe_debt(debt))


def test_what_no_row_explains_is_said(engine):
    ask(engine, credit(10))
    with engine.begin() as tx:
        tx.execute(sa.update(tables.account).where(tables.account.c.posted == 10).values(posted=-5))
    (debt,) = debts(engine)
    assert (debt.below, debt.explained) == (5, False)
    assert "see `celcombiller audit`" in describe_debt(debt)[-1]


moves = st.lists(
    st.one_of(
        st.tuples(st.just("credit"), st.integers(1, 100)),
        st.tuples(st.just("call"), st.integers(0, 9)),
        st.tuples(st.just("end"), st.integers(0, 150_000)),
        st.tuples(st.just("limit"), st.sampled_from([0, 10, 60])),
        st.tuples(st.just("debit"), st.integers(1, 40)),
    ),
    max_size=25,
)


@given(moves)
def test_the_rows_explain_every_debt(steps):
    """Some milliseconds an example, on a database in memory."""
    engine, opened = database(), []
    for place, (what, value) in enumerate(steps):
        now = NOW + timedelta(minutes=place)
        if what == "credit":
            ask(engine, credit(value, reference=f"r{place}"), now=now)
        elif what == "debit":
            ask(engine, credit(-value, reference=f"r{place}"), now=now)
        elif what == "call":
            ask(engine, initiate(f"{place}.{value}"), now=now, terms=limited(20 + value))
            opened.append(f"{place}.{value}")
        elif what == "end" and opened:
            ask(engine, ended(opened.pop(value % len(opened)), talk_ms=value), now=now)
        elif what == "limit":
            with engine.begin() as tx:
                set_credit_limit(tx, "u1001", Kind.VOICE, value, OPERATOR, now)
    account = voice(engine)
    found = debts(engine)
    assert [debt.below for debt in found] == (
        [account.floor - account.posted] if account.posted < account.floor else []
    )
    for debt in found:
        assert debt.explained
        assert debt.rows[-1].posted == debt.posted
        assert sum(row.value for row in debt.rows[1:]) == debt.posted - debt.rows[0].posted
        assert any(row.beyond for row in debt.rows) or debt.raised
    proved(engine)
    engine.dispose()


@pytest.mark.parametrize("username", ["u1001", "u1002"])
def test_one_subscriber_is_picked(engine, username):
    ask(engine, credit(10), initiate(), ended(talk_ms=25_000))
    with engine.begin() as tx:
        wanted = tx.execute(sa.select(tables.subscriber.c.id).where(tables.subscriber.c.username == username)).scalar()
        assert bool(list_debts(tx, subscriber_id=wanted)) == (username == "u1001")


def test_an_imported_debt_is_named(engine):
    account_id = voice(engine).id
    with engine.begin() as tx:
        book = Book()
        book.load(tx, [account_id])
        operator_id = tables.OPERATOR_ACCOUNT_IDS[Kind.VOICE]
        book.post(
            "opening:1", account_id, operator_id, 5, origin="opening", now=NOW, note="as it was", beyond_floor=True
        )
        book.save(tx)
    (debt,) = debts(engine)
    assert (debt.rows[0].why, debt.explained) == ("it was taken although it was not available", True)
