"""What is left of bundles, as subscribers read and hear it."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from celcombiller.asterisk import balance_prompts
from celcombiller.core.bundles.bundle_format import format_bundles
from celcombiller.core.bundles.terms import BundleTerms
from celcombiller.core.ledger.balance_format import BalanceStyle
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.messages import Route
from celcombiller.core.notifications import balance_enquiry
from celcombiller.core.notifications.balance_enquiry import Wording
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import MessagePolicy
from tests.core.bundles.test_bundle_records import give, hold
from tests.support.databases import NOW

CENTS = BalanceStyle(as_time=False, scale=2)


def given(tx, **kinds):
    return [
        give(tx, f"id:{kind}", terms=BundleTerms(f"b {kind}", BundleKind(kind), amount), valid_hours=number + 1)
        for number, (kind, amount) in enumerate(kinds.items())
    ]


def test_each_bundle_has_its_units(engine):
    with engine.begin() as tx:
        bundles = given(tx, seconds=125, messages=7, octets=1000, money=1250)
    text = "b seconds: 2 min 5 s; b messages: 7; b octets: 1000; b money: 12.5"
    assert format_bundles(bundles, CENTS, NOW) == text
    assert format_bundles(bundles, CENTS, NOW + timedelta(hours=3)) == "b money: 12.5"


def test_an_enquiry_tells_what_bundles_have_left(engine):
    way = MessagePolicy(on_net_route=Route.ASTERISK)
    wording = Wording("You have {balance}.", bundles_text="Bundles: {bundles}.")
    with engine.begin() as tx:
        hold(tx, given(tx, seconds=125)[0], 65)
        for number in ("1001", "1002"):
            balance_enquiry.answer(tx, way, wording, asked="1", account_code="", caller_number=number, now=NOW)
        texts = tx.execute(sa.select(tables.message.c.text).order_by(tables.message.c.to_number)).scalars().all()
    assert texts == ["You have 0 s. Bundles: b seconds: 1 min.", "You have 0 s."]


@pytest.mark.parametrize(
    ("seconds", "messages", "words"),
    [
        (None, None, []),
        (61, None, ["intro", "1", "minute", "1", "second"]),
        (None, 5, ["intro", "5", "texts"]),
        (120, 5, ["intro", "2", "minutes", "vm-and", "5", "texts"]),
    ],
)
def test_seconds_and_messages_are_said(seconds, messages, words):
    said = balance_prompts.bundles(seconds, messages, intro="intro", unit="texts")
    assert [each.what for each in said] == words
