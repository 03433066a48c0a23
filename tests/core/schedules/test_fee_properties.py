"""Fees under any order of days, top-ups, crashes and clock steps: the ledger is what a plain model says."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import count

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from celcombiller.core.audit.report import audit
from celcombiller.core.errors import AlreadyTaken
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.model.accounts import Kind
from celcombiller.core.notifications.fee_notices import FeeNotices
from celcombiller.core.schedules import fee_periods, memberships, runs, schedule_records
from celcombiller.core.schedules.schedule_records import COUNT_MAX
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.transaction import transact
from celcombiller.jobs.fee_collection import FeePass
from celcombiller.jobs.schedule_pass import SchedulePass
from tests.core.ledger.test_book import database
from tests.core.schedules.test_fee_periods import credit
from tests.support.databases import on_postgresql
from tests.support.properties import share
from tests.support.schedules import DAY, NOW, RULES, Killed, drive, go, plan, proved, subscriber

FIRST = date(2026, 11, 1)
STEP, VALUE, SUSPEND_DAYS = 3, 10, 2
USERS = ("u1", "u2", "u3")


def fee_pass(engine, now):
    """Do what the service does between due dates, here and now."""

    async def at_once(work):
        with engine.begin() as tx:
            return work(tx)

    class Faults:
        def report(self, subject, error):
            raise error

    told = []
    look = FeePass(
        FeeNotices(), RULES.run_at, transact=at_once, read=at_once, now=lambda: now, tell=told.append, faults=Faults()
    )
    drive(look.run())
    return told


@dataclass
class Period:
    amount: int
    due_at: datetime
    suspend_at: datetime
    paid: int = 0
    state: str = "owed"
    suspended: bool = False


@dataclass
class Member:
    balance: int = 0
    held: int = 0
    enabled: bool = True
    joined_on: date | None = None
    credited: bool = False
    periods: dict = field(default_factory=dict)


def at(day, clock=time(0)):
    return datetime.combine(day, clock, UTC)


class Model:
    """The rules of fees in plain Python: a fee of 10 each three days, for three subscribers."""

    def __init__(self, when_short, joining):
        self.when_short, self.joining = when_short, joining
        self.members = {name: Member() for name in USERS}
        self.done_until = NOW.date() - DAY
        self.open_dates, self.undone = set(), set()

    def join(self, name, now):
        who, today = self.members[name], now.date()
        who.joined_on = today
        start = FIRST + (today - FIRST).days // STEP * STEP * DAY
        known = who.periods.get(start)
        since = (at(today), at(today + SUSPEND_DAYS * DAY))
        if known is not None:
            if known.state == "cancelled" and start not in self.undone:
                known.state, known.suspended, (known.due_at, known.suspend_at) = "owed", False, since
            return
        left = STEP - (today - start).days
        amount = {"whole": VALUE, "days": -(-VALUE * left // STEP), "next": 0}[self.joining]
        if left < STEP and amount and start not in self.undone:
            who.periods[start] = Period(amount, *since)

    def leave(self, name):
        who = self.members[name]
        who.joined_on = None
        for each in who.periods.values():
            if each.state == "owed":
                each.state = "cancelled"

    def take(self, who, period, *, may_be_part):
        some = max(who.balance - who.held, 0)
        amount = min(some, period.amount - period.paid) if may_be_part else period.amount - period.paid
        if 0 < amount <= some:
            who.balance -= amount
            period.paid += amount
            period.state = "paid" if period.paid == period.amount else "owed"

    def round(self, now):
        today = now.date() if now.time() >= RULES.run_at else now.date() - DAY
        due = [FIRST + n * STEP * DAY for n in range(200)]
        if today > self.done_until:
            self.open_dates |= {each for each in due if self.done_until < each <= today}
            self.done_until = today
        for day in sorted(self.open_dates - self.undone):
            for who in self.members.values():
                if who.joined_on is None or who.joined_on > day or day in who.periods:
                    continue
                made = Period(VALUE, at(day, RULES.run_at), at(day + SUSPEND_DAYS * DAY, RULES.run_at))
                who.periods[day] = made
                if not who.enabled:
                    made.state = "passed"
                else:
                    self.take(who, made, may_be_part=self.when_short == "part")
                who.credited = False
        self.open_dates = {each for each in self.open_dates if each >= self.done_until}
        for who in self.members.values():
            for _, period in sorted(who.periods.items()):
                waits = self.when_short == "wait" and not who.credited
                if period.state == "owed" and period.due_at <= now and who.enabled and not waits:
                    self.take(who, period, may_be_part=self.when_short == "part")
            for period in who.periods.values():
                if period.state == "owed" and period.suspend_at <= now:
                    period.suspended = True

    def undo(self, day):
        self.undone.add(day)
        for who in self.members.values():
            period = who.periods.get(day)
            if period is not None and period.state in ("owed", "paid"):
                who.balance += period.paid
                period.state = "undone"

    def waive(self, name, day):
        who = self.members[name]
        who.balance += who.periods[day].paid
        who.periods[day].state = "waived"


class FeeMachine(RuleBasedStateMachine):
    """One fee, three subscribers, two nodes and a clock that steps."""

    users = st.sampled_from(USERS)

    @initialize(when_short=st.sampled_from(["retry", "part"]), joining=st.sampled_from(["whole", "days", "next"]))
    def begin(self, when_short, joining):
        self.engine, self.now = database(), NOW
        self.model = Model(when_short, joining)
        with self.engine.begin() as tx:
            for number in range(1, 4):
                subscriber(tx, number)
            facts = {"interval_days": STEP, "first_on": FIRST, "count": COUNT_MAX, "suspend_days": SUSPEND_DAYS}
            plan(tx, value=VALUE, when_short=when_short, joining=joining, **facts)

    def teardown(self):
        if hasattr(self, "engine"):
            self.engine.dispose()

    @rule(name=users)
    def join(self, name):
        with self.engine.begin() as tx:
            who = subscriber_records.find(tx, name)
            try:
                memberships.join(tx, schedule_records.find(tx, 1), who.id, now=self.now)
            except AlreadyTaken:
                return
        self.model.join(name, self.now)

    @rule(name=users)
    def leave(self, name):
        with self.engine.begin() as tx:
            membership = memberships.member(tx, 1, subscriber_records.find(tx, name).id)
            if membership is None:
                return
            memberships.leave(tx, membership, self.now)
        self.model.leave(name)

    @rule(name=users, amount=st.sampled_from([3, 10, 25]))
    def top_up(self, name, amount):
        credit(self.engine, name, amount, self.now)
        self.model.members[name].balance += amount

    @rule(name=users, amount=st.sampled_from([0, 5, 100]))
    def hold(self, name, amount):
        """As calls do: some of the credit, or all of it."""
        with self.engine.begin() as tx:
            account = balances(tx, subscriber_records.find(tx, name).id)[Kind.VOICE]
            held = min(amount, account.posted)
            tx.execute(sa.delete(tables.hold).where(tables.hold.c.account_id == account.id))
            if held:
                values = {"reference": f"h{account.id}", "account_id": account.id, "amount": held, "state": "open"}
                tx.execute(sa.insert(tables.hold).values(values | {"opened_at": NOW, "expires_at": NOW}))
            tx.execute(sa.update(tables.account).where(tables.account.c.id == account.id).values(held=held))
        self.model.members[name].held = held

    @rule(name=users, enabled=st.booleans())
    def enable(self, name, enabled):
        with self.engine.begin() as tx:
            subscriber_records.enable(tx, name, self.now, enabled=enabled)
        self.model.members[name].enabled = enabled

    @rule(hours=st.sampled_from([1, 13, 24, 72, 100]))
    def time_goes_on(self, hours):
        self.now += timedelta(hours=hours)

    @rule(hours=st.sampled_from([-30, -3, 30]))
    def the_clock_steps_for_one_look(self, hours):
        self.look(self.now + timedelta(hours=hours))

    @rule(size=st.integers(1, 4))
    def look_of_a_node(self, size):
        self.look(self.now, size)

    @rule(nth=st.integers(1, 60), after_commit=st.booleans())
    def a_node_dies_and_another_goes_on(self, nth, after_commit):
        left = [nth]

        def die(*_):
            left[0] -= 1
            if left[0] == 0:
                raise Killed

        names = ["commit"] if after_commit else ["before_cursor_execute", "commit"]
        for name in names:
            sa.event.listen(self.engine, name, die)
        try:
            go(self.engine, self.now, size=1)
            fee_pass(self.engine, self.now)
        except Killed:
            pass
        finally:
            for name in names:
                sa.event.remove(self.engine, name, die)
        self.look(self.now)

    @rule(name=users, data=st.data())
    def waive(self, name, data):
        periods = {d: p for d, p in self.model.members[name].periods.items() if p.state in ("owed", "paid")}
        if not periods:
            return
        day = data.draw(st.sampled_from(sorted(periods)))
        with self.engine.begin() as tx:
            fee_periods.waive(tx, self.rows(tx)[name, day].id, note="", now=self.now)
        self.model.waive(name, day)

    @rule(data=st.data())
    def undo_a_run(self, data):
        with self.engine.begin() as tx:
            found = runs.history(tx, limit=99)
            if not found:
                return
            run = data.draw(st.sampled_from(found))
            fee_periods.request_undo(tx, run.id, note="wrong", now=self.now)
        self.model.undo(run.due_on)
        self.look(self.now)

    def look(self, now, size=2):
        go(self.engine, now, size=size)
        fee_pass(self.engine, now)
        self.model.round(now)

    def rows(self, tx):
        return {(each.username, each.period.due_on): each.period for each in fee_periods.list_all(tx, limit=10_000)}

    @precondition(lambda self: hasattr(self, "engine"))
    @invariant()
    def the_ledger_is_what_the_model_says(self):
        with self.engine.begin() as tx:
            found = {key: (each.state.value, each.amount, each.paid) for key, each in self.rows(tx).items()}
            posted = {name: balances(tx, subscriber_records.find(tx, name).id)[Kind.VOICE].posted for name in USERS}
            suspended = {name: subscriber_records.find(tx, name).suspended for name in USERS}
        members = self.model.members
        assert found == {
            (name, day): (each.state, each.amount, each.paid)
            for name, who in members.items()
            for day, each in who.periods.items()
        }
        assert posted == {name: who.balance for name, who in members.items()}
        assert min(posted.values()) >= 0
        assert suspended == {
            name: any(each.suspended and each.state == "owed" for each in who.periods.values())
            for name, who in members.items()
        }

    @precondition(lambda self: hasattr(self, "engine"))
    @invariant()
    def everything_is_proved(self):
        proved(self.engine)


TestFees = FeeMachine.TestCase
TestFees.settings = share(0.2)


@pytest.mark.real
def test_two_nodes_take_each_fee_once(cluster):
    """Two nodes at once on PostgreSQL, while top-ups come (two seconds)."""
    with on_postgresql(cluster) as engine:
        with engine.begin() as tx:
            facts = {"interval_days": 1, "first_on": FIRST, "count": COUNT_MAX, "suspend_days": 0}
            schedule = plan(tx, value=VALUE, when_short="part", **facts)
            for number in range(1, 41):
                who = subscriber(tx, number)
                memberships.join(tx, schedule, who.id, now=NOW)
        for number in range(1, 41):
            credit(engine, f"u{number}", number % 14 + 1)

        def node(seed):
            for day in range(3):
                _patiently(engine, NOW + day * DAY)

        def seller():
            for number in range(1, 41):
                credit(engine, f"u{number}", 3)

        with ThreadPoolExecutor(3) as pool:
            for work in [pool.submit(node, 1), pool.submit(node, 2), pool.submit(seller)]:
                work.result()
        _patiently(engine, NOW + 2 * DAY)
        with engine.begin() as tx:
            report = audit(tx)
            assert report.ok, report.differences[:3]
            periods = fee_periods.list_all(tx, limit=1000)
            assert len(periods) == 120
            for number in range(1, 41):
                mine = [each.period.paid for each in periods if each.username == f"u{number}"]
                left = balances(tx, subscriber_records.find(tx, f"u{number}").id)[Kind.VOICE].posted
                assert sum(mine) == min(number % 14 + 4, 30)
                assert left == max(number % 14 + 4 - 30, 0)


def _patiently(engine, now):
    """Do a node's whole look, each transaction as the biller does it: again where it lost a race."""

    async def door(work):
        return transact(engine, work)

    class Faults:
        def report(self, subject, error):
            raise error

    ticks = count()
    round_ = SchedulePass(door, RULES, clock=lambda: now, seconds=lambda: next(ticks) / 40, tell=lambda event: None)
    round_._size = 7
    drive(round_.run())
    look = FeePass(
        FeeNotices(), RULES.run_at, transact=door, read=door, now=lambda: now, tell=lambda event: None, faults=Faults()
    )
    drive(look.run())
