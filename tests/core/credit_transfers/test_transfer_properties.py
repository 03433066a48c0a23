"""Transfers under any order of requests, codes, repeats, crashes and days: no credit is made or lost."""

from dataclasses import replace
from datetime import timedelta

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from celcombiller.core.audit.report import audit
from celcombiller.core.credit_transfers.credit_transfers import code_of
from celcombiller.core.errors import BillerError
from tests.core.credit_transfers import test_credit_transfers as one
from tests.support import databases
from tests.support.databases import NOW
from tests.support.properties import share

NUMBERS = ("1001", "1002", "1003")
TERMS = replace(one.TERMS, fee=1, fee_percent=5, most=60, day_limit=100)


class Killed(Exception):
    """The process is gone before its commit."""


def die():
    raise Killed


class TransferMachine(RuleBasedStateMachine):
    """Three subscribers with 200 credits each, beside a model in plain Python."""

    numbers = st.sampled_from(NUMBERS)
    forms = st.sampled_from(["{}", "+{}", "00{}", "tel:{}", " {}", "O{}", "{}#"])

    @initialize()
    def begin(self):
        self.engine, self.now, self.count = databases.sqlite(fill=databases.three_subscribers), NOW, 0
        self.balances, self.waiting, self.requests = dict.fromkeys(NUMBERS, 200), {}, []
        with self.engine.begin() as tx:
            for number in NUMBERS:
                one.credit(tx, 200, number)

    def teardown(self):
        if hasattr(self, "engine"):
            self.prove()
            self.engine.dispose()

    @rule()
    def prove(self):
        with self.engine.begin() as tx:
            report = audit(tx)
        assert report.ok, report.differences

    def do(self, work, dies):
        """Do the work in a transaction; where it ``dies`` nothing of it stays, and it is done again."""
        try:
            with self.engine.begin() as tx:
                done = work(tx)
                if dies:
                    die()
                return done
        except Killed:
            with self.engine.begin() as tx:
                return work(tx)

    @rule(payer=numbers, to=numbers, form=forms, amount=st.integers(-1, 70), dies=st.booleans())
    def ask(self, payer, to, form, amount, dies):
        self.count += 1
        self.requests.append((payer, form.format(to), amount, f"r{self.count}", f"{self.count:032x}"))
        self.send(self.requests[-1], dies)

    def send(self, request, dies):
        payer, to, amount, reference, random = request
        try:
            asked = self.do(
                lambda tx: one.ask(
                    tx, amount, to, terms=TERMS, payer=payer, reference=reference, random=random, now=self.now
                ),
                dies,
            )
        except BillerError:
            return
        if asked.state == "asked" and asked.asked_at == self.now:
            self.waiting[payer] = (to.strip("+tel:")[-4:], amount, asked.fee, code_of(random))

    @rule(data=st.data(), dies=st.booleans())
    def repeat(self, data, dies):
        if self.requests:
            self.send(data.draw(st.sampled_from(self.requests)), dies)

    @rule(payer=numbers, wrong=st.booleans(), dies=st.booleans())
    def confirm(self, payer, wrong, dies):
        to, amount, fee, code = self.waiting.get(payer, ("", 0, 0, "000000"))
        try:
            confirmed = self.do(
                lambda tx: one.confirm(tx, "x" if wrong else code, terms=TERMS, payer=payer, now=self.now), dies
            )
        except BillerError:
            return
        if confirmed.is_new:
            self.waiting.pop(payer)
            self.balances[payer] -= amount + fee
            self.balances[to] += amount

    @rule(minutes=st.sampled_from([1, 11, 24 * 60]))
    def wait(self, minutes):
        self.now += timedelta(minutes=minutes)

    @invariant()
    def books_are_as_the_model(self):
        if not hasattr(self, "engine"):
            return
        with self.engine.begin() as tx:
            assert dict(zip(NUMBERS, one.posted(tx), strict=True)) == self.balances


def test_any_order_of_transfers_keeps_the_books():
    run_state_machine_as_test(TransferMachine, settings=share(0.3, stateful_step_count=15, deadline=None))
