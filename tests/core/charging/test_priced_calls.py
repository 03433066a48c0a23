"""Calls at any prices, with bundles, in slices: nothing is charged that was not held, and each charge is the model's."""

import random
import secrets
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from msgspec import structs

from celcombiller.core.bundles import bundle_records, expiry
from celcombiller.core.bundles.terms import BundleTerms
from celcombiller.core.catalogue.catalogue import TariffVersion
from celcombiller.core.charging.requests import CallAnswered, Credit, Initiate, Terminate, Update
from celcombiller.core.errors import InsufficientBalance
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.model.calls import CallGrant, CallReport, CallState, CallUpdate, Witness
from celcombiller.core.model.tariffs import Prices, Rate, Service, Step, Window
from celcombiller.core.rating.bill import Pot
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import tables
from tests.core.ledger.test_book import ask, database, proved
from tests.core.rating.test_bill import slow_bill
from tests.support.tariffs import make_tariff, policy_of, rate, write

MORNING = datetime(2026, 11, 2, 7, 59, tzinfo=UTC)
"""From the next minute on prices change all the time."""

RING_SECONDS, CALL_SECONDS = 30, 200
EVERY_DAY = frozenset(range(8))


@dataclass
class Talk:
    """An open call, as its channel knows it."""

    reference: str
    rate: Rate
    began_at: datetime
    granted: int
    answered_at: datetime | None = None

    def seconds(self, now):
        return 0 if self.answered_at is None else (now - self.answered_at) / timedelta(seconds=1)

    def ends_at(self):
        """Return when its channel ends it: after its grant, or after it has rung."""
        if self.answered_at is None:
            return self.began_at + timedelta(seconds=RING_SECONDS)
        return self.answered_at + timedelta(seconds=self.granted)


class Network:
    """Three subscribers who call at prices of each day's own. No talk lasts longer than its grant."""

    def __init__(self, seed):
        self.drawn, self.engine, self.number, self.talks = random.Random(seed), database(), 0, {}
        self.now, self.seen = MORNING, Counter()
        self.call_seconds_max = {}
        with self.engine.begin() as tx:
            self.tariff_id = make_tariff(tx, self.now).id

    def begin_day(self, number):
        """Write another version of the tariff; what goes on keeps its rate."""
        self.go_on(CALL_SECONDS + RING_SECONDS)
        self.now = MORNING + timedelta(days=number, microseconds=self.drawn.choice([0, 400_000]))
        with self.engine.begin() as tx:
            version = write(tx, self.tariff_id, self.now, rate(price=number + 1))
            expiry.end_expired(tx, expiry.due_ends(tx, self.now, limit=100), self.now)
        rates = [self.draw_rate("551"), self.draw_rate("55"), self.draw_rate("")]
        known = TariffVersion(version.id, version.number, self.now, {Service.VOICE: Tariff(rates)})
        facts = {"ring_seconds": RING_SECONDS, "max_call_seconds": CALL_SECONDS, "external": True}
        self.policy = policy_of(self.tariff_id, known, **facts)

    def draw_rate(self, prefix):
        minutes, windows = 480, []
        while minutes < 500 and self.drawn.random() < 0.8:
            end = minutes + self.drawn.choice([1, 1, 2, 3])
            windows.append((Window(EVERY_DAY, minutes, end), self.draw_prices()))
            minutes = end + self.drawn.choice([0, 0, 1])
        return Rate(prefix, "", self.draw_prices(), tuple(windows))

    def draw_prices(self):
        draw = self.drawn.choice
        starts = sorted({0, *(self.drawn.randrange(1, 90) for _ in range(draw([0, 0, 1, 2])))})
        steps = tuple(
            Step(each, draw([1, 1, 6, 7, 30, 60]), draw([0, 1, 2, 5, 60]), draw([1, 6, 60])) for each in starts
        )
        return Prices(draw([0, 0, 9]), steps, draw([0, 0, 30]), draw([0, 0, 3]))

    # -- what happens --------------------------------------------------------------------------------------------------

    def do_something(self):
        work = self.drawn.choices(
            [self.call, self.answer, self.renew, self.shorten, self.hang_up, self.credit, self.give, self.end_bundle],
            [30, 25, 20, 4, 6, 6, 4, 1],
        )[0]
        work()
        self.go_on(self.drawn.choice([0, 0, 0.4, 1, 3, 7.6, 20]))

    def ask(self, *requests):
        return ask(self.engine, *requests, now=self.now, terms=self.policy)

    def next_number(self):
        self.number += 1
        return self.number

    def credit(self):
        amount = self.drawn.choice([3, 40, 200])
        who = self.drawn.randint(1, 3)
        self.ask(Credit(f"u100{who}", Kind.VOICE, amount, "web", f"id:{self.next_number()}"))

    def give(self):
        kind, draw = self.drawn.choice([BundleKind.SECONDS, BundleKind.MONEY]), self.drawn.choice
        terms = BundleTerms(
            "gift",
            kind,
            self.drawn.randint(1, 150),
            destinations=draw([(), ("55",), ("551", "on-net")]),
            priority=draw([0, 1]),
            call_seconds_max=draw([None, 20]) if kind is BundleKind.SECONDS else None,
        )
        facts = {"valid_hours": draw([1, 24]), "reference": f"id:{self.next_number()}", "now": self.now}
        with self.engine.begin() as tx:
            bundle, _ = bundle_records.give(tx, self.drawn.randint(1, 3), terms, **facts)
        if terms.call_seconds_max is not None:
            self.call_seconds_max[bundle.account_id] = terms.call_seconds_max

    def end_bundle(self):
        with self.engine.begin() as tx:
            ids = [each.account_id for _, each in bundle_records.list_all(tx, limit=1000) if each.ended_at is None]
            if ids:
                bundle_records.end(tx, self.drawn.choice(ids), now=self.now)

    def call(self):
        number, caller = self.next_number(), f"100{self.drawn.randint(1, 3)}"
        uniqueid, called = f"{number}.0", self.drawn.choice(["55111", "5599", "1001", "77"])
        slices, previous = self.drawn.choice([None, 9, 60]), CallReport(answered=False, at=self.now)
        (answer,) = self.ask(
            Initiate("pbx1", uniqueid, f"s{number}", f"PJSIP/{number}", "", caller, called, False, previous, slices)
        )
        if isinstance(answer, CallGrant):
            assert 0 < answer.seconds <= CALL_SECONDS
            self.talks[uniqueid] = Talk(answer.call.reference, answer.call.rate, self.now, answer.seconds)
        else:
            assert isinstance(answer, InsufficientBalance), answer
            self.seen["refused"] += 1

    def any_talk(self, *, rings):
        some = [each for each, talk in self.talks.items() if rings or talk.answered_at is not None]
        return self.drawn.choice(some) if some else None

    def answer(self):
        ringing = [each for each, talk in self.talks.items() if talk.answered_at is None]
        if ringing:
            uniqueid = self.drawn.choice(ringing)
            self.talks[uniqueid].answered_at = self.now
            if self.drawn.random() < 0.5:
                self.ask(CallAnswered("pbx1", uniqueid, self.now))

    def renew(self):
        uniqueid = self.any_talk(rings=True)
        if uniqueid is not None:
            before = self.talks[uniqueid].granted
            self.update(uniqueid, slice_seconds=self.drawn.choice([5, 30, 90]))
            assert self.talks[uniqueid].granted >= before
            self.seen["renewed"] += self.talks[uniqueid].granted > before

    def shorten(self):
        uniqueid = self.any_talk(rings=False)
        if uniqueid is not None:
            talk = self.talks[uniqueid]
            at_most = int(talk.seconds(self.now)) + self.drawn.choice([1, 5, 30])
            if at_most < talk.granted:
                self.update(uniqueid, at_most=at_most)
                self.seen["shortened"] += talk.granted == at_most

    def update(self, uniqueid, **facts):
        talk = self.talks[uniqueid]
        used = int(talk.seconds(self.now))
        (answer,) = self.ask(Update("pbx1", uniqueid, 0, talk.granted, used, talk.answered_at, **facts))
        assert isinstance(answer, CallUpdate)
        assert answer.end is None
        talk.granted = answer.call.granted_seconds

    def hang_up(self):
        uniqueid = self.any_talk(rings=True)
        if uniqueid is not None:
            self.close(uniqueid)

    def go_on(self, seconds):
        """Let time pass; channels end what reaches its limit or has rung long enough."""
        until = self.now + timedelta(seconds=seconds)
        while self.talks:
            uniqueid = min(self.talks, key=lambda each: self.talks[each].ends_at())
            ends_at = self.talks[uniqueid].ends_at()
            if ends_at > until:
                break
            self.now = max(self.now, ends_at)
            self.close(uniqueid, late_ms=self.drawn.choice([0, 7, 1000]))
        self.now = until

    # -- what must come out --------------------------------------------------------------------------------------------

    def close(self, uniqueid, late_ms=0):
        """End a call; where its limit cuts it, that may be late. It pays what the model says, of what it holds."""
        talk = self.talks.pop(uniqueid)
        is_answered, talk_ms = talk.answered_at is not None, round(talk.seconds(self.now) * 1000)
        seconds = -(-talk_ms // 1000)
        if talk_ms == talk.granted * 1000:
            talk_ms += late_ms
        held, before = self.held_by(talk.reference), self.posted()
        ending = CallReport(is_answered, self.now, talk_ms if is_answered else None, talk.answered_at)
        one, other = self.drawn.sample([Witness.AGI, Witness.AMI], 2)
        (settled,) = self.ask(Terminate("pbx1", uniqueid, one, ending))
        assert settled.first
        assert settled.call.state is (CallState.SETTLED if is_answered else CallState.RELEASED)
        assert self.held_by(talk.reference) == {}
        takes, cost = {}, 0
        if is_answered:
            pots = [Pot(each, BundleKind(held[each][0]), held[each][1]) for each in settled.call.bundles]
            takes, cost = slow_bill(talk.rate, seconds, talk.answered_at, pots)
            assert cost <= held[settled.call.account_id][1], talk
        after = self.posted()
        paid = Counter({each: before[each] - after[each] for each in before})
        assert +paid == +Counter(takes | {settled.call.account_id: cost})
        assert settled.call.cost == cost
        self.report_again(uniqueid, other, ending)
        assert self.posted() == after
        assert [each for each in takes if takes[each] > self.call_seconds_max.get(each, CALL_SECONDS)] == []
        self.count(talk, takes, cost)

    def report_again(self, uniqueid, witness, ending):
        """Have the other witness report as well: the same, or a little more or less."""
        if ending.answered and self.drawn.random() < 0.5:
            ending = structs.replace(ending, talk_ms=max(0, ending.talk_ms + self.drawn.choice([-3, 0, 1500])))
        (again,) = self.ask(Terminate("pbx1", uniqueid, witness, ending))
        assert not again.first

    def count(self, talk, takes, cost):
        self.seen["ended"] += 1
        self.seen["charged"] += cost > 0
        self.seen["bundled"] += bool(takes)
        self.seen["shared"] += bool(takes) and cost > 0
        self.seen["cut"] += talk.answered_at is not None and self.now == talk.ends_at()

    def held_by(self, reference):
        """Return the kind and the held amount of each account of which a call holds something."""
        hold, account = tables.hold, tables.account
        query = (
            sa.select(hold.c.account_id, account.c.kind, hold.c.amount)
            .join(account, account.c.id == hold.c.account_id)
            .where(hold.c.reference.like(f"%{reference}"), hold.c.state == "open")
        )
        with self.engine.begin() as tx:
            return {row.account_id: (row.kind, row.amount) for row in tx.execute(query)}

    def posted(self):
        """Return the balance of each account of a subscriber; of none more is held than it has."""
        query = sa.select(tables.account).where(tables.account.c.subscriber_id.is_not(None))
        with self.engine.begin() as tx:
            rows = tx.execute(query).all()
        assert [row for row in rows if not 0 <= row.held <= row.posted] == []
        return {row.id: row.posted for row in rows}


def live_through(seed, days, steps=60):
    network = Network(seed)
    for number in range(days):
        network.begin_day(number)
        for _ in range(steps):
            network.do_something()
    network.go_on(CALL_SECONDS + RING_SECONDS)
    proved(network.engine)
    network.engine.dispose()
    return network.seen


def test_each_call_pays_as_its_model_does():
    seen = live_through("calls", 8)
    assert min(seen[each] for each in ("charged", "bundled", "shared", "cut", "renewed", "shortened", "refused")) > 0


@pytest.mark.nightly
def test_more_days_of_calls_pay_so():
    seed = secrets.token_hex(4)
    print(f"seed {seed}")  # each night another one
    live_through(seed, 200)
