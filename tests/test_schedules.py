"""Schedules and memberships: what is made, found, changed, ended and refused."""

from datetime import date

import pytest
import sqlalchemy as sa
from rounds import DAY, NOW, TODAY, plan, subscriber
from test_ledger import database

from celcombiller import schedules, schema, subscribers
from celcombiller.errors import AlreadyTaken, InvalidValue, UnknownMembership, UnknownSchedule
from celcombiller.model import CatchUp, Recurrence, ScheduleKind


@pytest.fixture
def tx():
    engine = database()
    with engine.begin() as tx:
        yield tx
    engine.dispose()


def user(tx, username="u1001"):
    return subscribers.find(tx, username).id


def test_a_schedule_is_found_as_it_was_made(tx):
    made = plan(tx, name="gold", recurrence="monthly", day=31, kind=3, catch_up="last", time_zone="America/Sao_Paulo")
    assert schedules.find(tx, made.id) == made
    assert (made.kind, made.recurrence, made.catch_up) == (ScheduleKind.BOTH, Recurrence.MONTHLY, CatchUp.LAST)
    assert made.done_until == TODAY - DAY


def test_names_may_repeat(tx):
    first, second = plan(tx, name="gold"), plan(tx, name="gold")
    assert schedules.named(tx, "gold") == [first, second]
    assert schedules.everything(tx) == [first, second]
    assert schedules.named(tx, "silver") == []


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"kind": 5}, "kind must be one of 1, 2, 3, 4"),
        ({"value": -1}, "value"),
        ({"value": 2**53}, "value"),
        ({"count": -1}, "count"),
        ({"recurrence": "yearly"}, "recurrence must be one of monthly"),
        ({"recurrence": "monthly", "day": 32}, "day must be a whole number from 1 to 31"),
        ({"recurrence": "monthly", "day": None}, "day"),
        ({"recurrence": "weekly", "day": 8}, "from 1 to 7"),
        ({"recurrence": "weekly", "day": 1, "interval_days": 3}, "interval_days has no meaning"),
        ({"interval_days": 0}, "interval_days"),
        ({"day": 3}, "day has no meaning"),
        ({"recurrence": "once", "first_on": TODAY - DAY}, "past"),
        ({"first_on": date(1969, 1, 1)}, "first_on"),
        ({"time_zone": "Mars/Olympus"}, "IANA"),
        ({"time_zone": "America"}, "IANA"),
        ({"time_zone": "../etc/passwd"}, "IANA"),
        ({"time_zone": ""}, "IANA"),
        ({"catch_up": "some"}, "catch_up"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(tx, facts, says):
    with pytest.raises(InvalidValue, match=says):
        plan(tx, **facts)
    made = plan(tx, name="right")
    if "first_on" not in facts:
        with pytest.raises(InvalidValue, match=says):
            schedules.change(tx, made.id, **facts)
    assert schedules.find(tx, made.id) == made


def test_a_change_is_kept_and_a_new_recurrence_has_its_own_day(tx):
    made = plan(tx)
    changed = schedules.change(tx, made.id, recurrence="weekly", day=2, value=99, enabled=False, catch_up="none")
    assert schedules.find(tx, made.id) == changed
    assert (changed.interval_days, changed.day, changed.value, changed.enabled) == (None, 2, 99, False)
    with pytest.raises(InvalidValue, match="done_until"):
        schedules.change(tx, made.id, done_until=TODAY)


def test_a_deleted_schedule_is_unknown_and_its_members_are_free(tx):
    made = plan(tx)
    membership = schedules.join(tx, made, user(tx), now=NOW)
    schedules.delete(tx, made.id, NOW)
    for attempt in (
        lambda: schedules.find(tx, made.id),
        lambda: schedules.change(tx, made.id, value=1),
        lambda: schedules.delete(tx, made.id, NOW),
        lambda: schedules.join(tx, made, user(tx), now=NOW),
    ):
        with pytest.raises(UnknownSchedule):
            attempt()
    with pytest.raises(UnknownMembership):
        schedules.find_membership(tx, membership.id)
    assert schedules.named(tx, "daily") == []
    ended = sa.select(schema.membership.c.ended_at)
    assert tx.execute(ended).scalar_one() == NOW


def test_members_of_a_deleted_schedule_end_in_short_transactions(tx, monkeypatch):
    monkeypatch.setattr(schedules, "END_MAX", 2)
    made = plan(tx)
    memberships = [schedules.join(tx, made, user(tx, f"u{n}"), now=NOW) for n in (1001, 1002, 1003)]
    schedules.delete(tx, made.id, NOW)
    for each in memberships:  # ended for everybody at once, written a little later
        with pytest.raises(UnknownMembership):
            schedules.leave(tx, each, NOW)
    assert [schedules.end_orphans(tx, NOW), schedules.end_orphans(tx, NOW)] == [1, 0]


def test_a_member_joins_with_the_schedules_count_or_his_own_and_once(tx):
    made = plan(tx, count=7)
    first = schedules.join(tx, made, user(tx), now=NOW)
    second = schedules.join(tx, made, user(tx, "u1002"), count=2, joined_on=TODAY + DAY, now=NOW)
    assert (first.count, first.joined_on, second.count, second.joined_on) == (7, TODAY, 2, TODAY + DAY)
    with pytest.raises(AlreadyTaken):
        schedules.join(tx, made, user(tx), now=NOW)
    assert schedules.find_membership(tx, first.id) == schedules.member(tx, made.id, user(tx)) == first
    assert schedules.memberships(tx, schedule_id=made.id, limit=9) == [first, second]
    assert schedules.memberships(tx, after_id=first.id, limit=9) == [second]
    assert schedules.memberships(tx, subscriber_id=user(tx), limit=9) == [first]


def test_who_joins_joins_on_the_date_of_the_schedules_zone(tx):
    made = plan(tx, time_zone="Pacific/Kiritimati")  # 14 hours ahead
    assert schedules.join(tx, made, user(tx), now=NOW).joined_on == TODAY + DAY


def test_a_renewal_sets_the_count_and_is_recorded(tx):
    membership = schedules.join(tx, plan(tx), user(tx), now=NOW)
    renewed = schedules.renew(tx, membership, count=15, months=12, now=NOW)
    assert schedules.find_membership(tx, membership.id) == renewed
    assert renewed.count == 15
    (contract,) = schedules.contracts(tx, [membership.id])
    assert (contract.membership_id, contract.months, contract.at) == (membership.id, 12, NOW)
    with pytest.raises(InvalidValue):
        schedules.renew(tx, membership, count=-1, months=1, now=NOW)


def test_who_left_may_join_again_and_the_old_membership_stays_ended(tx):
    made = plan(tx)
    first = schedules.join(tx, made, user(tx), now=NOW)
    schedules.leave(tx, first, NOW)
    again = schedules.join(tx, made, user(tx), now=NOW)
    assert again.id != first.id
    for attempt in (
        lambda: schedules.leave(tx, first, NOW),
        lambda: schedules.set_count(tx, first, 9),
        lambda: schedules.renew(tx, first, count=9, months=1, now=NOW),
    ):
        with pytest.raises(UnknownMembership):
            attempt()
    assert schedules.contracts(tx, [first.id]) == []


def test_a_subscriber_leaves_all_his_schedules_at_once(tx):
    for _ in range(3):
        made = plan(tx)
        schedules.join(tx, made, user(tx), now=NOW)
        schedules.join(tx, made, user(tx, "u1002"), now=NOW)
    assert schedules.leave_all(tx, user(tx), NOW) == 3
    assert len(schedules.memberships(tx, limit=9)) == 3


def test_a_member_is_a_subscriber(tx):
    with pytest.raises(sa.exc.IntegrityError):
        schedules.join(tx, plan(tx), 12345, now=NOW)
    assert subscriber(tx, 5).id != 12345
