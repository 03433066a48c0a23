"""What bundles pay for calls and messages, before the balance does."""

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celcombiller.core.audit.report import audit
from celcombiller.core.charging.requests import ChargingPolicy, Update
from celcombiller.core.errors import InsufficientBalance
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.messages import MessageOrigin, MessageState, Route
from celcombiller.core.model.tariffs import Rate, flat_rate
from celcombiller.core.rating.bill import Pot, make_bill
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import MessageOutcome, MessagePolicy, MessageSubmission
from tests.core.ledger.test_book import NOW, ask, credit, database, ended, initiate, proved, voice
from tests.support.bundles import give

BY_MINUTE = ChargingPolicy(Tariff([flat_rate(price=60, increment=60)]))
BY_SECOND = ChargingPolicy(
    Tariff([Rate()]), messages=MessagePolicy(on_net_route=Route.ASTERISK, on_net_price=3, off_net_price=3)
)


def pot(engine, account):
    with engine.begin() as tx:
        row = tx.execute(sa.select(tables.account).where(tables.account.c.id == account)).one()
    return row.posted, row.held


def test_a_bundle_pays_before_the_balance(engine):
    ask(engine, credit(100))
    account = give(engine, BundleKind.SECONDS, 30)
    (grant,) = ask(engine, initiate())
    assert (grant.seconds, pot(engine, account), voice(engine).held) == (130, (30, 30), 100)
    (settled,) = ask(engine, ended(talk_ms=45_000))
    assert (settled.call.cost, pot(engine, account)) == (15, (0, 0))
    assert (voice(engine).posted, voice(engine).held) == (85, 0)
    proved(engine)


def test_a_bundle_alone_is_enough_for_a_call(engine):
    account = give(engine, BundleKind.SECONDS, 30)
    (grant,) = ask(engine, initiate())
    (settled,) = ask(engine, ended(talk_ms=10_000))
    assert (grant.seconds, settled.call.cost, pot(engine, account)) == (30, 0, (20, 0))
    proved(engine)


def test_an_unanswered_call_gives_its_bundles_back(engine):
    account = give(engine, BundleKind.SECONDS, 30)
    ask(engine, initiate(), ended(answered=False))
    assert pot(engine, account) == (30, 0)
    proved(engine)


def test_two_calls_never_share_a_bundles_seconds(engine):
    give(engine, BundleKind.SECONDS, 30)
    first, second = ask(engine, initiate("1.0"), initiate("2.0"))
    assert first.seconds == 30
    assert isinstance(second, InsufficientBalance)


def test_a_bundle_pays_whole_increments_only(engine):
    ask(engine, credit(60))
    account = give(engine, BundleKind.SECONDS, 90)
    (grant,) = ask(engine, initiate(), terms=BY_MINUTE)
    assert grant.seconds == 120
    (settled,) = ask(engine, ended(talk_ms=61_000), terms=BY_MINUTE)
    assert (settled.call.cost, pot(engine, account)) == (60, (30, 0))
    proved(engine)


def test_an_overrun_is_paid_by_the_balance(engine):
    account = give(engine, BundleKind.SECONDS, 30)
    ask(engine, initiate())
    (settled,) = ask(engine, ended(talk_ms=40_000))
    assert (settled.call.cost, pot(engine, account), voice(engine).posted) == (10, (0, 0), -10)
    proved(engine)


@pytest.mark.parametrize(
    ("damage", "law"),
    [
        ("update call set talk_ms = 46000", "a call costs the price of its talk"),
        ("update call set talk_ms = 20000", "a bundle pays its part"),
        ("update call set bundles = null", "a call costs the price of its talk"),
        ("update hold set amount = 20 where reference like 'share:%'", "a bundle pays no more"),
        ("update hold set state = 'open', ended_at = null where reference like 'share:%'", "a bundle's hold is open"),
    ],
)
def test_audit_finds_a_wrong_bill(engine, damage, law):
    ask(engine, credit(100))
    give(engine, BundleKind.SECONDS, 30)
    ask(engine, initiate(), ended(talk_ms=45_000))
    with engine.begin() as tx:
        tx.execute(sa.text(damage))
        assert any(law in each.law for each in audit(tx).differences)


def send(reference="m", text="hello"):
    return MessageSubmission(reference, MessageOrigin.API, "u1001", "", "1002", text)


@pytest.mark.parametrize(
    ("outcomes", "left"),
    [
        ([], (2, 1)),
        ([MessageState.ACCEPTED], (1, 0)),
        ([MessageState.REFUSED], (2, 0)),
        ([MessageState.EXPIRED], (2, 0)),
        ([MessageState.ACCEPTED, MessageState.FAILED], (2, 0)),
    ],
)
def test_a_message_is_paid_by_its_bundle(engine, outcomes, left):
    account = give(engine, BundleKind.MESSAGES, 2)
    ask(engine, send(), *(MessageOutcome("m", each) for each in outcomes), terms=BY_SECOND)
    assert (pot(engine, account), voice(engine).posted, voice(engine).held) == (left, 0, 0)
    proved(engine)


def test_what_a_bundle_lacks_the_balance_pays(engine):
    ask(engine, credit(10))
    account = give(engine, BundleKind.MESSAGES, 1)
    (sent,) = ask(engine, send(text="x" * 200), terms=BY_SECOND)
    assert (sent.message.parts, sent.message.cost, pot(engine, account)) == (2, 3, (1, 1))
    ask(engine, MessageOutcome("m", MessageState.ACCEPTED), terms=BY_SECOND)
    assert voice(engine).posted == 7
    proved(engine)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(1, 200), max_size=3),
    st.integers(0, 300),
    st.lists(st.tuples(st.integers(0, 400), st.booleans()), min_size=1, max_size=4),
    st.sampled_from([1, 7, 60]),
)
def test_calls_of_any_length_add_up(pots, balance, calls, increment):
    """Some milliseconds an example, on a database in memory."""
    engine = database()
    policy = ChargingPolicy(Tariff([flat_rate(price=increment, increment=increment)]))
    if balance:
        ask(engine, credit(balance))
    accounts = [give(engine, BundleKind.SECONDS, each, pot=n) for n, each in enumerate(pots, 1)]
    for number, (seconds, answered) in enumerate(calls):
        before = [pot(engine, each)[0] for each in accounts]
        (grant,) = ask(engine, initiate(f"{number}.0"), terms=policy)
        if isinstance(grant, InsufficientBalance):
            continue
        used = min(seconds, grant.seconds)
        ask(engine, ended(f"{number}.0", talk_ms=used * 1000, answered=answered), terms=policy)
        kept = [Pot(each, BundleKind.SECONDS, left) for each, left in zip(accounts, before, strict=True)]
        bill = make_bill(grant.call.rate, used, NOW, kept)
        taken = [bill.takes.get(each, 0) if answered else 0 for each in accounts]
        assert [pot(engine, each) for each in accounts] == [
            (left - amount, 0) for left, amount in zip(before, taken, strict=True)
        ]
        assert voice(engine).posted >= 0
    proved(engine)
    engine.dispose()


def limit_calls(engine, account, seconds):
    with engine.begin() as tx:
        mine = tables.bundle.c.account_id == account
        tx.execute(sa.update(tables.bundle).where(mine).values(call_seconds_max=seconds))


def test_a_bundle_pays_part_of_each_call(engine):
    ask(engine, credit(100))
    account = give(engine, BundleKind.SECONDS, 10**9)
    limit_calls(engine, account, 300)
    (grant,) = ask(engine, initiate())
    assert (grant.seconds, pot(engine, account), voice(engine).held) == (400, (10**9, 300), 100)
    (settled,) = ask(engine, ended(talk_ms=310_000))
    assert (settled.call.cost, pot(engine, account)) == (10, (10**9 - 300, 0))
    (grant,) = ask(engine, initiate("2.0"))
    assert grant.seconds == 390
    proved(engine)


def test_slices_take_no_more_than_the_part(engine):
    """Renewals count what the call holds already."""
    account = give(engine, BundleKind.SECONDS, 10**9)
    limit_calls(engine, account, 100)
    (grant,) = ask(engine, initiate(slice_seconds=60))
    granted = grant.seconds
    for used in (20, 50, 90, 99):
        (renewed,) = ask(engine, Update("pbx1", "1.0", 0, granted, used, NOW, 60))
        granted = renewed.call.granted_seconds
    assert (granted, renewed.is_final, pot(engine, account)) == (100, True, (10**9, 100))
    ask(engine, ended(talk_ms=100_000))
    assert pot(engine, account) == (10**9 - 100, 0)
    proved(engine)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 120), st.integers(0, 200), st.lists(st.integers(0, 300), min_size=1, max_size=4))
def test_a_part_and_the_balance_add_up(part, balance, calls):
    """Some milliseconds an example, on a database in memory."""
    engine = database()
    if balance:
        ask(engine, credit(balance))
    account, left, posted = give(engine, BundleKind.SECONDS, 10**9), 10**9, balance
    limit_calls(engine, account, part)
    for number, wanted in enumerate(calls):
        (grant,) = ask(engine, initiate(f"{number}.0"))
        assert grant.seconds == part + posted
        used = min(wanted, grant.seconds)
        ask(engine, ended(f"{number}.0", talk_ms=used * 1000))
        left, posted = left - min(max(used, 1), part), posted - max(used - part, 0)
        assert (pot(engine, account), voice(engine).posted) == ((left, 0), posted)
    proved(engine)
    engine.dispose()
