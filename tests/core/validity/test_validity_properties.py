"""Credit ends when a plain model says so: under any order of credits, calls, looks, crashes, settings and clock steps."""

from datetime import date, timedelta

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from twisted.internet.task import Clock

from celcombiller.core.audit.report import audit
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.ledger.balance_format import BalanceStyle
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.messages import Route
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import MessagePolicy
from celcombiller.core.validity import end_dates, expiry
from celcombiller.core.validity.validity_terms import ValidityTerms
from celcombiller.jobs.credit_validity import CreditValidityService
from celcombiller.runtime.metrics import Metrics
from tests.support import databases
from tests.support.databases import NOW
from tests.support.properties import share
from tests.support.schedules import drive

HOUR = timedelta(hours=1)
DAY = 24 * HOUR
SMS = MessagePolicy(on_net_route=Route.ASTERISK, sender="biller")
TOP_UPS = ("web", "cash", "my own word")
OTHERS = ("reversal", "credit_transfer")


class Node:
    """The service of one biller; it may die before or after a commit."""

    def __init__(self, engine, days, now, notice_days=0, zone="UTC", policy=SMS):
        self.engine, self.now, self.left, self.after = engine, now, None, False
        self.metrics = Metrics()
        self.service = CreditValidityService(
            Clock(),
            ValidityTerms({Kind.VOICE: days} if days else {}, zone=zone, notice_days=notice_days),
            BalanceStyle(as_time=False),
            policy,
            transact=self.transact,
            read=self.read,
            now=lambda: self.now,
            metrics=self.metrics,
        )

    async def transact(self, work):
        if self.left is not None:
            self.left -= 1
        dies = self.left == 0
        with self.engine.begin() as tx:
            done = work(tx)
            if dies and not self.after:
                raise StoreUnavailable("killed before the commit")
        if dies:
            raise StoreUnavailable("killed after the commit")
        return done

    async def read(self, work):
        with self.engine.begin() as tx:
            return work(tx)

    def look(self, now, *, dies_at=None, after=False):
        """Look, or die at a transaction; return whether all was done."""
        self.now, self.left, self.after = now, dies_at, after
        try:
            drive(self.service.look())
        except StoreUnavailable:
            return False
        return True

    def count(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, labels)


class Model:
    """One account, as a bookkeeper would keep it with pencil and paper."""

    def __init__(self):
        self.posted = self.held = self.taken = 0
        self.counted = self.extended = None
        self.ended = False
        self.unread = []

    def read(self, now, begins):
        """Note what was credited since the last look."""
        for others in (True, False):
            times = [at for at, origin in self.unread if (origin in OTHERS) == others]
            if not times:
                continue
            at = max(times) if max(times) >= now - DAY else now
            if self.counted is None or (others and self.ended):
                self.counted = at
            elif not others:
                self.counted = max(self.counted, at)
            self.ended = False
        self.unread = []
        if begins and self.counted is None and self.posted > 0:
            self.counted = now

    def last_day(self, since, days):
        last = max(self.counted, since).date() + timedelta(days=days)
        return max(last, self.extended or date.min)

    def end(self, now, since, days):
        if self.counted is None or self.ended or self.last_day(since, days) >= now.date():
            return
        free = max(0, self.posted - self.held)
        self.posted -= free
        self.taken += free
        self.ended = self.held == 0


class ValidityMachine(RuleBasedStateMachine):
    """Three subscribers, two nodes, and an operator who changes their mind."""

    who = st.integers(1, 3)
    amounts = st.integers(1, 100)

    @initialize(days=st.integers(1, 4))
    def begin(self, days):
        self.engine, self.now, self.number = self.made(), NOW, 0
        self.models = {each: Model() for each in (1, 2, 3)}
        self.holds = {}
        self.days, self.since, self.looked_at, self.paused = 0, None, None, None
        self.chosen(days)

    def made(self):
        return databases.sqlite(fill=databases.three_subscribers)

    def teardown(self):
        if hasattr(self, "engine"):
            self.engine.dispose()

    def chosen(self, days):
        self.setting = days
        self.nodes = [Node(self.engine, days, self.now) for _ in range(2)]

    def account(self, tx, who):
        return balances(tx, who)[Kind.VOICE]

    def move(self, who, amount, origin, *, beyond_floor=False):
        self.number += 1
        with self.engine.begin() as tx:
            account, book = self.account(tx, who), Book()
            book.load(tx, [account.id])
            sides = (1, account.id) if amount > 0 else (account.id, 1)
            note = "beyond" if beyond_floor else ""
            facts = {"origin": origin, "now": self.now, "note": note, "beyond_floor": beyond_floor}
            made = book.post(f"id:{self.number}", *sides, abs(amount), **facts)
            book.save(tx)
        self.models[who].posted += amount
        return made

    @rule(who=who, amount=amounts, origin=st.sampled_from(TOP_UPS + OTHERS))
    def credit(self, who, amount, origin):
        self.move(who, amount, origin)
        self.models[who].unread.append((self.now, origin))

    @rule(who=who, amount=amounts)
    def sell_and_undo(self, who, amount):
        """Leave nothing behind."""
        made = self.move(who, amount, "sale")
        with self.engine.begin() as tx:
            book = Book()
            book.load(tx, [made.debit_account_id, made.credit_account_id])
            book.undo(made, now=self.now)
            book.save(tx)
        self.models[who].posted -= amount

    @rule(who=who, amount=amounts)
    def spend(self, who, amount):
        """Spend, beyond the floor too, as a late settlement does."""
        self.move(who, -amount, "call", beyond_floor=True)

    @rule(who=who, amount=amounts)
    def hold(self, who, amount):
        model = self.models[who]
        amount = min(amount, model.posted - model.held)
        if amount <= 0:
            return
        self.number += 1
        with self.engine.begin() as tx:
            account, book = self.account(tx, who), Book()
            book.load(tx, [account.id])
            book.hold(f"use:{self.number}", account.id, amount, now=self.now, expires_at=self.now + 9 * DAY)
            book.save(tx)
        model.held += amount
        self.holds[f"use:{self.number}"] = (who, amount)

    @rule(share=st.integers(0, 100))
    def settle(self, share):
        if not self.holds:
            return
        reference, (who, amount) = self.holds.popitem()
        with self.engine.begin() as tx:
            account, book = self.account(tx, who), Book()
            book.load(tx, [account.id], [reference])
            book.settle(reference, amount * share // 100, origin="call", now=self.now)
            book.save(tx)
        self.models[who].held -= amount
        self.models[who].posted -= amount * share // 100

    @rule(who=who, days=st.integers(0, 9))
    def extend(self, who, days):
        until, model = self.now.date() + timedelta(days=days), self.models[who]
        with self.engine.begin() as tx:
            account, book = self.account(tx, who), Book()
            book.load(tx, [account.id])
            end_dates.keep_valid_until(tx, account.id, until, self.now)
        if model.counted is None:
            model.counted = self.now
        model.extended = max(until, model.extended or date.min)
        model.ended = False

    @rule(hours=st.integers(1, 14))
    def time_goes_on(self, hours):
        self.now += hours * HOUR

    @rule(days=st.integers(-9, 9))
    def clock_is_set(self, days):
        self.now += days * DAY

    @rule(days=st.integers(0, 4))
    def operator_chooses(self, days):
        self.chosen(days)

    @rule(node=st.integers(0, 1), dies_at=st.none() | st.integers(1, 4), after=st.booleans())
    def look(self, node, dies_at, after):
        if not self.nodes[node].look(self.now, dies_at=dies_at, after=after):
            assert self.nodes[1 - node].look(self.now)
        self.look_of_the_model()
        self.all_is_proved()
        with self.engine.begin() as tx:
            for who, model in self.models.items():
                found = self.account(tx, who)
                assert (found.posted, found.held) == (model.posted, model.held), (who, vars(model))
                day = end_dates.read_last_day(tx, found, "UTC")
                assert day == (model.last_day(self.since, self.days) if self.days and found.posted > 0 else None)

    def look_of_the_model(self):
        opens = self.change_terms()
        if not self.days:
            return
        for model in self.models.values():
            model.read(self.now, opens)
            if self.since <= self.now and (self.paused is None or self.paused <= self.now):
                model.end(self.now, self.since, self.days)

    def change_terms(self):
        """Follow the setting; return whether all accounts are entered again."""
        if not self.setting:
            self.days = 0
            return False
        opens = False
        if not self.days:
            self.since, self.looked_at, self.paused, opens = self.now, self.now, None, True
            for model in self.models.values():
                model.unread = []  # it counts from now, with the rest
        else:
            if self.setting < self.days or self.since > self.now:
                self.since, opens = self.now, True
            gap = self.now - self.looked_at
            if gap > DAY:
                self.paused = self.now + 2 * DAY
            elif self.paused is not None:
                self.paused = None if self.paused <= self.now else min(self.paused, self.now + 2 * DAY)
            if gap >= HOUR or gap < timedelta(0):
                self.looked_at = self.now
        self.days = self.setting
        return opens

    def all_is_proved(self):
        with self.engine.begin() as tx:
            differences = audit(tx).differences  # credit moves here without what moves it in the real ledger
            assert [each for each in differences if each.law != "credit moves for a transfer that was made"] == []
            expired = sa.select(sa.func.coalesce(sa.func.sum(tables.transfer.c.amount), 0))
            total = tx.execute(expired.where(tables.transfer.c.reference.like(f"{expiry.CREDIT}%"))).scalar_one()
            assert total == sum(model.taken for model in self.models.values())


ValidityMachine.TestCase.settings = share(0.4, stateful_step_count=30)
TestValidity = pytest.mark.slow(ValidityMachine.TestCase)


@pytest.mark.real
def test_validity_on_postgresql(cluster):
    """The same on PostgreSQL, fewer times (about 5 s)."""
    with databases.on_postgresql(cluster, databases.three_subscribers) as engine:

        class OnPostgreSQL(ValidityMachine):
            def made(self):
                with engine.begin() as tx:
                    for table in ("credit_expiry", "credit_validity", "credit_validity_terms", "bookmark", "hold"):
                        tx.execute(sa.text(f"delete from {table}"))
                    tx.execute(sa.text("delete from transfer"))
                    tx.execute(sa.text("update account set posted = 0, held = 0"))
                return engine

            def teardown(self):
                pass

        run_state_machine_as_test(OnPostgreSQL, settings=share(0.03, stateful_step_count=20, deadline=None))
