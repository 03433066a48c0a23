"""Schedules and memberships: what is made, found, changed, ended and refused."""

from datetime import date

import pytest
import sqlalchemy as sa

from celcombiller.core.errors import AlreadyTaken, InvalidValue, UnknownMembership, UnknownSchedule
from celcombiller.core.model.schedules import CatchUp, Recurrence, ScheduleKind
from celcombiller.core.schedules import memberships as schedules_memberships
from celcombiller.core.schedules import schedule_records
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from tests.core.ledger.test_book import database
from tests.support.schedules import DAY, NOW, TODAY, plan, subscriber


@pytest.fixture
def tx():
    engine = database()
    with engine.begin() as tx:
        yield tx
    engine.dispose()


def user(tx, username="u1001"):
    return subscriber_records.find(tx, username).id


def test_a_schedule_is_found_as_it_was_made(tx):
    made = plan(tx, name="gold", recurrence="monthly", day=31, kind=3, catch_up="last", time_zone="America/Sao_Paulo")
    assert schedule_records.find(tx, made.id) == made
    assert (made.kind, made.recurrence, made.catch_up) == (ScheduleKind.BOTH, Recurrence.MONTHLY, CatchUp.LAST)
    assert made.done_until == TODAY - DAY


def test_names_may_repeat(tx):
    first, second = plan(tx, name="gold"), plan(tx, name="gold")
    assert schedule_records.find_by_name(tx, "gold") == [first, second]
    assert schedule_records.list_all(tx) == [first, second]
    assert schedule_records.find_by_name(tx, "silver") == []


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
            schedule_records.change(tx, made.id, **facts)
    assert schedule_records.find(tx, made.id) == made


def test_a_changed_recurrence_has_its_own_day(tx):
    made = plan(tx)
    changed = schedule_records.change(tx, made.id, recurrence="weekly", day=2, value=99, enabled=False, catch_up="none")
    assert schedule_records.find(tx, made.id) == changed
    assert (changed.interval_days, changed.day, changed.value, changed.enabled) == (None, 2, 99, False)
    with pytest.raises(InvalidValue, match="done_until"):
        schedule_records.change(tx, made.id, done_until=TODAY)


def test_a_deleted_schedule_frees_its_members(tx):
    made = plan(tx)
    membership = schedules_memberships.join(tx, made, user(tx), now=NOW)
    schedule_records.delete(tx, made.id, NOW)
    for attempt in (
        lambda: schedule_records.find(tx, made.id),
        lambda: schedule_records.change(tx, made.id, value=1),
        lambda: schedule_records.delete(tx, made.id, NOW),
        lambda: schedules_memberships.join(tx, made, user(tx), now=NOW),
    ):
        with pytest.raises(UnknownSchedule):
            attempt()
    with pytest.raises(UnknownMembership):
        schedules_memberships.find_membership(tx, membership.id)
    assert schedule_records.find_by_name(tx, "daily") == []
    ended = sa.select(tables.membership.c.ended_at)
    assert tx.execute(ended).scalar_one() == NOW


def test_members_of_deleted_schedules_end_in_batches(tx, monkeypatch):
    monkeypatch.setattr(schedule_records, "END_MAX", 2)
    made = plan(tx)
    memberships = [schedules_memberships.join(tx, made, user(tx, f"u{n}"), now=NOW) for n in (1001, 1002, 1003)]
    schedule_records.delete(tx, made.id, NOW)
    for each in memberships:  # ended for everybody at once, written a little later
        with pytest.raises(UnknownMembership):
            schedules_memberships.leave(tx, each, NOW)
    assert [schedule_records.end_orphans(tx, NOW), schedule_records.end_orphans(tx, NOW)] == [1, 0]


def test_a_member_joins_once_with_a_count(tx):
    made = plan(tx, count=7)
    first = schedules_memberships.join(tx, made, user(tx), now=NOW)
    second = schedules_memberships.join(tx, made, user(tx, "u1002"), count=2, joined_on=TODAY + DAY, now=NOW)
    assert (first.count, first.joined_on, second.count, second.joined_on) == (7, TODAY, 2, TODAY + DAY)
    with pytest.raises(AlreadyTaken):
        schedules_memberships.join(tx, made, user(tx), now=NOW)
    assert (
        schedules_memberships.find_membership(tx, first.id)
        == schedules_memberships.member(tx, made.id, user(tx))
        == first
    )
    assert schedules_memberships.memberships(tx, schedule_id=made.id, limit=9) == [first, second]
    assert schedules_memberships.memberships(tx, after_id=first.id, limit=9) == [second]
    assert schedules_memberships.memberships(tx, subscriber_id=user(tx), limit=9) == [first]


def test_joining_dates_are_in_the_schedules_zone(tx):
    made = plan(tx, time_zone="Pacific/Kiritimati")  # 14 hours ahead
    assert schedules_memberships.join(tx, made, user(tx), now=NOW).joined_on == TODAY + DAY


def test_a_renewal_sets_the_count_and_is_recorded(tx):
    membership = schedules_memberships.join(tx, plan(tx), user(tx), now=NOW)
    renewed = schedules_memberships.renew(tx, membership, count=15, months=12, now=NOW)
    assert schedules_memberships.find_membership(tx, membership.id) == renewed
    assert renewed.count == 15
    (contract,) = schedules_memberships.contracts(tx, [membership.id])
    assert (contract.membership_id, contract.months, contract.at) == (membership.id, 12, NOW)
    with pytest.raises(InvalidValue):
        schedules_memberships.renew(tx, membership, count=-1, months=1, now=NOW)


def test_a_member_may_leave_and_join_again(tx):
    made = plan(tx)
    first = schedules_memberships.join(tx, made, user(tx), now=NOW)
    schedules_memberships.leave(tx, first, NOW)
    again = schedules_memberships.join(tx, made, user(tx), now=NOW)
    assert again.id != first.id
    for attempt in (
        lambda: schedules_memberships.leave(tx, first, NOW),
        lambda: schedules_memberships.set_count(tx, first, 9),
        lambda: schedules_memberships.renew(tx, first, count=9, months=1, now=NOW),
    ):
        with pytest.raises(UnknownMembership):
            attempt()
    assert schedules_memberships.contracts(tx, [first.id]) == []


def test_a_subscriber_leaves_all_his_schedules_at_once(tx):
    for _ in range(3):
        made = plan(tx)
        schedules_memberships.join(tx, made, user(tx), now=NOW)
        schedules_memberships.join(tx, made, user(tx, "u1002"), now=NOW)
    assert schedules_memberships.leave_all(tx, user(tx), NOW) == 3
    assert len(schedules_memberships.memberships(tx, limit=9)) == 3


def test_a_member_is_a_subscriber(tx):
    with pytest.raises(sa.exc.IntegrityError):
        schedules_memberships.join(tx, plan(tx), 12345, now=NOW)
    assert subscriber(tx, 5).id != 12345
