"""The calls in progress: what they have cost so far is what they are charged, and a page costs the same at any number."""

import re
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.charging.requests import CallAnswered, ChargingPolicy, Terminate
from celcombiller.core.errors import UnknownCall
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.calls import CallReport, Witness
from celcombiller.core.model.tariffs import flat_rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.reports import live_calls
from celcombiller.core.schema import tables
from celcombiller.core.voice import call_orders
from celcombiller.core.voice.call_orders import OrderKind
from tests.core.ledger.test_book import NOW, ask, credit, database, ended, initiate, voice
from tests.support.bundles import give
from tests.support.query_plans import plans_of, record_calls

BY_STEPS = ChargingPolicy(Tariff([flat_rate(price=7, increment=6, connect_fee=5)]))
POLICY_OF_FIVE = ChargingPolicy(Tariff([flat_rate()]), max_call_seconds=5)


def listed(engine, now=NOW, **how):
    with engine.begin() as tx:
        return live_calls.list_live_calls(tx, now, limit=how.pop("limit", 50), **how)


def answer(engine, uniqueid="1.0", after=5):
    ask(engine, CallAnswered("pbx1", uniqueid, NOW + timedelta(seconds=after)))


def test_a_live_call_shows_all_of_itself(engine):
    ask(engine, credit(100))
    ask(engine, initiate())
    answer(engine)
    (shown,) = listed(engine, NOW + timedelta(seconds=15.5))
    assert (shown.id, shown.username, shown.name, shown.number, shown.callee) == (1, "u1001", "N", "1001", "u1002")
    assert (shown.call.to_number, shown.call.server, shown.trunk, shown.order) == ("1002", "pbx1", "", None)
    assert (shown.used_seconds, shown.cost, shown.held, shown.bundles) == (11, 11, 100, ())
    assert shown.granted_until == NOW + timedelta(seconds=105)


def test_a_call_that_rings_has_cost_nothing(engine):
    ask(engine, credit(100))
    ask(engine, initiate(), terms=BY_STEPS)
    (shown,) = listed(engine, NOW + timedelta(seconds=15))
    assert (shown.used_seconds, shown.cost, shown.granted_until) == (0, 0, None)


def test_bundles_show_what_a_call_took(engine):
    ask(engine, credit(100))
    account = give(engine, BundleKind.SECONDS, 30)
    ask(engine, initiate())
    answer(engine, after=0)
    (shown,) = listed(engine, NOW + timedelta(seconds=45))
    (use,) = shown.bundles
    assert (use.account_id, use.name, use.kind, use.taken, use.held) == (account, "B", "seconds", 30, 30)
    assert (shown.used_seconds, shown.cost) == (45, 15)


def test_the_last_order_is_shown(engine):
    ask(engine, credit(100))
    ask(engine, initiate())
    (shown,) = listed(engine)
    with engine.begin() as tx:
        facts = {"reference": shown.call.reference, "kind": OrderKind.HANGUP, "actor": "ana", "now": NOW}
        first = call_orders.add(tx, reason="fraud", **facts)
        assert call_orders.finish(tx, first.id, "no link", NOW)
        assert not call_orders.finish(tx, first.id, "done", NOW)
        call_orders.add(tx, reason="fraud again", **facts)
        assert [each.reason for each in call_orders.list_waiting(tx, limit=5)] == ["fraud again"]
    (shown,) = listed(engine)
    assert (shown.order.reason, shown.order.waits) == ("fraud again", True)


def test_filters_and_pages_keep_their_order(engine):
    ask(engine, credit(20), credit(20, "s", "u1002"))
    for number in range(1, 5):
        ask(engine, initiate(f"{number}.0", caller=f"100{1 + number % 2}", called="1003"), terms=POLICY_OF_FIVE)
    assert [each.call.uniqueid for each in listed(engine)] == ["1.0", "2.0", "3.0", "4.0"]
    assert [each.call.uniqueid for each in listed(engine, subscriber_id=1)] == ["2.0", "4.0"]
    assert listed(engine, server="pbx2") == []
    first, second = listed(engine, limit=2)
    after = (second.call.started_at, second.id)
    ask(engine, initiate("5.0", called="1003"), ended("1.0"), terms=POLICY_OF_FIVE)
    assert [each.call.uniqueid for each in listed(engine, after=after)] == ["3.0", "4.0", "5.0"]
    with engine.begin() as tx:
        assert live_calls.count_live_calls(tx) == live_calls.count_live_calls(tx, server="pbx1") == 4
        assert live_calls.count_live_calls(tx, subscriber_id=1) == 3
        with pytest.raises(UnknownCall):
            live_calls.find_live_call(tx, first.id, NOW)
        assert live_calls.find_live_call(tx, second.id, NOW).call.uniqueid == "2.0"
        assert live_calls.read_live_states(tx)[second.id].granted_seconds == 5


@given(
    ms=st.integers(0, 130_000),
    price=st.integers(0, 9),
    increment=st.integers(1, 70),
    fee=st.integers(0, 9),
    pot=st.integers(0, 80),
)
def test_the_cost_so_far_is_what_is_charged(ms, price, increment, fee, pot):
    terms = ChargingPolicy(Tariff([flat_rate(price=price, increment=increment, connect_fee=fee)]), max_call_seconds=100)
    engine = database()
    ask(engine, credit(1000))
    if pot:
        account = give(engine, BundleKind.SECONDS, pot)
    ask(engine, initiate(), terms=terms)
    answer(engine)
    until = NOW + timedelta(seconds=5, milliseconds=ms)
    (shown,) = listed(engine, until)
    ending = CallReport(answered=True, at=until, answered_at=NOW + timedelta(seconds=5), talk_ms=ms)
    (settled,) = ask(engine, Terminate("pbx1", "1.0", Witness.AGI, ending), terms=terms)
    assert shown.cost == settled.call.cost == 1000 - voice(engine).posted
    with engine.begin() as tx:
        left = tx.execute(sa.select(tables.account.c.posted).where(tables.account.c.id == (account if pot else 0)))
        assert pot - sum(each.taken for each in shown.bundles) == (left.scalar_one() if pot else 0)
    engine.dispose()


def crowd(engine):
    """Record 3000 calls, of which the last 20 are open."""
    with engine.begin() as tx:
        account_id = tx.execute(sa.select(tables.account.c.id).where(tables.account.c.subscriber_id == 1)).scalar()
        record_calls(tx, 3000, subscribers=[(1, account_id)])
        tx.exec_driver_sql("analyze")


def test_a_page_reads_open_calls_alone(engine):
    crowd(engine)
    for work in (
        lambda tx: live_calls.list_live_calls(tx, NOW, limit=51),
        lambda tx: live_calls.list_live_calls(tx, NOW, limit=51, server="pbx1"),
        lambda tx: live_calls.list_live_calls(tx, NOW, limit=51, subscriber_id=1),
        live_calls.count_live_calls,
        lambda tx: tx.execute(live_calls.LIVE_STATES),
    ):
        plan = "\n".join(plans_of(engine, work))
        assert "ix_call_open" in plan, plan
        assert not re.search(r"SCAN (call|hold|call_order)\b(?! USING (COVERING )?INDEX ix_call_open)", plan), plan
        assert not re.search(r"Seq Scan on call\b", plan), plan


def test_waiting_orders_are_found_by_their_index(engine):
    plan = "\n".join(plans_of(engine, lambda tx: call_orders.list_waiting(tx, limit=10)))
    assert "ix_call_order_waiting" in plan, plan


def test_a_page_of_many_takes_two_statements(engine):
    ask(engine, credit(100))
    for number in range(1, 9):
        give(engine, BundleKind.SECONDS, 10, pot=number)
        ask(engine, initiate(f"{number}.0"), terms=POLICY_OF_FIVE)
    asked = []
    sa.event.listen(engine, "before_cursor_execute", lambda *each: asked.append(each[2]))
    assert len(listed(engine)) == 8
    assert len([each for each in asked if each.startswith("SELECT")]) == 2
