"""Schedules and who is in them: make, find, change and end, on an open transaction.

Nothing here moves credit; what is due is credited by `celcombiller.runs`. Whatever changes memberships, and whatever
credits them, locks the schedule first: so members have their turn in the order of their ids, nobody slips in behind
the one whose turn it is, and nobody leaves in the middle of his.
"""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from celcombiller import schema
from celcombiller.calendar import local_date, zone_of
from celcombiller.errors import AlreadyTaken, InvalidValue, UnknownMembership, UnknownSchedule
from celcombiller.ledger import AMOUNT_MAX
from celcombiller.model import CatchUp, Contract, Membership, Recurrence, Schedule, ScheduleKind

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime
    from enum import Enum

    from sqlalchemy.engine import Connection

E = TypeVar("E", bound="Enum")

COUNT_MAX = 1_000_000
INTERVAL_DAYS_MAX = 3660
END_MAX = 2000
"""Memberships ended in one transaction at most: a million at once would let calls wait for seconds."""

_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_FIRST, _LAST = date(1970, 1, 1), date(9000, 12, 31)
_DAYS = {Recurrence.MONTHLY: 31, Recurrence.WEEKLY: 7}
_FACTS = (
    *("name", "kind", "value", "recurrence", "day", "interval_days", "first_on", "count", "time_zone"),
    *("catch_up", "enabled"),
)

LIVING = schema.schedule.c.deleted_at.is_(None)
"""Not deleted."""

_schedule, _membership, _contract = schema.schedule, schema.membership, schema.contract
_LIVING_MEMBER = sa.and_(
    _membership.c.ended_at.is_(None),
    sa.exists().where(_schedule.c.id == _membership.c.schedule_id, LIVING),
)


# -- schedules -------------------------------------------------------------------------------------------------------


def add(
    tx: Connection,
    *,
    name: str,
    kind: int,
    value: int,
    recurrence: str,
    day: int | None,
    interval_days: int | None,
    first_on: date | None = None,
    count: int,
    time_zone: str,
    catch_up: str = CatchUp.ALL,
    now: datetime,
) -> Schedule:
    """Make a schedule; the first date that it can be due is today's. Names may repeat. Raises `InvalidValue`."""
    today = local_date(now, time_zone)
    made = _checked(
        Schedule(
            id=0,
            name=name,
            kind=_one_of(ScheduleKind, "kind", kind),
            value=value,
            recurrence=_one_of(Recurrence, "recurrence", recurrence),
            day=day,
            interval_days=interval_days,
            first_on=first_on or today,
            count=count,
            time_zone=time_zone,
            catch_up=_one_of(CatchUp, "catch_up", catch_up),
            enabled=True,
            done_until=today - timedelta(days=1),
            created_at=now,
        )
    )
    if made.recurrence is Recurrence.ONCE and made.first_on < today:
        raise _wrong("first_on", f"is {first_on}, which is past: a schedule of one date would never run")
    values = asdict(made)
    del values["id"]
    made_id = tx.execute(sa.insert(_schedule).values(values).returning(_schedule.c.id)).scalar_one()
    return replace(made, id=made_id)


def find(tx: Connection, schedule_id: int, *, lock: bool = False) -> Schedule:
    """Give a schedule that was not deleted; with ``lock`` nobody joins or credits until this transaction ends.

    Raises `UnknownSchedule`.
    """
    statement = sa.select(_schedule).where(_schedule.c.id == schedule_id, LIVING)
    row = tx.execute(statement.with_for_update(key_share=True) if lock else statement).first()
    if row is None:
        raise UnknownSchedule(f"no schedule has the id {schedule_id}")
    return schedule_of(row)


def named(tx: Connection, name: str) -> list[Schedule]:
    """Give all schedules of this name, oldest first."""
    rows = tx.execute(sa.select(_schedule).where(_schedule.c.name == name, LIVING).order_by(_schedule.c.id))
    return list(map(schedule_of, rows))


def everything(tx: Connection, *, after_id: int = 0, limit: int | None = None) -> list[Schedule]:
    """Give all schedules, oldest first; or as many as ``limit`` says of those after one."""
    living = sa.select(_schedule).where(LIVING, _schedule.c.id > after_id)
    return list(map(schedule_of, tx.execute(living.order_by(_schedule.c.id).limit(limit))))


def change(tx: Connection, schedule_id: int, **facts: Any) -> Schedule:
    """Put facts on a schedule; what has begun to be credited goes on as it was. Raises as `add` and `find` do.

    With a new ``recurrence``, ``day`` and ``interval_days`` are what is given with it.
    """
    for unknown in sorted(facts.keys() - set(_FACTS)):
        raise _wrong(unknown, "is nothing that can be changed")
    for name, kind in (("kind", ScheduleKind), ("recurrence", Recurrence), ("catch_up", CatchUp)):
        if name in facts:
            facts[name] = _one_of(kind, name, facts[name])
    if "recurrence" in facts:
        facts = {"day": None, "interval_days": None} | facts
    changed = _checked(replace(find(tx, schedule_id, lock=True), **facts))
    if facts:
        tx.execute(sa.update(_schedule).where(_schedule.c.id == schedule_id).values(facts))
    return changed


def delete(tx: Connection, schedule_id: int, now: datetime) -> Schedule:
    """End a schedule and its memberships. Its row stays, for what is recorded of it. Raises `UnknownSchedule`."""
    deleted = replace(find(tx, schedule_id, lock=True), deleted_at=now)
    tx.execute(sa.update(_schedule).where(_schedule.c.id == schedule_id).values(deleted_at=now))
    end_orphans(tx, now)
    return deleted


def end_orphans(tx: Connection, now: datetime) -> int:
    """End memberships of deleted schedules, as many as one short transaction may; give how many it were."""
    some = (
        sa.select(_membership.c.id)
        .join(_schedule, _schedule.c.id == _membership.c.schedule_id)
        .where(_membership.c.ended_at.is_(None), _schedule.c.deleted_at.is_not(None))
        .limit(END_MAX)
    )
    return tx.execute(sa.update(_membership).where(_membership.c.id.in_(some)).values(ended_at=now)).rowcount


def _checked(schedule: Schedule) -> Schedule:
    if not _NAME.fullmatch(schedule.name):
        raise _wrong("name", "must be 1 to 200 characters on one line")
    _check_whole("value", schedule.value, 0, AMOUNT_MAX)
    _check_whole("count", schedule.count, 0, COUNT_MAX)
    if not _FIRST <= schedule.first_on <= _LAST:
        raise _wrong("first_on", f"must be from {_FIRST} to {_LAST}")
    recurrence = schedule.recurrence
    if recurrence in _DAYS:
        _check_whole("day", schedule.day, 1, _DAYS[recurrence])
    elif schedule.day is not None:
        raise _wrong("day", f"has no meaning for {recurrence}")
    if recurrence is Recurrence.DAYS:
        _check_whole("interval_days", schedule.interval_days, 1, INTERVAL_DAYS_MAX)
    elif schedule.interval_days is not None:
        raise _wrong("interval_days", f"has no meaning for {recurrence}")
    zone_of(schedule.time_zone)
    return schedule


def _check_whole(name: str, value: int | None, least: int, most: int) -> None:
    if value is None or not least <= value <= most:
        raise _wrong(name, f"must be a whole number from {least} to {most}")


def _one_of(kind: type[E], name: str, value: object) -> E:
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(str(each.value) for each in kind)
        raise _wrong(name, f"must be one of {allowed}") from None


def _wrong(name: str, what: str) -> InvalidValue:
    return InvalidValue(f"{name} {what}", {name: what})


def schedule_of(row: Any) -> Schedule:
    """Make the value of a schedule row."""
    return Schedule(
        id=row.id,
        name=row.name,
        kind=ScheduleKind(row.kind),
        value=row.value,
        recurrence=Recurrence(row.recurrence),
        day=row.day,
        interval_days=row.interval_days,
        first_on=row.first_on,
        count=row.count,
        time_zone=row.time_zone,
        catch_up=CatchUp(row.catch_up),
        enabled=row.enabled,
        done_until=row.done_until,
        created_at=row.created_at,
        deleted_at=row.deleted_at,
    )


# -- memberships -----------------------------------------------------------------------------------------------------


def join(
    tx: Connection,
    schedule: Schedule,
    subscriber_id: int,
    *,
    count: int | None = None,
    joined_on: date | None = None,
    now: datetime,
) -> Membership:
    """Let a subscriber get the schedule's next ``count`` runs (the schedule's own count, where none is given).

    He gets what is due from ``joined_on`` (today) on: who joins on a due date has it still. Raises `AlreadyTaken`
    when he is in, `UnknownSchedule` when it was deleted.
    """
    schedule = find(tx, schedule.id, lock=True)
    if member(tx, schedule.id, subscriber_id) is not None:
        raise AlreadyTaken(f"the subscriber is in {schedule.name} already")
    count = schedule.count if count is None else count
    _check_whole("count", count, 0, COUNT_MAX)
    joined_on = joined_on or local_date(now, schedule.time_zone)
    made = Membership(0, schedule.id, subscriber_id, count, joined_on)
    values = asdict(made)
    del values["id"]
    made_id = tx.execute(sa.insert(_membership).values(values).returning(_membership.c.id)).scalar_one()
    return replace(made, id=made_id)


def find_membership(tx: Connection, membership_id: int) -> Membership:
    """Give a membership that has not ended. Raises `UnknownMembership`."""
    row = tx.execute(sa.select(_membership).where(_membership.c.id == membership_id, _LIVING_MEMBER)).first()
    if row is None:
        raise UnknownMembership(f"no membership has the id {membership_id}")
    return membership_of(row)


def member(tx: Connection, schedule_id: int, subscriber_id: int) -> Membership | None:
    """Give the membership by which a subscriber is in a schedule now, if he is."""
    row = tx.execute(
        sa.select(_membership).where(
            _membership.c.schedule_id == schedule_id, _membership.c.subscriber_id == subscriber_id, _LIVING_MEMBER
        )
    ).first()
    return None if row is None else membership_of(row)


def memberships(
    tx: Connection,
    *,
    schedule_id: int | None = None,
    subscriber_id: int | None = None,
    after_id: int = 0,
    limit: int,
) -> list[Membership]:
    """Give memberships that have not ended, by id, of one schedule or subscriber where they are named."""
    statement = sa.select(_membership).where(_LIVING_MEMBER, _membership.c.id > after_id)
    if schedule_id is not None:
        statement = statement.where(_membership.c.schedule_id == schedule_id)
    if subscriber_id is not None:
        statement = statement.where(_membership.c.subscriber_id == subscriber_id)
    return list(map(membership_of, tx.execute(statement.order_by(_membership.c.id).limit(limit))))


def members(tx: Connection, schedule_id: int, *, limit: int, after_id: int = 0) -> list[tuple[str, Membership]]:
    """Give the first members of a schedule, in the order in which they joined, each with his username.

    Or the first ones of those after a membership.
    """
    subscriber = schema.subscriber
    rows = tx.execute(
        sa.select(_membership, subscriber.c.username)
        .join(subscriber, subscriber.c.id == _membership.c.subscriber_id)
        .where(_membership.c.schedule_id == schedule_id, _membership.c.id > after_id, _LIVING_MEMBER)
        .order_by(_membership.c.id)
        .limit(limit)
    )
    return [(row.username, membership_of(row)) for row in rows]


def member_counts(tx: Connection) -> dict[int, int]:
    """Give how many members each schedule has that has any."""
    column = _membership.c.schedule_id
    rows = tx.execute(sa.select(column, sa.func.count().label("members")).where(_LIVING_MEMBER).group_by(column))
    return {row.schedule_id: row.members for row in rows}


def renew(tx: Connection, membership: Membership, *, count: int, months: int, now: datetime) -> Membership:
    """Set the runs left, and record a contract of so many months. Raises `UnknownMembership` when it has ended."""
    _check_whole("months", months, 0, COUNT_MAX)
    renewed = set_count(tx, membership, count)
    tx.execute(sa.insert(_contract).values(membership_id=membership.id, at=now, months=months))
    return renewed


def set_count(tx: Connection, membership: Membership, count: int) -> Membership:
    """Set the runs left; at 0 the membership ends with the next one. Raises `UnknownMembership` when it has ended."""
    _check_whole("count", count, 0, COUNT_MAX)
    _update(tx, membership, count=count)
    return replace(membership, count=count)


def leave(tx: Connection, membership: Membership, now: datetime) -> Membership:
    """End a membership; what is not credited by now is not given. Raises `UnknownMembership` when it has ended."""
    _update(tx, membership, ended_at=now)
    return replace(membership, ended_at=now)


def leave_all(tx: Connection, subscriber_id: int, now: datetime) -> int:
    """End all memberships of a subscriber (who is deleted); give how many it were."""
    his = (_membership.c.subscriber_id == subscriber_id, _membership.c.ended_at.is_(None))
    _lock(tx, sa.select(_membership.c.schedule_id).where(*his))
    return tx.execute(sa.update(_membership).where(*his).values(ended_at=now)).rowcount


def contracts(tx: Connection, membership_ids: Collection[int]) -> list[Contract]:
    """Give the renewals of these memberships, oldest first."""
    rows = tx.execute(
        sa.select(_contract).where(_contract.c.membership_id.in_(membership_ids)).order_by(_contract.c.id)
    )
    return [Contract(row.id, row.membership_id, row.at, row.months) for row in rows]


def _lock(tx: Connection, schedule_ids: Any) -> None:
    """Lock schedules, in id order, before their memberships are changed."""
    columns = _schedule.c
    locked = sa.select(columns.id).where(columns.id.in_(schedule_ids)).order_by(columns.id)
    tx.execute(locked.with_for_update(key_share=True)).all()


def _update(tx: Connection, membership: Membership, **facts: object) -> None:
    _lock(tx, [membership.schedule_id])
    living = (_membership.c.id == membership.id, _LIVING_MEMBER)
    if tx.execute(sa.update(_membership).where(*living).values(facts)).rowcount == 0:
        raise UnknownMembership("the subscriber is not in the schedule any more")


def membership_of(row: Any) -> Membership:
    """Make the value of a membership row."""
    return Membership(row.id, row.schedule_id, row.subscriber_id, row.count, row.joined_on, row.ended_at)
