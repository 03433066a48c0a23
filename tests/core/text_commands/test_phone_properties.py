"""Commands of phones in any order, repeated, late, forged and cut off by crashes: credit and sales beside a plain model."""

from dataclasses import replace
from datetime import timedelta

import hypothesis.strategies as st
import sqlalchemy as sa
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from celcombiller.core.audit.report import audit
from celcombiller.core.credit_transfers.transfer_terms import CreditTransferTerms
from celcombiller.core.errors import BillerError
from celcombiller.core.schema import tables
from tests.support import databases
from tests.support.databases import NOW
from tests.support.properties import share
from tests.support.selling.phones import PIN, RULES, request, serve, set_pin
from tests.support.selling.sellers import add_seller, stock_of, voice_of

SELLERS, STOCK = ("1001", "1002"), 300
TERMS = replace(RULES, transfers=CreditTransferTerms(enabled=True, fee=2), per_minute_max=1000)


class Killed(Exception):
    """The process is gone before its commit."""


class PhoneMachine(RuleBasedStateMachine):
    """Two sellers, a third subscriber, and messages that come again, late, or from who is not their sender."""

    senders = st.sampled_from(("1001", "1002", "1003"))
    numbers = st.sampled_from(("1001", "+1002", "001003", "1003", "4711", "O003"))
    amounts = st.sampled_from(("5", " 5 ", "+5", "\u0665", "7", "1,5", "-5", "five", "400", "1.234"))
    pins = st.sampled_from((PIN, PIN, PIN, "1111"))

    @initialize()
    def begin(self):
        self.engine, self.now, self.sent = databases.sqlite(fill=databases.three_subscribers), NOW, []
        self.sold, self.codes = [], []
        with self.engine.begin() as tx:
            for number in SELLERS:
                add_seller(tx, f"u{number}", stock=STOCK)
                set_pin(tx, f"u{number}")

    def teardown(self):
        if hasattr(self, "engine"):
            self.engine.dispose()

    def send(self, asked, dies=-1):
        """Serve it; where it ``dies`` at this commit nothing of it stays, and the same message comes again."""
        countdown = [dies]

        def die():
            countdown[0] -= 1
            if countdown[0] == -1:
                raise Killed

        try:
            return serve(self.engine, asked, rules=TERMS, now=self.now, dies=die if dies >= 0 else None)
        except Killed:
            return serve(self.engine, asked, rules=TERMS, now=self.now)
        except BillerError as refusal:
            return refusal

    @rule(
        sender=senders,
        pin=pins,
        number=numbers,
        amount=amounts,
        trusted=st.sampled_from((True, True, False)),
        hours=st.sampled_from((0, 0, 25)),
        dies=st.integers(-1, 1),
    )
    def sell(self, sender, pin, number, amount, trusted, hours, dies):
        text = f"{pin}#{number}#{amount}"
        asked = request(text, sender, is_trusted=trusted, sent_at=self.now - timedelta(hours=hours))
        answered = self.send(asked, dies)
        self.sent.append(asked)
        may_sell = trusted and hours == 0 and pin == PIN and sender in SELLERS and amount.strip() not in ("1,5", "-5")
        words = (sender, number[-4:], 7 if amount == "7" else 5)
        if answered.result == "done":
            assert may_sell
            assert number not in ("4711", "O003")
            assert not any(words == each and self.now - at < timedelta(minutes=1) for each, at in self.sold)
            self.sold.append((words, self.now))
        elif answered.result == "asked":
            assert any(words == each and self.now - at < timedelta(minutes=1) for each, at in self.sold)
            self.codes.append((sender, answered.code, words))

    @rule(data=st.data(), dies=st.integers(-1, 1))
    def repeat(self, data, dies):
        """The same message again, from the same sender, does nothing."""
        if self.sent:
            before = self.state()
            self.send(data.draw(st.sampled_from(self.sent)), dies)
            assert self.state() == before

    @rule(data=st.data(), sender=senders, dies=st.integers(-1, 0))
    def confirm(self, data, sender, dies):
        code = data.draw(st.sampled_from([*(each[1] for each in self.codes), "0000"]))
        answered = self.send(request(code, sender), dies)
        if answered.result == "done":
            mine = [each for each in self.codes if each[:2] == (sender, code)]
            assert mine
            if mine[-1] not in self.confirmed:
                self.confirmed.append(mine[-1])
                self.sold.append((mine[-1][2], self.now))

    @rule(seconds=st.sampled_from([1, 30, 61, 1200, 90_000]))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    @property
    def confirmed(self):
        return self.__dict__.setdefault("_confirmed", [])

    def state(self):
        with self.engine.connect() as tx:
            return [stock_of(tx, each) for each in (1, 2)], [voice_of(tx, each) for each in (1, 2, 3)]

    @invariant()
    def credit_is_where_the_model_says(self):
        if not hasattr(self, "engine"):
            return
        stocks, balances = self.state()
        for place, number in enumerate(SELLERS):
            assert stocks[place] == STOCK - sum(words[2] for words, _ in self.sold if words[0] == number)
        for place, number in enumerate(("1001", "1002", "1003")):
            assert balances[place] == sum(words[2] for words, _ in self.sold if words[1] == number)
        with self.engine.begin() as tx:
            assert audit(tx).ok
            rows = tx.execute(sa.select(tables.message.c.text, tables.message.c.to_number)).all()
        assert not any(PIN in (row.text or "").replace("#", " ").split() for row in rows)


def test_any_order_of_messages_keeps_the_model():
    run_state_machine_as_test(PhoneMachine, settings=share(0.3, stateful_step_count=20, deadline=None))
