"""Vouchers under any order of requests, crashes and repeats, compared with a plain model; all is proved after each step."""

from datetime import timedelta

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from celcombiller.core.audit.report import audit
from celcombiller.core.bundles import bundle_records, offers
from celcombiller.core.bundles.terms import BundleTerms
from celcombiller.core.errors import BillerError, InvalidValue
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.model.vouchers import VoucherState
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.vouchers import voucher_batches
from celcombiller.core.vouchers.redemption import RedemptionTry, redeem_all
from tests.support import databases, vouchers
from tests.support.databases import NOW
from tests.support.properties import share
from tests.support.vouchers import OPERATOR, codes_of

CARDS = 4
DAY = timedelta(days=1)
serials = st.integers(1, CARDS)
users = st.integers(1, 3)


class VoucherMachine(RuleBasedStateMachine):
    """Batches of four cards, three subscribers, and nodes that die before they commit."""

    def open(self):
        """Return a database with three subscribers."""
        return databases.sqlite(fill=databases.three_subscribers)

    @initialize()
    def begin(self):
        self.engine = self.open()
        self.now = NOW
        self.made = 0
        self.batches = []  # (batch, codes)
        self.active, self.revoked, self.redeemed = set(), set(), {}
        self.enabled = {1: True, 2: True, 3: True}
        self.given = {(user, kind): 0 for user in (1, 2, 3) for kind in Kind}
        self.bundles = dict.fromkeys((1, 2, 3), 0)
        with self.engine.begin() as tx:
            terms = BundleTerms("hour", BundleKind.SECONDS, 3600)
            self.offer = offers.add(tx, terms, price=5, valid_hours=72, renews=True, now=NOW)

    def teardown(self):
        if hasattr(self, "engine"):
            self.engine.dispose()

    def do(self, work, *, dies=False):
        """Do work in a transaction, of a node that may die before it commits."""
        with self.engine.connect() as tx, tx.begin() as transaction:
            done = work(tx)
            if dies:
                transaction.rollback()
        return None if dies else done

    # -- the operator ------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.batches) < 3)
    @rule(
        kind=st.sampled_from([*Kind, None]),
        days=st.none() | st.integers(1, 3),
        dies_after=st.sampled_from([0, 1, 2, 9]),
    )
    def make(self, kind, days, dies_after):
        self.made += 1
        codes = codes_of(self.made, CARDS)
        gift = {"offer": self.offer} if kind is None else {"kind": kind, "value": 10 * self.made}
        until = None if days is None else self.now + days * DAY
        name = f"batch {len(self.batches)}"
        batch = self.do(
            lambda tx: vouchers.begin(tx, name, cards=CARDS, valid_until=until, now=self.now, **gift),
            dies=dies_after == 0,
        )
        if batch is None:
            return
        for step, first in enumerate((1, 3), 1):
            piece = codes[first - 1 : first + 1]
            self.do(
                lambda tx, first=first, piece=piece: voucher_batches.add_piece(
                    tx, OPERATOR, batch, first, piece, now=self.now
                ),
                dies=dies_after == step,
            )
            if dies_after == step:
                return
        self.batches.append((batch, codes))

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), first=serials, last=serials, revokes=st.booleans(), dies=st.booleans())
    def change_range(self, data, first, last, revokes, dies):
        batch, _ = data.draw(st.sampled_from(self.batches))
        change = voucher_batches.revoke if revokes else voucher_batches.activate
        cards = {(batch.id, serial) for serial in range(first, last + 1)}
        try:
            done = self.do(lambda tx: change(tx, OPERATOR, batch.id, first, last, now=self.now), dies=dies)
        except InvalidValue:
            assert first > last or (
                not revokes and (cards & self.active or cards <= self.revoked or batch.is_over(self.now))
            )
            return
        if done is None:
            return
        assert revokes or not (done[1] and cards & self.active)
        (self.revoked if revokes else self.active).update(cards)

    @rule(user=users, enabled=st.booleans())
    def enable(self, user, enabled):
        self.do(lambda tx: subscriber_records.enable(tx, f"u100{user}", enabled=enabled, now=self.now))
        self.enabled[user] = enabled

    @rule(hours=st.sampled_from([1, 24, 60]))
    def time_goes_on(self, hours):
        self.now += timedelta(hours=hours)

    # -- subscribers -------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), dies=st.booleans())
    def redeem(self, data, dies):
        one = st.tuples(users, st.integers(0, len(self.batches) - 1), serials)
        asked = data.draw(st.lists(one, min_size=1, max_size=5))
        tries = [
            RedemptionTry(user, self.batches[place][1][serial - 1], actor=OPERATOR) for user, place, serial in asked
        ]
        outcomes = self.do(lambda tx: redeem_all(tx, tries, self.now), dies=dies)
        if outcomes is None:
            return
        for (user, place, serial), outcome in zip(asked, outcomes, strict=True):
            batch = self.batches[place][0]
            card = (batch.id, serial)
            refused = isinstance(outcome, BillerError)
            if card in self.redeemed:
                assert refused == (self.redeemed[card] != user)
                assert refused or not outcome.is_new
                continue
            usable = card in self.active - self.revoked and not batch.is_over(self.now) and self.enabled[user]
            assert usable is not refused
            if usable:
                assert outcome.is_new
                self.redeemed[card] = user
                if batch.offer_id is None:
                    self.given[user, batch.kind] += batch.value
                else:
                    self.bundles[user] += 1

    # -- laws --------------------------------------------------------------------------------------------------------

    @invariant()
    def all_is_as_in_the_model(self):
        if not hasattr(self, "engine"):
            return
        with self.engine.connect() as tx:
            report = audit(tx)
            assert report.ok, report.differences
            assert {each.name for each in voucher_batches.list_all(tx, limit=9)} == {
                each.name for each, _ in self.batches
            }
            for user in (1, 2, 3):
                posted = {(user, kind): account.posted for kind, account in balances(tx, user).items()}
                assert posted == {key: value for key, value in self.given.items() if key[0] == user}
                assert len(bundle_records.list_of(tx, user)) == self.bundles[user]
            for batch, _ in self.batches:
                cards = voucher_batches.list_cards(tx, batch, self.now, limit=CARDS)
                assert [each.state for each in cards] == [self.state(batch, each.serial) for each in cards]
                counts = voucher_batches.count_states(tx, batch, self.now)
                assert counts == {state: [each.state for each in cards].count(state) for state in VoucherState}

    def state(self, batch, serial):
        card = (batch.id, serial)
        if card in self.redeemed:
            return VoucherState.REDEEMED
        if card in self.revoked:
            return VoucherState.REVOKED
        if batch.is_over(self.now):
            return VoucherState.EXPIRED
        return VoucherState.ACTIVE if card in self.active else VoucherState.MADE


TestVouchers = VoucherMachine.TestCase  # takes 4 s
TestVouchers.settings = share(0.2)
