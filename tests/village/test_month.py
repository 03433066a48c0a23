"""A month in a village of 187 subscribers and three sellers, hour by hour, beside a model of it in plain Python.

Sales with a bonus, undone sales, cards, credit handed on, calls that last for days, reversals, a fee every ten days
that suspends who does not pay, and credit that expires: each evening every balance, every hold, every sum and every
receipt is the model's, and the audit finds nothing. Two nodes serve it by turns, and both do what the jobs do. Some
transactions are lost at their end, as in a crash, and done again. About 6 s of CPU; by night twice as much happens, on
PostgreSQL.
"""

import copy
import random
import secrets
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.audit.report import audit
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy, Initiate, Terminate, Update
from celcombiller.core.credit_transfers import credit_transfers
from celcombiller.core.credit_transfers.transfer_terms import Confirmation, CreditTransferTerms
from celcombiller.core.errors import BillerError, InsufficientBalance, TransferConflict
from celcombiller.core.ledger import reversals
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.calls import CallGrant, CallReport, Witness
from celcombiller.core.model.schedules import ScheduleKind
from celcombiller.core.model.subscribers import Level
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schedules import fee_periods, memberships, runs, schedule_records
from celcombiller.core.schedules.runs import ScheduleRules
from celcombiller.core.schema import tables
from celcombiller.core.selling import sales, sellers
from celcombiller.core.selling.selling_terms import SellingTerms
from celcombiller.core.sms.charging import MessagePolicy
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.validity import end_dates, expiry
from celcombiller.core.validity.validity_terms import ValidityTerms
from celcombiller.core.vouchers import redemption, voucher_batches, voucher_codes
from celcombiller.database.engine import open_engine
from tests.support import databases
from tests.village.model import Village

SUBSCRIBERS, SELLERS, DAYS = 187, 3, 30
BEGUN = date(2026, 11, 1)
FEE, FEE_DAYS, SUSPEND_DAYS, VALID_DAYS, TRANSFER_FEE, BONUS = 40, 10, 5, 12, 2, 10
CARD_VALUE = 90
LOST_SHARE = 0.05
"""Of the transactions that people cause, so many are lost."""
SALE, GIVEN = (10, 120), (1, 40)
OPERATOR = Actor("command", "", manages=ALL_LEVELS)
RULES = ScheduleRules()
SELLING, MESSAGES = SellingTerms(undo_within=timedelta(minutes=10)), MessagePolicy()
TRANSFERS = CreditTransferTerms(enabled=True, fee=TRANSFER_FEE, confirmation=Confirmation.NONE)
VALIDITY = ValidityTerms(days={Kind.VOICE: VALID_DAYS})


def at(day, hour, minute=0):
    return datetime.combine(day, time(hour, minute), UTC)


def number_of(person):
    return f"1{person[1:]}"


class Month:
    """The same month, in the biller and in the model; everything that is asked of both must come out alike."""

    def __init__(self, engines, seed):
        self.nodes = [(engine, ChargingPolicy(Tariff([Rate()]))) for engine in engines]
        self.drawn = random.Random(seed)
        self.model = Village(FEE, SUSPEND_DAYS, VALID_DAYS, TRANSFER_FEE, BONUS)
        self.sellers = [f"s{each:03}" for each in range(SELLERS)]
        self.people = [f"u{each:03}" for each in range(SUBSCRIBERS)]
        self.counter = 0
        with engines[0].begin() as tx:
            self._settle(tx)

    def _settle(self, tx):
        """Bring people, sellers, the fee and the cards into the village."""
        now = at(BEGUN, 0)
        for person in self.people + self.sellers:
            digits = number_of(person) if person in self.people else f"2{person[1:]}"
            subscriber_records.add(
                tx,
                username=person,
                name=person,
                clid=digits,
                imsi=f"72400{digits:0>10}",
                cpf=None,
                address="",
                level=Level.SUBSCRIBER,
                password_hash=None,
                now=now,
            )
        self.ids = dict(tx.execute(sa.select(tables.subscriber.c.username, tables.subscriber.c.id)).all())
        for seller in self.sellers:
            sellers.add(
                tx, OPERATOR, seller, terms={"commission": "bonus", "commission_rate": BONUS * 100}, zone=UTC, now=now
            )
        schedule = schedule_records.add(
            tx,
            name="ten days",
            kind=ScheduleKind.VOICE,
            value=FEE,
            recurrence="days",
            day=None,
            interval_days=FEE_DAYS,
            first_on=BEGUN + timedelta(days=FEE_DAYS - 1),
            count=10**6,
            time_zone="UTC",
            when_short="retry",
            suspend_days=SUSPEND_DAYS,
            now=now,
        )
        self.schedule_id = schedule.id
        self.members = self.people[::2]
        for person in self.members:
            memberships.join(tx, schedule, self.ids[person], now=now)
        order = voucher_batches.VoucherOrder(name="cards", cards=60, kind=Kind.VOICE, value=CARD_VALUE)
        batch = voucher_batches.begin(tx, OPERATOR, order, reference="cards", now=now)
        self.codes = voucher_codes.make_codes(self.drawn.randbytes(60 * 64))[: order.cards]
        voucher_batches.add_cards(tx, batch.id, 1, self.codes)
        voucher_batches.complete(tx, OPERATOR, batch.id, now=now)
        voucher_batches.activate(tx, OPERATOR, batch.id, seller=self.sellers[0], now=now)
        end_dates.update_terms(tx, VALIDITY.days, last_id=0, now=now)

    # -- what the biller does by itself --------------------------------------------------------------------------------

    def begin_day(self, day):
        """Expire what is over, take the fees, and suspend who has not paid, as the jobs do, on each node."""
        is_due = False
        for engine, _ in self.nodes:
            with engine.begin() as tx:
                self._expire(tx, at(day, 0, 5))
            with engine.begin() as tx:
                is_due |= bool(runs.decide(tx, self.schedule_id, RULES, day, at(day, 0, 30)).runs)
                for run in runs.open_runs(tx):
                    while runs.advance(tx, run.id, RULES, at(day, 0, 30), size=50).more:
                        pass
        self.model.expire(day)
        if is_due:
            self.model.begin_period(self.members, day)
        self.collect(at(day, 0, 31))
        for engine, _ in self.nodes:
            with engine.begin() as tx:
                while fee_periods.suspend_some(tx, at(day, 0, 32))[1]:
                    pass
        self.model.suspend(day)

    def _expire(self, tx, now):
        end_dates.update_terms(tx, VALIDITY.days, last_id=0, now=now)
        last = tx.execute(sa.select(sa.func.coalesce(sa.func.max(tables.transfer.c.id), 0))).scalar_one()
        seen = end_dates.lock_bookmark(tx) or 0
        if last > seen:
            assert end_dates.scan(tx, VALIDITY, after_id=seen, until_id=last, now=now)
        while ids := expiry.due(tx, Kind.VOICE, zone="UTC", now=now, limit=100):
            assert expiry.expire(tx, Kind.VOICE, ids, top_ups="", zone="UTC", now=now)[1]

    def collect(self, now):
        """Take what is owed of who has credit now."""
        for engine, _ in self.nodes:
            with engine.begin() as tx:
                while ids := fee_periods.list_collectable(tx, now, limit=100):
                    assert fee_periods.collect(tx, ids, now)
        self.model.collect(now.date())

    # -- what people do ------------------------------------------------------------------------------------------------

    def do_something(self, now):
        """Draw what somebody does, and compare whether it goes."""
        self.counter += 1
        acts = {self.sell: 30, self.sell_and_undo: 4, self.redeem: 3, self.give: 8}
        acts |= {self.dial: 40, self.renew: 12, self.hang_up: 14, self.reverse: 6}
        (act,) = self.drawn.choices(list(acts), list(acts.values()))
        engine, self.policy = self.drawn.choice(self.nodes)
        if self.drawn.random() < LOST_SHARE:
            before, codes = copy.deepcopy(self.model), [*self.codes]
            with engine.connect() as tx, tx.begin() as lost:
                act(tx, now)
                lost.rollback()
            self.model, self.codes = before, codes
        with engine.begin() as tx:
            act(tx, now)

    def refill(self, tx, seller, now):
        made = sales.refill(tx, SELLING, OPERATOR, seller, 2000, key=f"r{self.counter}", origin="command", now=now)
        assert made.is_new
        self.model.refill(seller, 2000)

    def sell(self, tx, now):
        seller, buyer, amount = (
            self.drawn.choice(self.sellers),
            self.drawn.choice(self.people),
            self.drawn.randint(*SALE),
        )
        if self.model.stock[seller] < SALE[1] and self.drawn.random() < 0.7:
            self.refill(tx, seller, now)
        goes = self.model.sell(seller, buyer, amount, now.date())
        actor = Actor(seller, "", subscriber_id=self.ids[seller])
        words = {"key": f"sale {self.counter}", "origin": "sms", "now": now}
        if not goes:
            with pytest.raises(InsufficientBalance):
                sales.sell(tx, SELLING, actor, self.ids[seller], number_of(buyer), amount, **words)
            return None
        made = sales.sell(tx, SELLING, actor, self.ids[seller], number_of(buyer), amount, **words)
        again = sales.sell(
            tx, SELLING, actor, self.ids[seller], number_of(buyer), amount, **words
        )  # its answer was lost
        assert (made.is_new, again.is_new, again.receipt) == (True, False, made.receipt)
        assert (made.stock, made.balance) == (self.model.stock[seller], self.model.balance[buyer])
        return seller, buyer, amount, made.receipt.label, actor

    def sell_and_undo(self, tx, now):
        sold = self.sell(tx, now)
        if sold is not None:
            seller, buyer, amount, label, actor = sold
            assert self.model.undo(seller, buyer, amount)
            sales.undo(tx, SELLING, actor, label, now=now + timedelta(minutes=1))

    def redeem(self, tx, now):
        buyer = self.drawn.choice(self.people)
        if self.codes:
            code = self.codes.pop()
            got = redemption.redeem(tx, self.ids[buyer], voucher_codes.format_code(code), today=now.date(), now=now)
            assert got.is_new
            other = redemption.redeem(tx, self.ids[self.sellers[0]], code, now=now)
            assert isinstance(other, BillerError)
            self.model.redeem(buyer, CARD_VALUE, now.date())

    def give(self, tx, now):
        payer, recipient = self.drawn.sample(self.people, 2)
        amount = self.drawn.randint(*GIVEN)
        who = subscriber_records.find(tx, payer)
        actor = Actor(payer, "", subscriber_id=who.id)
        words = {
            "actor": actor,
            "reference": f"give {self.counter}",
            "random": "0" * 32,
            "today": now.date(),
            "now": now,
        }
        goes = self.model.give(payer, recipient, amount, now.date())
        if goes:
            credit_transfers.ask(tx, TRANSFERS, MESSAGES, who, number_of(recipient), amount, **words)
        else:
            with pytest.raises(InsufficientBalance):
                credit_transfers.ask(tx, TRANSFERS, MESSAGES, who, number_of(recipient), amount, **words)

    def dial(self, tx, now):
        """Begin a call that holds all credit, or a slice of it, and may last for days."""
        caller, callee = self.drawn.sample(self.people, 2)
        uniqueid, channel, slice_seconds = f"{self.counter}.0", f"PJSIP/{caller}", self.drawn.choice((None, 30))
        nothing, numbers = CallReport(answered=False, at=now), (number_of(caller), number_of(callee))
        asked = Initiate(
            "pbx1", uniqueid, f"session {uniqueid}", channel, "", *numbers, False, nothing, slice_seconds=slice_seconds
        )
        (grant,) = process_batch(tx, self.policy, [asked], now)
        assert isinstance(grant, CallGrant) == self.model.may_call(caller), (grant, caller)
        if isinstance(grant, CallGrant):
            available = self.model.available(caller)
            assert grant.seconds == available if slice_seconds is None else 0 < grant.seconds <= available
            self.model.hold(uniqueid, caller, grant.seconds)

    def renew(self, tx, now):
        """Lengthen a call by a slice, as far as there is credit."""
        if not self.model.calls:
            return
        uniqueid = self.drawn.choice(list(self.model.calls))
        caller, granted = self.model.calls[uniqueid]
        used = self.drawn.randint(1, granted)
        asked = Update("pbx1", uniqueid, 0, granted, used, slice_seconds=30)
        (update,) = process_batch(tx, self.policy, [asked], now)
        seconds = update.call.granted_seconds
        most = granted if caller in self.model.suspended else granted + self.model.available(caller)
        wanted = max(granted, min(used + 30, most))
        is_alone = [payer for payer, _ in self.model.calls.values()].count(caller) == 1
        assert seconds == wanted if is_alone else granted <= seconds <= wanted, (update, most)  # others have a share
        self.model.hold(uniqueid, caller, seconds)

    def hang_up(self, tx, now):
        if self.model.calls:
            uniqueid = self.drawn.choice(list(self.model.calls))
            seconds = self.drawn.randint(0, self.model.calls[uniqueid][1])
            ended = CallReport(answered=seconds > 0, at=now, talk_ms=seconds * 1000)
            process_batch(tx, self.policy, [Terminate("pbx1", uniqueid, Witness.AGI, ended)], now)
            self.model.hang_up(uniqueid, seconds)

    def reverse(self, tx, now):
        """The operator reverses something, if it was not yet."""
        transfer, account = tables.transfer, tables.account
        query = sa.select(transfer).where(
            transfer.c.origin.in_(("call", "voucher", "expiry", "credit_transfer", "fee"))
        )
        made = tx.execute(query.order_by(transfer.c.id)).all()
        if not made:
            return
        chosen = self.drawn.choice(made)
        note = f"reversal {self.counter}"
        names = {
            row.id: row.username
            for row in tx.execute(
                sa.select(account.c.id, tables.subscriber.c.username)
                .join(tables.subscriber, tables.subscriber.c.id == account.c.subscriber_id)
                .where(account.c.id.in_((chosen.debit_account_id, chosen.credit_account_id)))
            )
        }
        back = sa.select(transfer.c.id).where(transfer.c.reference == f"reversal:{chosen.reference}")
        if tx.execute(back).first() is not None:
            with pytest.raises(TransferConflict):
                reversals.reverse(tx, chosen.reference, note=note, now=now)
            return
        payer, recipient = names.get(chosen.debit_account_id), names.get(chosen.credit_account_id)
        if self.model.reverse(chosen.origin, payer, recipient, chosen.amount, now.date()):
            reversals.reverse(tx, chosen.reference, note=note, now=now)
        else:
            with pytest.raises(InsufficientBalance):
                reversals.reverse(tx, chosen.reference, note=note, now=now)

    # -- what is left --------------------------------------------------------------------------------------------------

    def check(self):
        """Compare everything."""
        model, account, transfer = self.model, tables.account, tables.transfer
        with self.nodes[0][0].begin() as tx:
            rows = tx.execute(
                sa.select(tables.subscriber.c.username, tables.subscriber.c.suspended_at, account)
                .join(account, account.c.subscriber_id == tables.subscriber.c.id)
                .order_by(account.c.id)
            ).all()
            voice = {row.username: row.posted for row in rows if row.kind == "voice"}
            assert voice == {each: model.balance[each] for each in voice}
            assert {row.username: row.posted for row in rows if row.kind == "seller"} == {
                each: model.stock[each] for each in self.sellers
            }
            assert {row.username for row in rows if row.suspended_at} == model.suspended
            assert {row.username: row.held for row in rows if row.held} == {
                each: held for each in self.people if (held := model.held(each))
            }
            sums = tx.execute(sa.select(transfer.c.origin, sa.func.sum(transfer.c.amount)).group_by(transfer.c.origin))
            assert {origin: int(amount) for origin, amount in sums} == +model.moved
            numbers = Counter()
            receipt = tables.receipt
            for row in tx.execute(
                sa.select(receipt.c.series, receipt.c.number).order_by(receipt.c.series, receipt.c.number)
            ):
                numbers[row.series] += 1
                assert row.number == numbers[row.series], f"a gap in {row.series}"
            assert sorted(numbers.values()) == sorted((+model.receipts).values())
            report = audit(tx)
        assert report.differences == []


def live_through(engines, seed, minutes):
    """Live through the month; something happens each so many minutes of the day."""
    month = Month(engines, seed)
    for number in range(DAYS):
        day = BEGUN + timedelta(days=number)
        month.begin_day(day)
        for hour in range(7, 21):
            for minute in range(0, 60, minutes):
                month.do_something(at(day, hour, minute))
            month.collect(at(day, hour, 59))
        month.check()
    return month


@pytest.mark.slow
def test_a_village_month_comes_out_as_its_model(tmp_path):
    databases.sqlite(tmp_path / "ledger.sqlite").dispose()
    engines = [open_engine(f"sqlite:///{tmp_path}/ledger.sqlite", lock_seconds=5) for _ in range(2)]
    month = live_through(engines, "village", 20)
    assert month.model.suspended
    assert {"sale", "undo", "voucher", "credit_transfer", "fee", "expiry", "call", "reversal"} <= (
        +month.model.moved
    ).keys()


@pytest.mark.real
@pytest.mark.nightly
def test_a_village_month_comes_out_on_postgresql(cluster):
    url = databases.postgresql(cluster)
    seed = secrets.token_hex(4)
    print(f"seed {seed}")  # each night another one: a village of other events than usual has found a fault
    live_through([open_engine(url, lock_seconds=5) for _ in range(2)], seed, 10)
