"""Payments by example: who gets one, what is refused, and that two nodes credit it once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.access.actor import Actor
from celcombiller.core.audit.report import audit
from celcombiller.core.errors import Forbidden, InvalidValue, NotReady, TransferConflict
from celcombiller.core.ledger.accounts import balances, set_credit_limit
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.subscribers import Level
from celcombiller.core.payments import payment_records
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.transaction import transact
from tests.core.payments.test_payment_properties import ADMIN, receive, reverse, set_currency
from tests.support.databases import NOW

CLARA = Actor("clara", "127.0.0.1", manages=frozenset({Level.SUBSCRIBER}))


@pytest.fixture
def tx(engine):
    with engine.begin() as opened:
        set_currency(opened)
        yield opened
        report = audit(opened)
        assert report.ok, report.differences


def posted(tx, who=1):
    return balances(tx, who)[Kind.VOICE].posted


@pytest.mark.parametrize("recipient", ["1001", "u1001", "+1001", "IMSI724000000001001"])
def test_a_payment_finds_its_subscriber(tx, recipient):
    payment, is_new = receive(tx, 1, recipient)
    assert (is_new, payment.subscriber_id, payment.credits, payment.amount) == (True, 1, 150, "1.5")
    (row,) = tx.execute(sa.select(tables.transfer)).all()
    assert (row.reference, row.origin, row.amount, row.note) == ("payment:mpesa:T1", "payment", 150, "1.5 BRL")
    (trail,) = tx.execute(sa.select(tables.trail)).all()
    assert (trail.actor, trail.action, trail.subject) == ("payment:mpesa", "payment", "subscriber:u1001")


@pytest.mark.parametrize("change", [{"amount": "2"}, {"recipient": "1002"}, {"note": "x"}, {"paid_at": NOW}])
def test_other_content_with_one_id_conflicts(tx, change):
    receive(tx, 1)
    with pytest.raises(TransferConflict):
        receive(tx, 1, **change)
    assert posted(tx) == 150


def test_another_currency_is_refused(tx):
    with pytest.raises(InvalidValue) as refused:
        receive(tx, 1, currency="EUR")
    assert refused.value.fields == {"currency": "must be BRL, or not be there"}
    assert receive(tx, 2, currency="BRL")[1]


def test_a_tariff_of_another_currency_is_not_ready(tx):
    set_currency(tx, "EUR")
    with pytest.raises(NotReady, match="it is EUR"):
        receive(tx, 1)
    tx.execute(sa.delete(tables.tariff))
    with pytest.raises(NotReady, match="there is none"):
        receive(tx, 1)


def test_a_known_payment_needs_no_tariff(tx):
    receive(tx, 1)
    set_currency(tx, "EUR")
    assert receive(tx, 1)[1] is False
    assert posted(tx) == 150


def test_a_deleted_subscribers_payment_waits(tx):
    subscriber_records.delete(tx, "u1001", NOW)
    payment, _ = receive(tx, 1)
    assert (payment.state, payment.subscriber_id) == ("unassigned", None)


def test_a_disabled_subscriber_gets_what_was_paid(tx):
    subscriber_records.enable(tx, "u1001", NOW, enabled=False)
    assert receive(tx, 1)[0].state == "credited"


def test_a_reversal_takes_no_held_or_lent_credit(tx):
    receive(tx, 1)
    own = balances(tx, 1)[Kind.VOICE].id
    set_credit_limit(tx, own, -1000, NOW)
    book = Book()
    book.load(tx, [own])
    book.hold("use:1", own, 100, now=NOW, expires_at=NOW + timedelta(days=1))
    book.save(tx)
    payment = reverse(tx, 1, debt=True)
    assert (payment.taken, payment.debt, posted(tx)) == (50, 100, 100)
    book = Book()
    book.load(tx, [own], ["use:1"])
    book.release("use:1", now=NOW)
    book.save(tx)
    payment = reverse(tx, 1, debt=True)
    assert (payment.taken, payment.debt, posted(tx)) == (150, 0, 0)
    assert reverse(tx, 1, debt=True) == payment


def test_staff_manages_only_its_subscribers_payments(tx):
    tx.execute(sa.update(tables.subscriber).where(tables.subscriber.c.id == 2).values(level=0))
    payment, _ = receive(tx, 1, "nobody")
    with pytest.raises(Forbidden):
        payment_records.assign(tx, payment.id, "u1002", actor=CLARA, now=NOW)
    assert payment_records.assign(tx, payment.id, "u1002", actor=ADMIN, now=NOW).subscriber_id == 2
    facts = {"take_what_is_there": False, "note": "no", "now": NOW}
    with pytest.raises(Forbidden):
        payment_records.reverse_by_staff(tx, payment.id, actor=CLARA, **facts)
    assert payment_records.reverse_by_staff(tx, payment.id, actor=ADMIN, **facts).state == "reversed"


def test_payments_are_listed_by_what_they_are(tx):
    receive(tx, 1)
    receive(tx, 2, "nobody")
    receive(tx, 3, "u1002")
    reverse(tx, 3)

    def listed(**which):
        return [each.provider_id for each, _ in payment_records.list_payments(tx, limit=9, **which)]

    assert listed() == ["T3", "T2", "T1"]
    assert listed(state=payment_records.PaymentState.UNASSIGNED) == ["T2"]
    assert listed(subscriber_id=2) == ["T3"]
    assert listed(provider="other") == listed(in_debt=True) == []
    assert listed(before_id=2) == ["T1"]


def test_the_audit_finds_payments_without_transfers(engine):
    with engine.begin() as tx:
        set_currency(tx)
        receive(tx, 1)
        receive(tx, 2)
        reverse(tx, 2)
    payment, transfer = tables.payment, tables.transfer
    breaks = [
        (sa.update(payment).where(payment.c.id == 1).values(credits=7), "a payment is credited by its transfer"),
        (
            sa.update(payment).where(payment.c.id == 1).values(provider_id="x"),
            "a transfer of a payment has its payment",
        ),
        (
            sa.update(payment).where(payment.c.id == 2).values(taken=0),
            "what a reversed payment gave is taken back or owed",
        ),
        (
            sa.update(payment).where(payment.c.id == 1).values(debt=5),
            "what a reversed payment gave is taken back or owed",
        ),
        (
            sa.update(transfer).where(transfer.c.reference.like("reversal:%")).values(origin="web"),
            "what a reversed payment gave is taken back or owed",
        ),
    ]
    for change, law in breaks:
        with engine.connect() as tx:
            tx.execute(change)
            assert law in {each.law for each in audit(tx).differences}
            tx.rollback()


def test_many_nodes_credit_a_payment_once(engine):
    with engine.begin() as tx:
        set_currency(tx)
    with ThreadPoolExecutor(8) as threads:
        jobs = [threads.submit(transact, engine, lambda tx: receive(tx, 1)) for _ in range(16)]
        done = [job.result() for job in jobs]
    assert sum(is_new for _, is_new in done) == 1
    assert len({payment for payment, _ in done}) == 1
    with engine.begin() as tx:
        assert posted(tx) == 150
