"""Bundles under any order of gifts, purchases, uses, ends, renewals and crashes: each credit is proved after each step."""

from datetime import timedelta

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from celcombiller.core.audit.report import audit
from celcombiller.core.bundles import bundle_records, expiry, offers
from celcombiller.core.bundles.pots import load_pots
from celcombiller.core.bundles.terms import BundleTerms
from celcombiller.core.errors import BillerError, InsufficientBalance
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.model.tariffs import Service
from celcombiller.core.subscribers import subscriber_records
from tests.support import databases
from tests.support.databases import NOW
from tests.support.properties import share

HOUR = timedelta(hours=1)
PRICE = 30


class Killed(Exception):
    """The process is gone before its commit."""


def die():
    raise Killed


class BundleMachine(RuleBasedStateMachine):
    """Three subscribers, an offer that renews itself, and a clock that only goes on."""

    who = st.integers(1, 3)
    amounts = st.integers(1, 100)

    @initialize()
    def begin(self):
        self.engine, self.now, self.number = self.made(), NOW, 0
        self.holds, self.given = {}, {}
        with self.engine.begin() as tx:
            terms = BundleTerms("offer", BundleKind.SECONDS, 50)
            self.offer = offers.add(tx, terms, price=PRICE, valid_hours=5, renews=True, now=NOW)

    def made(self):
        return databases.sqlite(fill=databases.three_subscribers)

    def teardown(self):
        if hasattr(self, "engine"):
            self.prove()
            self.engine.dispose()

    @rule()
    def prove(self):
        with self.engine.begin() as tx:
            report = audit(tx)
        assert report.ok, report.differences

    def do(self, work, dies=False):
        """Do the work in a transaction; where it ``dies`` nothing of it stays, and it is done again."""
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

    @rule(
        who=who,
        amount=amounts,
        hours=st.integers(1, 6),
        later=st.integers(0, 3),
        again=st.booleans(),
        dies=st.booleans(),
    )
    def give(self, who, amount, hours, later, again, dies):
        self.number += not again
        terms = BundleTerms("gift", BundleKind.SECONDS, amount)

        def work(tx):
            facts = {"valid_hours": hours, "valid_from": self.now + later * HOUR, "reference": f"id:{self.number}"}
            return bundle_records.give(tx, who, terms, **facts, now=self.now)

        done = self.do(work, dies)
        if not isinstance(done, BillerError):
            assert self.given.setdefault(f"id:{self.number}", done[0].account_id) == done[0].account_id

    @rule(who=who, amount=amounts)
    def credit(self, who, amount):
        self.number += 1

        def work(tx):
            account = balances(tx, who)[Kind.VOICE]
            book = Book()
            book.load(tx, [account.id])
            book.post(f"id:{self.number}", 1, account.id, amount, origin="web", now=self.now)
            book.save(tx)

        self.do(work)

    @rule(who=who, dies=st.booleans())
    def buy(self, who, dies):
        self.number += 1
        with self.engine.begin() as tx:
            before = balances(tx, who)[Kind.VOICE].posted

        def work(tx):
            facts = {"reference": f"id:{self.number}", "today": self.now.date(), "now": self.now}
            return bundle_records.buy(tx, who, self.offer, **facts)

        done = self.do(work, dies)
        with self.engine.begin() as tx:
            after = balances(tx, who)[Kind.VOICE].posted
        if before < PRICE:
            assert isinstance(done, BillerError)
        if not isinstance(done, BillerError):
            assert before - after == PRICE
        else:
            assert before == after

    @rule(who=who, amount=amounts)
    def hold(self, who, amount):
        """Hold of the first bundle that is good now, as a call does."""
        self.number += 1

        def work(tx):
            pots = load_pots(tx, [who]).get(who, [])
            good = [each for each in pots if each.is_for(Service.VOICE, "1", on_net=False, at=self.now)]
            if not good:
                raise InsufficientBalance("no bundle")
            book = Book()
            book.load(tx, [good[0].account_id])
            taken = min(amount, book.accounts[good[0].account_id].available)
            book.hold(f"use:{self.number}", good[0].account_id, taken, now=self.now, expires_at=self.now + 9 * HOUR)
            book.save(tx)
            return good[0].account_id, taken

        done = self.do(work)
        if not isinstance(done, BillerError):
            self.holds[f"use:{self.number}"] = done

    @rule(share=st.integers(0, 100))
    def settle(self, share):
        if not self.holds:
            return
        reference, (account_id, held) = self.holds.popitem()

        def work(tx):
            book = Book()
            book.load(tx, [account_id], [reference])
            book.settle(reference, held * share // 100, origin="call", now=self.now)
            book.save(tx)

        assert self.do(work) is None

    @rule(data=st.data(), dies=st.booleans())
    def end(self, data, dies):
        with self.engine.begin() as tx:
            ids = [each.account_id for _, each in bundle_records.list_all(tx, limit=100)]
        if ids:
            chosen = data.draw(st.sampled_from(ids))
            self.do(lambda tx: bundle_records.end(tx, chosen, now=self.now), dies)

    @rule(who=who, enabled=st.booleans())
    def enable(self, who, enabled):
        self.do(lambda tx: subscriber_records.enable(tx, f"u100{who}", self.now, enabled=enabled))

    @rule(hours=st.integers(1, 6))
    def time_goes_on(self, hours):
        self.now += hours * HOUR

    @rule(dies=st.booleans(), limit=st.integers(1, 3))
    def look(self, dies, limit):
        with self.engine.begin() as tx:
            due = expiry.due_renewals(tx, self.now, limit=limit)
        for each in due:
            self.do(lambda tx, each=each: expiry.renew(tx, each, today=self.now.date(), now=self.now), dies)
        with self.engine.begin() as tx:
            ends = expiry.due_ends(tx, self.now, limit=limit)
        self.do(lambda tx: expiry.end_expired(tx, ends, self.now), dies)

    @invariant()
    def nothing_is_spent_twice(self):
        if not hasattr(self, "engine"):
            return
        with self.engine.begin() as tx:
            for _, each in bundle_records.list_all(tx, limit=1000):
                assert 0 <= each.held <= each.posted <= each.amount
                assert each.ended_at is None or each.posted == 0


BundleMachine.TestCase.settings = share(0.4, stateful_step_count=20)
TestBundles = pytest.mark.slow(BundleMachine.TestCase)


@pytest.mark.real
def test_bundles_on_postgresql(cluster):
    """The same on PostgreSQL, fewer times: each example has a database of its own (about 5 s)."""
    with databases.on_postgresql(cluster, databases.three_subscribers) as engine:

        class OnPostgreSQL(BundleMachine):
            def made(self):
                with engine.begin() as tx:
                    for table in ("bundle", "hold", "transfer", "offer", "trail"):
                        tx.execute(sa.text(f"delete from {table}"))
                    tx.execute(sa.text("delete from account where pot > 0"))
                    tx.execute(sa.text("update account set posted = 0, held = 0"))
                    tx.execute(sa.text("update subscriber set enabled = true"))
                return engine

            def teardown(self):
                self.prove()

        run_state_machine_as_test(OnPostgreSQL, settings=share(0.03, stateful_step_count=15, deadline=None))
