"""Why a call cost what it cost: the parts sum to the charge, and the words say each of them."""

from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from celcombiller.core.access.changes.subscriber_changes import change
from celcombiller.core.audit.report import audit
from celcombiller.core.charging.requests import ChargingPolicy
from celcombiller.core.errors import InsufficientBalance
from celcombiller.core.ledger import reversals
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.calls import Witness
from celcombiller.core.model.tariffs import flat_rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.reports.explanation.call_explanation import explain_call
from celcombiller.core.reports.explanation.call_text import list_details
from celcombiller.core.reports.explanation.tariff_choice import TariffReason
from celcombiller.core.reports.history import find_call
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import group_records
from tests.core.charging.test_rerating import rerate, version
from tests.core.charging.test_slices import update
from tests.core.ledger.test_book import NOW, ask, credit, database, ended, initiate, proved, voice
from tests.core.rating.rates import any_rates
from tests.core.reports.test_debts import OPERATOR
from tests.support.bundles import give

ZONE = ZoneInfo("America/Belem")
BY_MINUTE = ChargingPolicy(Tariff([flat_rate(price=60, increment=60)]))


def explained(engine, call_id=1, *, with_trunks=True):
    with engine.begin() as tx:
        return explain_call(tx, find_call(tx, call_id), ZONE, with_trunks=with_trunks)


def talked(engine, talk_ms, *, terms, uniqueid="1.0", answered_at=NOW, **facts):
    end = ended(uniqueid, talk_ms=talk_ms, **facts)
    at = answered_at + timedelta(milliseconds=talk_ms)
    return ask(engine, replace(end, ending=structs.replace(end.ending, answered_at=answered_at, at=at)), terms=terms)


amounts = st.integers(0, 3000)


slices = st.sampled_from([None, 10, 60, 300])
"""The seconds of a slice; None: one hold for the whole call."""


@given(any_rates, amounts, amounts, amounts, st.integers(0, 4_000_000), st.booleans(), slices)
def test_the_pieces_sum_to_the_charge(rate, balance, seconds, money, talk_ms, is_cut, slice_seconds):
    """Some milliseconds an example, on a database in memory. Talk may go beyond its limit."""
    engine, policy = database(), ChargingPolicy(Tariff([structs.replace(rate, prefix="")]))
    if balance:
        ask(engine, credit(balance))
    for kind, amount in ((BundleKind.SECONDS, seconds), (BundleKind.MONEY, money)):
        if amount:
            give(engine, kind, amount)
    before = voice(engine).posted
    (grant,) = ask(engine, initiate(slice_seconds=slice_seconds), terms=policy)
    if not isinstance(grant, InsufficientBalance):
        granted = grant.seconds
        while slice_seconds and granted * 1000 < min(talk_ms, 600_000):
            (renewed,) = ask(engine, update(granted=granted, used=granted, slice_seconds=slice_seconds), terms=policy)
            granted = renewed.call.granted_seconds
            if renewed.is_final:
                break
        open_call = explained(engine)
        assert (open_call.adds_up, open_call.charged, open_call.pieces) == (True, 0, [])
        assert [each.seconds_after for each in open_call.renewals][-1:] in ([], [granted])
        talked(engine, min(talk_ms, granted * 1000 + 5) if is_cut else talk_ms, terms=policy)
        made = explained(engine)
        assert made.differences == []
        assert made.price == sum(each.credits for each in made.pieces)
        assert made.price - made.paid_by_bundles == made.cost == made.charged == before - voice(engine).posted
        taken = {each.payer: each.amount for each in made.movements if each.unit == "seconds"}
        assert sum(each.seconds for each in made.pieces if each.bundle) == sum(taken.values())
        assert made.text
        assert list_details(made, ZONE)
    proved(engine)
    engine.dispose()


def test_the_words_can_be_read_to_a_customer(engine):
    ask(engine, credit(1000))
    give(engine, BundleKind.SECONDS, 60)
    policy = ChargingPolicy(Tariff([flat_rate("55", "Brazil", 5, 60, 60)]), external=True)
    ask(engine, initiate(called="5511999"), terms=policy)
    talked(engine, 130_400, terms=policy)
    made = explained(engine)
    assert made.text == (
        "N (1001) called 5511999 (Brazil) on 2026-11-01 09:00:00-03:00. It was answered at 2026-11-01 09:00:00-03:00 and"
        " lasted 2 min 10.4 s. It is priced by the prices of the biller's settings: 60 credits per min in steps of 60 s;"
        " 5 credits at the start. 60 s were taken from the bundle B and 120 s (whole increments of 60 s) cost 120. The"
        " balance paid 120 credits: it was 1000 before and 880 after. A second that has begun counts: 2 min 10.4 s of"
        " talk are 131 s."
    )
    assert "Held on balance: 960 credits" in "\n".join(list_details(made, ZONE))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("update call set cost = 9", "a call costs the price of its talk"),
        ("update call set talk_ms = 70000", "a call costs the price of its talk"),
        ("update transfer set amount = 61 where reference like 'call:%'", "and 61 were charged"),
        ("update hold set state = 'released'", "a hold of it is released"),
    ],
)
def test_what_does_not_add_up_is_said(engine, damage, said):
    ask(engine, credit(1000), initiate(), ended(talk_ms=10_000), terms=BY_MINUTE)
    assert explained(engine).adds_up
    with engine.begin() as tx:
        tx.execute(sa.text(damage))
        assert not audit(tx).ok
    made = explained(engine)
    assert (made.adds_up, said in " ".join(made.differences), said in made.text) == (False, True, True)


@pytest.mark.parametrize(("talk_ms", "remark"), [(3004, "cut 4 ms after its limit"), (5001, "3 were held for it")])
def test_a_limit_and_an_overrun_are_explained(engine, talk_ms, remark):
    policy = ChargingPolicy(Tariff([flat_rate()]))
    ask(engine, credit(3), initiate(), terms=policy)
    talked(engine, talk_ms, terms=policy)
    made = explained(engine)
    assert made.adds_up
    assert remark in made.text


def test_a_call_without_an_answer_cost_nothing(engine):
    ask(engine, credit(100), initiate(), ended(answered=False))
    made = explained(engine)
    assert (made.charged, made.pieces, made.adds_up) == (0, [], True)
    assert "so it cost nothing. The 100 credits that were held for it have been free" in made.text


def test_each_witness_is_listed_with_its_difference(engine):
    ask(engine, credit(100), initiate(), ended(talk_ms=1200), ended(talk_ms=9000, witness=Witness.AMI))
    made = explained(engine)
    assert [(each.witness, each.difference_ms) for each in made.witnesses] == [("agi", None), ("ami", 7800)]
    assert "Asterisk's manager events reported 7.8 s more talk" in made.text


def test_reratings_and_a_reversal_are_in_the_sum(engine):
    ask(engine, credit(100), initiate(), ended(talk_ms=10_000))
    rerate(engine, version(engine, flat_rate(price=3)))
    assert [(each.price, each.difference) for each in explained(engine).reratings] == [(30, 20)]
    with engine.begin() as tx:
        reversals.reverse(tx, "call:pbx1:1.0:0", note="complained", now=NOW)
    made = explained(engine)
    assert (made.cost, made.charged, made.adds_up) == (10, 20, True)
    assert "an operator took a charge of it back (10 credits): complained." in made.text
    assert "In all the balance paid 20 credits." in made.text


def test_subscribers_see_neither_trunks_nor_operators(engine):
    ask(engine, credit(1000), initiate())
    order = {"reference": "call:pbx1:1.0:0", "kind": "hangup", "reason": "asked to", "actor": "admin", "made_at": NOW}
    with engine.begin() as tx:
        trunk = sa.insert(tables.trunk).values(name="north", dial="x", enabled=True, created_at=NOW)
        trunk_id = tx.execute(trunk.returning(tables.trunk.c.id)).scalar_one()
        tx.execute(sa.update(tables.call).values(trunk_id=trunk_id))
        tx.execute(sa.insert(tables.call_order).values(order))
    staff, own = explained(engine), explained(engine, with_trunks=False)
    assert ([each.name for each in staff.trunks], staff.orders[0].actor) == (["north"], "admin")
    assert (own.trunks, own.orders[0].actor, own.orders[0].reason) == ([], "", "asked to")


def test_renewals_are_listed_and_must_follow(engine):
    (_, grant) = ask(engine, credit(1000), initiate(slice_seconds=60))
    ask(engine, update(granted=grant.seconds, used=20), update(granted=80, used=70))
    made = explained(engine)
    assert ([each.seconds_after for each in made.renewals], made.adds_up) == ([80, 130], True)
    assert "(renewal): 80 s became 130 s, 80 credits became 130." in "\n".join(list_details(made, ZONE))
    with engine.begin() as tx:
        tx.execute(sa.update(tables.call_renewal).where(tables.call_renewal.c.seconds_after == 80).values(held_after=9))
    assert "does not begin where the one before ended" in explained(engine).text


@pytest.mark.parametrize(
    ("own", "of_group", "is_default", "reason"),
    [
        (True, True, True, TariffReason.SUBSCRIBER),
        (False, True, True, TariffReason.GROUP),
        (False, False, True, TariffReason.DEFAULT),
        (False, False, False, TariffReason.CHANGED),
    ],
)
def test_it_is_said_why_this_tariff_counted(engine, own, of_group, is_default, reason):
    ask(engine, credit(100), initiate(), ended(talk_ms=10_000))
    assert explained(engine).tariff.reason is TariffReason.SETTINGS
    new = version(engine, flat_rate())
    with engine.begin() as tx:
        tx.execute(sa.update(tables.call).values(tariff_version_id=new.version_id))
        tariff_id = tx.execute(
            sa.update(tables.tariff).values(is_default=is_default).returning(tables.tariff.c.id)
        ).scalar()
        group = group_records.add(tx, name="gold", now=NOW, tariff_id=tariff_id if of_group else None)
        before = NOW - timedelta(days=1)
        change(tx, OPERATOR, "u1001", {"group_id": group.id, "tariff_id": tariff_id if own else None}, before)
    assert explained(engine).tariff.reason is reason
    with engine.begin() as tx:  # what is changed later does not change why it counted then
        change(tx, OPERATOR, "u1001", {"group_id": None, "tariff_id": None}, NOW + timedelta(days=1))
    made = explained(engine)
    assert (made.tariff.name, made.tariff.version, made.tariff.reason) == ("T1", 1, reason)
    assert ("the tariff of the group gold" in made.text) == (reason is TariffReason.GROUP)


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({}, ("1002", "1001", "")),
        ({"account_code": "u1001", "caller_number": "anonymous"}, ("1002", "anonymous", "u1001")),
        ({"called_number": "+1002"}, ("+1002", "1001", "")),
        ({"caller_number": 'Jos\u00e9 "1"', "account_code": "u1001"}, ("1002", 'Jos\u00e9 "1"', "u1001")),
        ({"caller_number": "x" * 300, "account_code": "u1001"}, ("1002", "x" * 128, "u1001")),
    ],
)
def test_numbers_are_shown_as_they_were_dialled(engine, facts, shown):
    ask(engine, credit(100), initiate(**facts))
    ask(engine, ended(talk_ms=1000))
    made = explained(engine)
    assert (made.dialled, made.caller_number, made.account_code) == shown
    assert (made.from_number, made.to_number) == ("1001", "1002")
    assert ("dialled as" in made.text) == (made.dialled != "1002")
    proved(engine)
