"""Payments under any order of notices, repeats, reversals, assignments, uses and crashes: as a plain model says."""

from datetime import timedelta

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.audit.report import audit
from celcombiller.core.errors import (
    BillerError,
    InsufficientBalance,
    InvalidValue,
    NotFound,
    TransferConflict,
    UnknownSubscriber,
)
from celcombiller.core.ledger import reversals
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import Kind
from celcombiller.core.payments import payment_records
from celcombiller.core.payments.payment_records import PaymentNotice
from celcombiller.core.schema import tables
from tests.support import databases
from tests.support.databases import NOW
from tests.support.properties import share

ADMIN = Actor("admin", "127.0.0.1", manages=ALL_LEVELS)
PROVIDER = Actor("payment:mpesa", "10.0.0.1")
PER_UNIT = 100


class Killed(Exception):
    """The process is gone before its commit."""


def die():
    raise Killed


def set_currency(tx, currency="BRL", per_unit=PER_UNIT):
    tx.execute(sa.delete(tables.tariff))
    facts = {"name": "t", "currency": currency, "credits_per_unit": per_unit, "time_zone": "UTC"}
    tx.execute(sa.insert(tables.tariff).values(facts | {"is_default": True, "created_at": NOW}))


def receive(tx, number, recipient="1001", amount="1.50", now=NOW, **more):
    notice = PaymentNotice("mpesa", f"T{number}", recipient, amount, **more)
    return payment_records.receive(tx, notice, currency="BRL", actor=PROVIDER, now=now)


def reverse(tx, number, *, debt=False, now=NOW, note="back"):
    was = payment_records.find_by_provider(tx, "mpesa", f"T{number}")
    return payment_records.reverse(tx, was, take_what_is_there=debt, actor=PROVIDER, note=note, now=now)


class PaymentMachine(RuleBasedStateMachine):
    """Three subscribers, a provider that repeats itself, and staff."""

    numbers = st.integers(1, 6)
    who = st.integers(1, 3)
    recipients = st.sampled_from(["1001", "u1002", "+1003", "999", "nobody"])
    amounts = st.sampled_from(["1", "0.5", "1.50", "1.500", "0.001", "01"])

    @initialize()
    def begin(self):
        self.engine, self.now, self.count = self.made(), NOW, 0
        self.posted = {1: 0, 2: 0, 3: 0}
        self.payments = {}
        with self.engine.begin() as tx:
            set_currency(tx)

    def made(self):
        return databases.sqlite(fill=databases.three_subscribers)

    def teardown(self):
        if hasattr(self, "engine"):
            self.proved()
            self.engine.dispose()

    def proved(self):
        with self.engine.begin() as tx:
            report = audit(tx)
        assert report.ok, report.differences

    def do(self, work, dies=False):
        self.now += timedelta(seconds=1)
        for attempt in (True, False) if dies else (False,):
            try:
                with self.engine.begin() as tx:
                    done = work(tx)
                    if attempt:
                        die()
            except Killed:
                continue
            except BillerError as refusal:
                return refusal
            return done
        return None

    @rule(number=numbers, recipient=recipients, amount=amounts, dies=st.booleans())
    def report(self, number, recipient, amount, dies):
        done = self.do(lambda tx: receive(tx, number, recipient, amount, self.now), dies)
        known = self.payments.get(number)
        worth = {"1": 100, "01": 100, "0.5": 50, "1.50": 150, "1.500": 150, "0.001": None}[amount]
        if known is not None and (known["recipient"], known["worth"]) != (recipient, worth):
            assert isinstance(done, TransferConflict)
        elif worth is None:
            assert isinstance(done, InvalidValue)
        else:
            payment, is_new = done
            assert is_new == (known is None)
            if known is None:
                owner = {"1001": 1, "u1002": 2, "+1003": 3}.get(recipient)
                self.payments[number] = known = {
                    "recipient": recipient, "worth": worth, "owner": owner, "taken": 0, "debt": 0, "reversed": False
                }  # fmt: skip
                if owner is not None:
                    self.posted[owner] += worth
            self.same(payment, known)

    @rule(number=numbers, debt=st.booleans(), dies=st.booleans())
    def give_back(self, number, debt, dies):
        done = self.do(lambda tx: reverse(tx, number, debt=debt, now=self.now), dies)
        known = self.payments.get(number)
        if known is None:
            assert isinstance(done, NotFound)
            return
        if known["owner"] is None or (known["reversed"] and not known["debt"]):
            known["reversed"] = True
        else:
            wanted = known["debt"] if known["reversed"] else known["worth"]
            there = max(0, min(wanted, self.posted[known["owner"]]))
            if there < wanted and not debt:
                assert isinstance(done, InsufficientBalance)
                return
            self.posted[known["owner"]] -= there
            known |= {"reversed": True, "taken": known["taken"] + there, "debt": wanted - there}
        self.same(done, known)

    @rule(number=numbers, to=st.sampled_from(["u1001", "1002", "nobody"]), dies=st.booleans())
    def assign(self, number, to, dies):
        def work(tx):
            found = payment_records.find_by_provider(tx, "mpesa", f"T{number}")
            return payment_records.assign(tx, found.id, to, actor=ADMIN, now=self.now)

        done, known = self.do(work, dies), self.payments.get(number)
        owner = {"u1001": 1, "1002": 2}.get(to)
        if known is None:
            assert isinstance(done, NotFound)
        elif owner is None:
            assert isinstance(done, UnknownSubscriber)
        elif known["reversed"] or known["owner"] not in (None, owner):
            assert isinstance(done, TransferConflict)
        else:
            if known["owner"] is None:
                self.posted[owner] += known["worth"]
                known["owner"] = owner
            self.same(done, known)

    @rule(number=numbers)
    def staff_reverses_the_transfer(self, number):
        """By the way of every transfer; the provider's own reversal later changes nothing more."""
        known = self.payments.get(number)
        if known is None or known["owner"] is None or known["reversed"] or known["worth"] > self.posted[known["owner"]]:
            return
        self.do(lambda tx: reversals.reverse(tx, f"payment:mpesa:T{number}", note="by hand", now=self.now))
        self.posted[known["owner"]] -= known["worth"]
        assert self.do(lambda tx: reverse(tx, number, now=self.now)).taken == known["worth"]
        known |= {"reversed": True, "taken": known["worth"]}

    @rule(who=who, amount=st.integers(1, 200))
    def spend(self, who, amount):
        """Spend, beyond the floor too, as a late settlement does."""
        self.count += 1

        def work(tx):
            account, book = balances(tx, who)[Kind.VOICE], Book()
            book.load(tx, [account.id])
            facts = {"origin": "spent", "now": self.now, "note": "talk", "beyond_floor": True}
            book.post(f"id:{self.count}", account.id, 1, amount, **facts)
            book.save(tx)

        assert self.do(work) is None
        self.posted[who] -= amount

    def same(self, payment, known):
        state = "reversed" if known["reversed"] else "unassigned" if known["owner"] is None else "credited"
        assert (payment.state, payment.subscriber_id, payment.credits, payment.taken, payment.debt) == (
            state, known["owner"], known["worth"], known["taken"], known["debt"]
        )  # fmt: skip

    @invariant()
    def balances_are_the_models(self):
        if not hasattr(self, "engine"):
            return
        with self.engine.begin() as tx:
            assert {who: balances(tx, who)[Kind.VOICE].posted for who in self.posted} == self.posted
            waiting = [each for each in self.payments.values() if each["owner"] is None and not each["reversed"]]
            assert payment_records.count_unassigned(tx) == len(waiting)


PaymentMachine.TestCase.settings = share(0.4, stateful_step_count=20)
TestPayments = pytest.mark.slow(PaymentMachine.TestCase)


@pytest.mark.real
def test_payments_on_postgresql(cluster):
    """The same on PostgreSQL, fewer times (about 5 s)."""
    with databases.on_postgresql(cluster, databases.three_subscribers) as engine:

        class OnPostgreSQL(PaymentMachine):
            def made(self):
                with engine.begin() as tx:
                    for table in ("payment", "transfer", "trail"):
                        tx.execute(sa.text(f"delete from {table}"))
                    tx.execute(sa.text("update account set posted = 0, held = 0"))
                return engine

            def teardown(self):
                self.proved()

        run_state_machine_as_test(OnPostgreSQL, settings=share(0.03, stateful_step_count=20, deadline=None))
