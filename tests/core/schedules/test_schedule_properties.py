"""Law 6 under any order of rounds, crashes, clock steps, changes and faults: all is proved after each step."""

from datetime import timedelta

import hypothesis.strategies as st
import sqlalchemy as sa
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy, Credit
from celcombiller.core.errors import AlreadyTaken, UnknownMembership, UnknownSubscriber
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.schedules import CatchUp, RunState
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schedules import forecast, memberships, runs, schedule_records
from celcombiller.core.schedules.due_dates import due_dates, last_come
from celcombiller.core.schedules.runs import ScheduleRules
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from tests.core.ledger.test_book import database
from tests.support.properties import share
from tests.support.schedules import DAY, NOW, Killed, credit_rows, go, plan, proved, subscriber

ABSENCE_DAYS = 40
USERS = [f"u{n}" for n in range(1, 6)]


class ScheduleMachine(RuleBasedStateMachine):
    """Two schedules, five subscribers, one clock that nobody trusts."""

    users = st.sampled_from(USERS)
    groups = st.sampled_from([0, 1])

    @initialize(catch_up=st.sampled_from(CatchUp), kind=st.sampled_from([1, 2, 3, 4]), use_up=st.booleans())
    def begin(self, catch_up, kind, use_up):
        self.rules = ScheduleRules(catch_up_max_days=ABSENCE_DAYS, disabled_use_up=use_up)
        self.engine = database()
        self.now = NOW
        self.latest = NOW
        self.rows = []
        self.counts = {}
        with self.engine.begin() as tx:
            for number in range(1, 6):
                subscriber(tx, number)
            daily = plan(tx, catch_up=catch_up, kind=kind)
            weekly = plan(tx, recurrence="weekly", day=5, value=7, time_zone="America/Sao_Paulo")
        self.ids = [daily.id, weekly.id]

    def teardown(self):
        if hasattr(self, "engine"):
            self.prove()
            self.engine.dispose()

    def membership(self, tx, group, user):
        return memberships.member(tx, self.ids[group], subscriber_records.find(tx, user).id)

    # -- who is in it ------------------------------------------------------------------------------------------------

    @rule(group=groups, user=users, count=st.integers(0, 4), days=st.integers(-2, 2))
    def join(self, group, user, count, days):
        with self.engine.begin() as tx:
            try:
                made = memberships.join(
                    tx,
                    schedule_records.find(tx, self.ids[group]),
                    subscriber_records.find(tx, user).id,
                    count=count,
                    joined_on=self.now.date() + days * DAY,
                    now=self.now,
                )
            except (AlreadyTaken, UnknownSubscriber):
                return
        self.counts[made.id] = (count, 0)

    @rule(group=groups, user=users)
    def leave(self, group, user):
        with self.engine.begin() as tx:
            try:
                membership = self.membership(tx, group, user)
                if membership is not None:
                    memberships.leave(tx, membership, self.now)
            except (UnknownSubscriber, UnknownMembership):
                return

    @rule(group=groups, user=users, count=st.integers(0, 5), renewed=st.booleans())
    def set_count(self, group, user, count, renewed):
        with self.engine.begin() as tx:
            try:
                membership = self.membership(tx, group, user)
            except UnknownSubscriber:
                return
            if membership is None:
                return
            if renewed:
                memberships.renew(tx, membership, count=count, months=1, now=self.now)
            else:
                memberships.set_count(tx, membership, count)
            self.counts[membership.id] = (count, self.used(tx, membership.id))

    @rule(user=users, enabled=st.booleans())
    def enable(self, user, enabled):
        with self.engine.begin() as tx:
            try:
                subscriber_records.enable(tx, user, enabled=enabled, now=NOW)
            except UnknownSubscriber:
                return

    @rule(user=st.sampled_from(USERS[3:]), leaving=st.booleans())
    def delete_subscriber(self, user, leaving):
        with self.engine.begin() as tx:
            try:
                gone = subscriber_records.delete(tx, user, self.now)
            except UnknownSubscriber:
                return
            if leaving:
                memberships.leave_all(tx, gone.id, self.now)

    # -- what it gives -----------------------------------------------------------------------------------------------

    @rule(group=groups, value=st.sampled_from([0, 1, 10]), enabled=st.booleans())
    def change(self, group, value, enabled):
        with self.engine.begin() as tx:
            schedule_records.change(tx, self.ids[group], value=value, enabled=enabled)

    @rule(day=st.integers(1, 7))
    def move_the_day(self, day):
        with self.engine.begin() as tx:
            schedule_records.change(tx, self.ids[1], day=day)

    @rule(user=users, kind=st.sampled_from(Kind))
    def fill_the_pot(self, user, kind):
        with self.engine.begin() as tx:
            given = Credit(user, kind, AMOUNT_MAX - 5, "web", f"id:{user}{kind}")
            process_batch(tx, ChargingPolicy(Tariff([Rate()])), [given], self.now)

    # -- time and rounds ---------------------------------------------------------------------------------------------

    @rule(hours=st.sampled_from([1, 13, 24, 24, 24, 60, 24 * 9]))
    def time_goes_on(self, hours):
        self.now += timedelta(hours=hours)

    @rule(hours=st.sampled_from([-3, -24, -24 * 20, -24 * 400, 24 * 35, 24 * 400]))
    def the_clock_steps(self, hours):
        """A later round sees it right again, or it stays so."""
        go(self.engine, self.now + timedelta(hours=hours), self.rules)
        self.latest = max(self.latest, self.now + timedelta(hours=min(hours, 24 * 40)))

    @rule(at=st.integers(1, 60), after_commit=st.booleans())
    def the_process_dies_in_a_round(self, at, after_commit):
        left = [at]

        def die(*_):
            left[0] -= 1
            if left[0] == 0:
                raise Killed

        names = ["commit"] if after_commit else ["before_cursor_execute", "commit"]
        for name in names:
            sa.event.listen(self.engine, name, die)
        try:
            go(self.engine, self.now, self.rules)
        except Killed:
            pass
        finally:
            for name in names:
                sa.event.remove(self.engine, name, die)

    @rule(size=st.integers(1, 5))
    def round(self, size):
        expected = self.forecast()
        before = credit_rows(self.engine)
        told = go(self.engine, self.now, self.rules, size=size)
        assert not [each for each in told if type(each).__name__ == "Broken"]
        after = credit_rows(self.engine)
        assert after[: len(before)] == before
        if expected is not None and not [row for row in after[len(before) :] if row[3] == "failed"]:
            assert sorted(after[len(before) :]) == sorted(expected)
        self.nothing_is_left_due()

    def forecast(self):
        """Say what the round will give; after too long an absence it gives nothing new."""
        expected = []
        with self.engine.begin() as tx:
            for each in schedule_records.list_all(tx):
                today = last_come(self.now, self.rules.run_at, each.time_zone)
                if (today - each.done_until).days > ABSENCE_DAYS:
                    return None
                dues = forecast.due(tx, each, self.rules, today, self.now)
                found = forecast.due_members(tx, dues, self.rules, limit=1000)
                expected += [(each.id, who.username, who.due_on, who.outcome.value) for who in found]
        return expected

    def nothing_is_left_due(self):
        """Whoever is in a schedule has a row for each of its dates that is being given, and every date is decided."""
        with self.engine.begin() as tx:
            rows = {
                (row.schedule_id, row.subscriber_id, row.due_on)
                for row in tx.execute(sa.select(tables.schedule_credit))
            }
            deleted = set(
                tx.execute(
                    sa.select(tables.subscriber.c.id).where(tables.subscriber.c.deleted_at.is_not(None))
                ).scalars()
            )
            history = runs.history(tx, limit=10_000)
            for schedule in schedule_records.list_all(tx):
                decided = {run.due_on for run in history if run.schedule_id == schedule.id}
                assert len(decided) == sum(run.schedule_id == schedule.id for run in history)
                if not schedule.enabled:
                    continue
                living = memberships.memberships(tx, schedule_id=schedule.id, limit=99)
                for run in history:
                    if run.schedule_id == schedule.id and run.state is RunState.OPEN:
                        for each in living:
                            if each.joined_on <= run.due_on and each.subscriber_id not in deleted:
                                assert (schedule.id, each.subscriber_id, run.due_on) in rows
                today = last_come(self.now, self.rules.run_at, schedule.time_zone)
                assert (today - schedule.done_until).days <= 0 or (today - schedule.done_until).days > ABSENCE_DAYS

    # -- the laws ----------------------------------------------------------------------------------------------------

    def used(self, tx, membership_id):
        credit = tables.schedule_credit.c
        taking = ["credited", "passed"] if self.rules.disabled_use_up else ["credited"]
        mine = sa.select(sa.func.count()).where(credit.membership_id == membership_id, credit.outcome.in_(taking))
        return tx.execute(mine).scalar_one()

    @rule()
    def prove(self):
        proved(self.engine)

    @precondition(lambda self: hasattr(self, "engine"))
    @invariant()
    def what_was_given_stays_and_no_date_is_given_twice(self):
        rows = credit_rows(self.engine)
        assert rows[: len(self.rows)] == self.rows
        assert len({row[:3] for row in rows}) == len(rows)
        self.rows = rows

    @precondition(lambda self: hasattr(self, "engine"))
    @invariant()
    def every_credit_uses_up_one_run_and_comes_to_a_member_of_that_date(self):
        with self.engine.begin() as tx:
            credited = tx.execute(
                sa.select(tables.schedule_credit, tables.membership.c.joined_on).join_from(
                    tables.schedule_credit,
                    tables.membership,
                    tables.membership.c.id == tables.schedule_credit.c.membership_id,
                )
            ).all()
            assert all(row.joined_on <= row.due_on for row in credited)
            for row in tx.execute(sa.select(tables.membership)).all():
                count, used_before = self.counts[row.id]
                assert row.count == count - (self.used(tx, row.id) - used_before)
                assert row.count > 0 or row.ended_at is not None or count == 0

    @precondition(lambda self: hasattr(self, "engine"))
    @invariant()
    def only_due_dates_are_given(self):
        with self.engine.begin() as tx:
            given = {(run.schedule_id, run.due_on): run for run in runs.history(tx, limit=10_000)}
            daily = schedule_records.find(tx, self.ids[0])
        for schedule_id, _, due_on, _ in self.rows:
            assert given[schedule_id, due_on].state is not RunState.SKIPPED
        asked = [day for (schedule_id, day) in given if schedule_id == daily.id]
        assert asked == [] or set(asked) <= set(due_dates(daily, NOW.date() - 2 * DAY, max(asked)))


TestSchedules = ScheduleMachine.TestCase
TestSchedules.settings = share(0.4)
