"""Transfers between subscribers: once for a request, out of the payer's own credit, with a fee and limits."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.audit.report import audit
from celcombiller.core.credit_transfers import credit_transfers, transfer_records
from celcombiller.core.credit_transfers.credit_transfers import AGAIN, CODES_MAX, code_of
from celcombiller.core.credit_transfers.transfer_terms import Confirmation, CreditTransferTerms
from celcombiller.core.errors import (
    DayLimitReached,
    InsufficientBalance,
    InvalidValue,
    NotOffered,
    SubscriberDisabled,
    TransferConflict,
    UnknownSubscriber,
    WrongCode,
)
from celcombiller.core.ledger import accounts, reversals
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.messages import Route
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import MessagePolicy
from celcombiller.core.subscribers import subscriber_records
from tests.support import databases
from tests.support.databases import NOW

TERMS = CreditTransferTerms(enabled=True, fee=10)
WAY = MessagePolicy(on_net_route=Route.ASTERISK)
TODAY = NOW.date()
CODE, OTHER = "0" * 26 + "05ba7f", "0" * 26 + "05ba80"
DAY = timedelta(days=1)
STAFF = Actor("command", "root", manages=ALL_LEVELS)


@pytest.fixture
def tx():
    engine = databases.sqlite(fill=databases.three_subscribers)
    with engine.begin() as opened:
        credit(opened, 100)
        yield opened
        report = audit(opened)
        assert report.ok, report.differences
    engine.dispose()


def credit(tx, amount, number="1001"):
    account = balance(tx, number)
    book = Book()
    book.load(tx, [account.id])
    book.post(f"c{amount}{number}", 1, account.id, amount, origin="web", now=NOW)
    book.save(tx)


def who(tx, number="1001"):
    return subscriber_records.find_by_clid(tx, number)


def balance(tx, number="1001"):
    return accounts.balances(tx, who(tx, number).id)[Kind.VOICE]


def posted(tx):
    return [balance(tx, number).posted for number in ("1001", "1002", "1003")]


def ask(tx, amount=50, to="1002", *, terms=TERMS, reference="r", random=CODE, payer="1001", now=NOW, **more):
    return credit_transfers.ask(
        tx,
        terms,
        WAY,
        who(tx, payer),
        to,
        amount,
        actor=Actor(payer, ""),
        reference=reference,
        random=random,
        today=now.date(),
        now=now,
        **more,
    )


def confirm(tx, code=None, *, terms=TERMS, payer="1001", now=NOW, **more):
    return credit_transfers.confirm(
        tx,
        terms,
        WAY,
        who(tx, payer),
        code_of(CODE) if code is None else code,
        actor=Actor(payer, ""),
        today=now.date(),
        now=now,
        **more,
    )


def texts(tx):
    rows = tx.execute(sa.select(tables.message).order_by(tables.message.c.id))
    return [(row.to_number, row.text) for row in rows]


def test_a_confirmed_transfer_moves_amount_and_fee(tx):
    assert ask(tx).state == "asked"
    assert posted(tx) == [100, 0, 0]
    assert texts(tx) == [("1001", f"Send {code_of(CODE)} to this number to give 50 s to 1002. It costs you 10 s.")]
    made = confirm(tx).unwrap()
    assert (made.state, made.amount, made.fee, made.made_on) == ("made", 50, 10, TODAY)
    assert posted(tx) == [40, 50, 0]
    assert texts(tx)[1:] == [("1002", "1001 has given you 50 s. Your balance is 50 s.")]
    (row,) = tx.execute(sa.select(tables.trail)).all()
    assert (row.actor, row.action, row.subject) == ("1001", "transfer credit", "subscriber:u1001")
    assert code_of(CODE) not in row.after
    origins = tx.execute(sa.select(tables.transfer.c.origin, tables.transfer.c.amount).order_by(tables.transfer.c.id))
    assert origins.all()[1:] == [("credit_transfer", 50), ("transfer_fee", 10)]


def test_repeats_of_both_steps_change_nothing(tx):
    first = ask(tx)
    assert ask(tx, random=OTHER) == first
    assert confirm(tx).is_new
    again = confirm(tx)
    assert (again.unwrap().id, again.is_new) == (first.id, False)
    assert ask(tx, random=OTHER).state == "made"
    assert posted(tx) == [40, 50, 0]
    with pytest.raises(TransferConflict):
        ask(tx, 51)


def test_a_lost_code_is_sent_anew(tx):
    ask(tx)
    ask(tx, random=OTHER, now=NOW + AGAIN)
    assert [text[5:11] for _, text in texts(tx)] == [code_of(CODE), code_of(OTHER)]
    assert isinstance(confirm(tx, now=NOW + AGAIN).refusal, WrongCode)
    assert confirm(tx, code_of(OTHER), now=NOW + AGAIN).unwrap().state == "made"


def test_codes_are_sent_a_few_times_only(tx):
    for number in range(CODES_MAX + 3):
        ask(tx, random=f"{number:x}", now=NOW + number * AGAIN)
    assert len(texts(tx)) == CODES_MAX


def test_three_wrong_codes_cancel_it(tx):
    ask(tx)
    refusals = [str(confirm(tx, "000000").refusal) for _ in range(4)]
    assert refusals[:2] == ["this is not the code"] * 2
    assert "cancelled" in refusals[2]
    assert "no transfer waits" in refusals[3]
    assert isinstance(confirm(tx).refusal, WrongCode)
    assert posted(tx) == [100, 0, 0]


def test_a_late_code_is_refused(tx):
    ask(tx)
    assert isinstance(confirm(tx, now=NOW + TERMS.validity).refusal, WrongCode)
    assert transfer_records.cancel_expired(tx, NOW + TERMS.validity) == 1
    assert isinstance(confirm(tx).refusal, WrongCode)


def test_a_new_request_cancels_the_one_that_waits(tx):
    ask(tx)
    ask(tx, 20, reference="s", random=OTHER)
    assert isinstance(confirm(tx).refusal, WrongCode)
    assert confirm(tx, code_of(OTHER)).unwrap().amount == 20


def test_the_code_of_another_subscriber_is_wrong(tx):
    credit(tx, 100, "1002")
    ask(tx)
    assert isinstance(confirm(tx, payer="1002").refusal, WrongCode)
    ask(tx, 20, "1003", payer="1002", reference="s", random=OTHER)
    assert isinstance(confirm(tx, payer="1002").refusal, WrongCode)
    assert posted(tx) == [100, 100, 0]


@pytest.mark.parametrize(
    ("amount", "to", "terms", "error"),
    [
        (50, "1002", replace(TERMS, enabled=False), NotOffered),
        (50, "1001", TERMS, InvalidValue),
        (50, "4711", TERMS, UnknownSubscriber),
        (50, "", TERMS, UnknownSubscriber),
        (0, "1002", TERMS, InvalidValue),
        (-5, "1002", TERMS, InvalidValue),
        (4, "1002", replace(TERMS, least=5), InvalidValue),
        (51, "1002", replace(TERMS, most=50), InvalidValue),
        (91, "1002", TERMS, InsufficientBalance),
        (10**20, "1002", TERMS, InsufficientBalance),
        (50, "1002", replace(TERMS, day_limit=49), DayLimitReached),
    ],
)
def test_a_refused_request_leaves_nothing(tx, amount, to, terms, error):
    with pytest.raises(error):
        ask(tx, amount, to, terms=terms)
    assert posted(tx) == [100, 0, 0]
    assert texts(tx) == []
    assert transfer_records.list_all(tx, limit=5) == []


@pytest.mark.parametrize("number", ["1001", "1002"])
def test_neither_side_may_be_disabled(tx, number):
    ask(tx)
    subscriber_records.change(tx, f"u{number}", {"enabled": False}, NOW)
    for attempt in (confirm, lambda tx: ask(tx, reference="s")):
        with pytest.raises(SubscriberDisabled):
            attempt(tx)


def test_a_deleted_recipient_gets_nothing(tx):
    ask(tx)
    subscriber_records.delete(tx, "u1002", NOW)
    with pytest.raises(UnknownSubscriber):
        confirm(tx)
    assert balance(tx).posted == 100


def test_held_and_lent_credit_stays(tx):
    account = balance(tx)
    accounts.set_credit_limit(tx, account.id, -1000, NOW)
    book = Book()
    book.load(tx, [account.id])
    book.hold("h", account.id, 50, now=NOW, expires_at=NOW + DAY)
    book.save(tx)
    with pytest.raises(InsufficientBalance, match="50 s is there"):
        ask(tx, 41)
    ask(tx, 40)
    assert confirm(tx).unwrap().amount == 40
    assert balance(tx).posted == 50


def test_credit_spent_before_the_code_is_missed(tx):
    ask(tx)
    credit(tx, 1, "1003")
    credit_transfers.give(tx, TERMS, WAY, STAFF, who(tx), "1003", 80, reference="g", is_free=True, today=TODAY, now=NOW)
    with pytest.raises(InsufficientBalance):
        confirm(tx)
    assert posted(tx) == [20, 0, 81]


def test_the_limit_of_the_day_counts_amounts(tx):
    terms = replace(TERMS, day_limit=60)
    ask(tx, 40, terms=terms)
    confirm(tx, terms=terms)
    with pytest.raises(DayLimitReached, match="20 s more"):
        ask(tx, 21, terms=terms, reference="s")
    ask(tx, 20, terms=terms, reference="t", now=NOW + DAY)
    assert confirm(tx, terms=terms, now=NOW + DAY).unwrap().made_on == TODAY + DAY


def test_fees_of_a_percentage_are_rounded_up(tx):
    terms = replace(TERMS, fee=1, fee_percent=10)
    assert [terms.fee_of(amount) for amount in (1, 10, 11, 50)] == [2, 2, 3, 6]


def test_without_confirmation_it_is_made_at_once(tx):
    assert ask(tx, terms=replace(TERMS, confirmation=Confirmation.NONE)).state == "made"
    assert posted(tx) == [40, 50, 0]


def test_a_pin_confirms_where_there_is_one(tx):
    terms = replace(TERMS, confirmation=Confirmation.PIN)
    ask(tx, terms=terms, has_pin=True)
    assert texts(tx) == [("1001", "Send your PIN to this number to give 50 s to 1002. It costs you 10 s.")]
    assert credit_transfers.waits_for_pin(tx, who(tx).id, NOW)
    assert isinstance(confirm(tx, "1234", terms=terms).refusal, WrongCode)
    assert confirm(tx, "1234", terms=terms, pin_is_right=True).unwrap().state == "made"
    assert not credit_transfers.waits_for_pin(tx, who(tx).id, NOW)
    ask(tx, 20, terms=terms, reference="s")
    assert not credit_transfers.waits_for_pin(tx, who(tx).id, NOW)


def test_staff_need_no_code_and_keep_no_limits(tx):
    terms = replace(TERMS, enabled=False, most=10, day_limit=10)
    facts = {"reference": "g", "note": "at the office", "today": TODAY, "now": NOW}
    made = credit_transfers.give(tx, terms, WAY, STAFF, who(tx), "+1002", 50, **facts)
    assert credit_transfers.give(tx, terms, WAY, STAFF, who(tx), "1002", 50, **facts) == made
    assert (made.fee, made.day_limit, posted(tx)) == (10, None, [40, 50, 0])
    with pytest.raises(TransferConflict):
        credit_transfers.give(tx, terms, WAY, STAFF, who(tx), "1002", 49, **facts)


def test_reversals_give_it_back(tx):
    ask(tx)
    made = confirm(tx).unwrap()
    for reference in (transfer_records.transfer_reference(made.id), transfer_records.fee_reference(made.id)):
        reversals.reverse(tx, reference, note="wrong number", now=NOW)
    assert posted(tx) == [100, 0, 0]


@pytest.mark.parametrize(
    ("damage", "law"),
    [
        ("update credit_transfer set amount = 51", "a transfer moves its credit"),
        ("update credit_transfer set fee = 11", "a transfer has its fee"),
        (
            "update credit_transfer set state = 'cancelled', made_on = null, day_limit = null",
            "credit moves for a transfer that was made",
        ),
        ("update credit_transfer set day_limit = 49", "transfers keep the limit of their day"),
    ],
)
def test_the_audit_finds_damage(damage, law):
    engine = databases.sqlite(fill=databases.three_subscribers)
    with engine.begin() as tx:
        credit(tx, 100)
        ask(tx)
        confirm(tx)
        tx.exec_driver_sql(damage)
        assert law in {each.law for each in audit(tx).differences}
    engine.dispose()


def test_staff_give_nobody_their_own_credit(tx):
    own = who(tx).clid
    with pytest.raises(InvalidValue):
        credit_transfers.give(tx, TERMS, WAY, STAFF, who(tx), own, 10, reference="own", today=TODAY, now=NOW)
