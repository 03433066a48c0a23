"""An operator, sellers in two levels and subscribers, in any order and with crashes, against a model in plain Python."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, timedelta

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from celcombiller.core.audit.report import audit
from celcombiller.core.errors import BillerError
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.selling import Commission
from celcombiller.core.schema import tables
from celcombiller.core.selling import receipts, sales, sellers
from celcombiller.core.selling.settlements import settle
from tests.support import databases
from tests.support.databases import NOW
from tests.support.properties import share
from tests.support.selling.sellers import OPERATOR, TERMS, actor_of, add_seller, numbers_of, stock_of, voice_of

MINUTE = timedelta(minutes=1)


class Killed(Exception):
    """The process is gone before its commit."""


def die():
    raise Killed


@dataclass
class Stall:
    """A seller of the model."""

    parent: int | None
    bonus: int = 0
    discount: int = 0
    line: int = 0
    most: int | None = None
    day_limit: int | None = None
    enabled: bool = True
    stock: int = 0
    sold_on: dict = field(default_factory=lambda: defaultdict(int))


@dataclass
class Slip:
    """A receipt of the model: who gave (None: the operator), who took, and what it moved."""

    kind: str
    giver: int | None
    taker: int
    amount: int
    bonus: int
    paid: int | None
    at: object
    void: bool = False


class SellingMachine(RuleBasedStateMachine):
    """Seller 1 refills seller 2; both sell to all three subscribers, themselves included."""

    sellers_ = st.sampled_from([1, 2])
    who = st.integers(1, 3)
    amounts = st.one_of(st.integers(1, 60), st.sampled_from([0, -3, 500]))
    keys = st.integers(1, 4)

    @initialize()
    def begin(self):
        self.engine, self.now, self.calls = self.made(), NOW, 0
        self.voice = dict.fromkeys((1, 2, 3), 0)
        self.stalls = {1: Stall(None, bonus=1250), 2: Stall(1, discount=700)}
        self.slips, self.done = {}, {}
        self.last = defaultdict(int)
        with self.engine.begin() as tx:
            add_seller(tx, "u1001", commission=Commission.BONUS, commission_rate=1250)
            add_seller(tx, "u1002", parent_id=1, commission=Commission.DISCOUNT, commission_rate=700)

    def made(self):
        return databases.sqlite(fill=databases.three_subscribers)

    def teardown(self):
        if hasattr(self, "engine"):
            self.engine.dispose()

    def do(self, work, dies):
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
                return refusal.code
            return done
        return None

    def issue(self, series, slip):
        self.last[series] += 1
        label = f"{series}-{self.last[series]:06}"
        self.slips[label] = slip
        return label

    # -- what the model expects ---------------------------------------------------------------------------------------

    def refusal_of_sale(self, stall, amount):
        if not stall.enabled:
            return "SELLER_DISABLED"
        if amount < 1:
            return "INVALID"
        if stall.most is not None and amount > stall.most:
            return "SALE_TOO_LARGE"
        if stall.stock + stall.line < amount:
            return "NO_CREDIT"
        if stall.day_limit is not None and stall.sold_on[self.now.date()] + amount > stall.day_limit:
            return "DAY_LIMIT"
        return None

    @rule(seller=sellers_, who=who, amount=amounts, key=keys, dies=st.booleans())
    def sell(self, seller, who, amount, key, dies):
        stall, known = self.stalls[seller], self.done.get(("sale", seller, key))

        def work(tx):
            actor = actor_of(seller)
            return sales.sell(tx, TERMS, actor, seller, f"100{who}", amount, key=f"{key}", origin="sms", now=self.now)

        result = self.do(work, dies)
        if known is not None:
            expected = self.slips[known]
            same = (expected.taker, expected.amount) == (who, amount)
            assert result == "CONFLICT" if not same else (result.receipt.label, result.is_new) == (known, False)
            return
        refusal = self.refusal_of_sale(stall, amount)
        if refusal is not None:
            assert result == refusal
            return
        bonus = amount * stall.bonus // 10_000
        stall.stock += bonus - amount
        stall.sold_on[self.now.date()] += amount
        self.voice[who] += amount
        label = self.issue(f"S{seller}", Slip("sale", seller, who, amount, bonus, None, self.now))
        self.done["sale", seller, key] = label
        assert (result.receipt.label, result.is_new) == (label, True)
        assert (result.stock, result.balance) == (stall.stock, self.voice[who])

    @rule(seller=sellers_, amount=st.integers(-60, 200), key=keys, dies=st.booleans())
    def refill(self, seller, amount, key, dies):
        stall, known = self.stalls[seller], self.done.get(("refill", seller, key))
        kind = "refill" if amount > 0 else "return"
        paid = -(-abs(amount) * (10_000 - stall.discount) // 10_000)

        def work(tx):
            facts = {"key": f"{key}", "origin": "command", "now": self.now}
            return sales.refill(tx, TERMS, OPERATOR, f"u100{seller}", amount, **facts)

        result = self.do(work, dies)
        if amount == 0:
            assert result == "INVALID"
        elif known is not None:
            slip = self.slips[known]
            same = (slip.kind, slip.amount) == (kind, abs(amount))
            assert result == "CONFLICT" if not same else (result.receipt.label, result.is_new) == (known, False)
        elif stall.stock + stall.line < -amount:
            assert result == "NO_CREDIT"
        else:
            stall.stock += amount
            giver = seller if amount < 0 else None
            label = self.issue("office", Slip(kind, giver, seller, abs(amount), 0, paid, self.now))
            self.done["refill", seller, key] = label
            assert (result.receipt.label, result.receipt.paid) == (label, paid)

    @rule(amount=st.integers(1, 100), dies=st.booleans())
    def refill_below(self, amount, dies):
        self.calls += 1

        def work(tx):
            facts = {"from_parent": True, "key": f"below{self.calls}", "origin": "sms", "now": self.now}
            return sales.refill(tx, TERMS, actor_of(1), "u1002", amount, **facts)

        result = self.do(work, dies)
        above, below = self.stalls[1], self.stalls[2]
        if not above.enabled:
            assert result == "SELLER_DISABLED"
        elif above.stock + above.line < amount:
            assert result == "NO_CREDIT"
        else:
            above.stock -= amount
            below.stock += amount
            paid = -(-amount * (10_000 - below.discount) // 10_000)
            assert result.receipt.label == self.issue("S1", Slip("refill", 1, 2, amount, 0, paid, self.now))

    @rule(data=st.data(), by=st.sampled_from([None, 1, 2, 3]), dies=st.booleans())
    def undo(self, data, by, dies):
        if not self.slips:
            return
        label = data.draw(st.sampled_from(sorted(self.slips)))
        slip = self.slips[label]
        actor = OPERATOR if by is None else actor_of(by)
        result = self.do(lambda tx: sales.undo(tx, TERMS, actor, label, now=self.now), dies)
        is_own = by is not None and by == slip.giver and slip.kind != "return"
        if by is not None and not is_own:
            assert result == "FORBIDDEN"
        elif slip.void:
            assert not result.is_new
        elif is_own and not self.stalls[by].enabled:
            assert result == "SELLER_DISABLED"
        elif is_own and self.now - slip.at > TERMS.undo_within:
            assert result == "UNDO_TOO_LATE"
        elif not self.is_still_there(slip):
            assert result == "NO_CREDIT"
        else:
            slip.void = True
            self.take_back(slip)
            assert (result.receipt.label, result.is_new) == (label, True)

    def is_still_there(self, slip):
        if slip.kind == "sale":
            return self.voice[slip.taker] >= slip.amount
        if slip.kind == "return":
            return True
        stall = self.stalls[slip.taker]
        return stall.stock + (stall.line if slip.giver is None else 0) >= slip.amount

    def take_back(self, slip):
        if slip.kind == "sale":
            self.voice[slip.taker] -= slip.amount
            self.stalls[slip.giver].stock += slip.amount - slip.bonus
            self.stalls[slip.giver].sold_on[slip.at.date()] -= slip.amount
        elif slip.kind == "return":
            self.stalls[slip.taker].stock += slip.amount
        else:
            self.stalls[slip.taker].stock -= slip.amount
            if slip.giver is not None:
                self.stalls[slip.giver].stock += slip.amount

    @rule(who=who, share=st.integers(1, 100))
    def call(self, who, share):
        """Spend a part of a balance, as a call does."""
        amount = self.voice[who] * share // 100
        if amount < 1:
            return
        self.calls += 1
        with self.engine.begin() as tx:
            account = balances(tx, who)[Kind.VOICE]
            book = Book()
            book.load(tx, [account.id])
            book.post(f"spent:{self.calls}", account.id, 1, amount, origin="web", now=self.now)
            book.save(tx)
        self.voice[who] -= amount

    @rule(
        seller=sellers_,
        line=st.integers(0, 50),
        most=st.none() | st.integers(1, 80),
        limit=st.none() | st.integers(0, 90),
    )
    def set_limits(self, seller, line, most, limit):
        changes = {"credit_line": line, "sale_max": most, "day_limit": limit}
        with self.engine.begin() as tx:
            sellers.change(tx, OPERATOR, f"u100{seller}", changes, zone=UTC, now=self.now)
        stall = self.stalls[seller]
        stall.line, stall.most, stall.day_limit = line, most, limit

    @rule(seller=sellers_, enabled=st.booleans())
    def enable(self, seller, enabled):
        with self.engine.begin() as tx:
            sellers.change(tx, OPERATOR, f"u100{seller}", {"enabled": enabled}, zone=UTC, now=self.now)
        self.stalls[seller].enabled = enabled

    @rule(minutes=st.sampled_from([1, 5, 11, 300, 720]))
    def time_goes_on(self, minutes):
        self.now += minutes * MINUTE

    @rule(seller=sellers_, who=who, amount=amounts)
    def look(self, seller, who, amount):
        """What a seller is asked before the last key is what then happens, and writes nothing."""
        with self.engine.begin() as tx:
            before = tx.execute(sa.select(sa.func.count()).select_from(tables.trail)).scalar()
            refusal = self.refusal_of_sale(self.stalls[seller], amount)
            try:
                plan = sales.plan_sale(tx, TERMS, seller, f"100{who}", amount, now=self.now)
            except BillerError as raised:
                found = raised.code
            else:
                found = None
                bonus = amount * self.stalls[seller].bonus // 10_000
                assert plan.stock == self.stalls[seller].stock - amount + bonus
                assert plan.balance == self.voice[who] + amount
            assert found == refusal
            assert tx.execute(sa.select(sa.func.count()).select_from(tables.trail)).scalar() == before

    @invariant()
    def all_is_as_in_the_model(self):
        if not hasattr(self, "engine"):
            return
        with self.engine.begin() as tx:
            self.check_laws(tx)
            assert {who: voice_of(tx, who) for who in self.voice} == self.voice
            assert {who: stock_of(tx, who) for who in self.stalls} == {
                who: each.stock for who, each in self.stalls.items()
            }
            for series in ("office", "S1", "S2"):
                assert numbers_of(tx, series) == list(range(1, self.last[series] + 1))
            found = {each.label: each for each in receipts.list_receipts(tx, limit=1000)}
            assert {label: each.voided_at is not None for label, each in found.items()} == {
                label: each.void for label, each in self.slips.items()
            }
            self.check_sheet(tx)

    def check_laws(self, tx):
        report = audit(tx)
        assert report.ok, report.differences

    def check_sheet(self, tx):
        for row in settle(tx, NOW, self.now + MINUTE):
            seller = int(row.username[-1])
            slips = [each for each in self.slips.values() if seller in (each.giver, each.taker)]
            assert row.opening == 0
            assert row.closing == self.stalls[seller].stock
            moved = row.refilled - row.returned - row.given - row.sold - row.cards + row.commission + row.undone
            assert row.closing == row.opening + moved
            sold = [each for each in slips if each.kind == "sale" and each.giver == seller]
            assert (row.sales, row.sold) == (len(sold), sum(each.amount for each in sold))
            paid = {"refill": 1, "return": -1}
            took = [each for each in slips if each.taker == seller and each.kind in paid and not each.void]
            assert row.paid == sum(each.paid * paid[each.kind] for each in took)


SellingMachine.TestCase.settings = share(0.2, stateful_step_count=25)
TestSelling = pytest.mark.slow(SellingMachine.TestCase)


@pytest.mark.real
def test_selling_on_postgresql(cluster):
    """The same on PostgreSQL, fewer times, and audited at the end: an audit takes a second (about 10 s)."""
    with databases.on_postgresql(cluster, databases.three_subscribers) as engine:

        class OnPostgreSQL(SellingMachine):
            def made(self):
                with engine.begin() as tx:
                    for table in ("receipt", "receipt_series", "seller", "transfer", "trail"):
                        tx.execute(sa.text(f"delete from {table}"))
                    tx.execute(sa.text("delete from account where kind = 'seller'"))
                    tx.execute(sa.text("update account set posted = 0, held = 0"))
                return engine

            def check_laws(self, tx):
                pass

            def teardown(self):
                if hasattr(self, "engine"):
                    with self.engine.begin() as tx:
                        super().check_laws(tx)

        run_state_machine_as_test(OnPostgreSQL, settings=share(0.03, stateful_step_count=20, deadline=None))
