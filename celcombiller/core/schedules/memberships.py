"""Memberships of schedules: join, renew, leave, list."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.errors import AlreadyTaken, UnknownMembership
from celcombiller.core.model.schedules import Contract, Membership, Schedule
from celcombiller.core.schedules import fee_periods
from celcombiller.core.schedules.due_dates import local_date
from celcombiller.core.schedules.schedule_records import COUNT_MAX, NOT_DELETED, check_whole, find
from celcombiller.core.schema import tables
from celcombiller.core.schema.rows import value_from_row

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

_schedule = tables.schedule


_membership = tables.membership


_contract = tables.contract


_LEFT = "the subscriber has left"


_IS_ACTIVE = sa.and_(
    _membership.c.ended_at.is_(None),
    sa.exists().where(_schedule.c.id == _membership.c.schedule_id, NOT_DELETED),
)


def join(
    tx: Connection,
    schedule: Schedule,
    subscriber_id: int,
    *,
    count: int | None = None,
    joined_on: date | None = None,
    now: datetime,
) -> Membership:
    """Add a subscriber to a schedule for its next ``count`` runs (default: the schedule's own count).

    They get what is due from ``joined_on`` (default: today) on, that date included. Raises `AlreadyTaken` when they are
    a member already, `UnknownSchedule` when the schedule was deleted.
    """
    schedule = find(tx, schedule.id, lock=True)
    if member(tx, schedule.id, subscriber_id) is not None:
        raise AlreadyTaken(f"the subscriber is in {schedule.name} already")
    count = schedule.count if count is None else count
    check_whole("count", count, 0, COUNT_MAX)
    joined_on = joined_on or local_date(now, schedule.time_zone)
    membership = Membership(0, schedule.id, subscriber_id, count, joined_on)
    values = asdict(membership)
    del values["id"]
    membership_id = tx.execute(sa.insert(_membership).values(values).returning(_membership.c.id)).scalar_one()
    membership = replace(membership, id=membership_id)
    fee_periods.open_first(tx, schedule, membership, now)
    return membership


def find_membership(tx: Connection, membership_id: int) -> Membership:
    """Return a membership that has not ended. Raise `UnknownMembership` if there is none."""
    row = tx.execute(sa.select(_membership).where(_membership.c.id == membership_id, _IS_ACTIVE)).first()
    if row is None:
        raise UnknownMembership(f"no membership has the id {membership_id}")
    return value_from_row(row, Membership)


def member(tx: Connection, schedule_id: int, subscriber_id: int) -> Membership | None:
    """Return the current membership of a subscriber in a schedule, or None."""
    row = tx.execute(
        sa.select(_membership).where(
            _membership.c.schedule_id == schedule_id, _membership.c.subscriber_id == subscriber_id, _IS_ACTIVE
        )
    ).first()
    return None if row is None else value_from_row(row, Membership)


def memberships(
    tx: Connection,
    *,
    schedule_id: int | None = None,
    subscriber_id: int | None = None,
    after_id: int = 0,
    limit: int,
) -> list[Membership]:
    """Return memberships that have not ended, by id, filtered by schedule and subscriber where these are set."""
    statement = sa.select(_membership).where(_IS_ACTIVE, _membership.c.id > after_id)
    if schedule_id is not None:
        statement = statement.where(_membership.c.schedule_id == schedule_id)
    if subscriber_id is not None:
        statement = statement.where(_membership.c.subscriber_id == subscriber_id)
    rows = tx.execute(statement.order_by(_membership.c.id).limit(limit))
    return [value_from_row(row, Membership) for row in rows]


def members(tx: Connection, schedule_id: int, *, limit: int, after_id: int = 0) -> list[tuple[str, str, Membership]]:
    """Return the first ``limit`` members of a schedule in joining order, each with their username and name.

    With ``after_id``, only those whose membership has a greater id.
    """
    subscriber = tables.subscriber
    rows = tx.execute(
        sa.select(_membership, subscriber.c.username, subscriber.c.name)
        .join(subscriber, subscriber.c.id == _membership.c.subscriber_id)
        .where(_membership.c.schedule_id == schedule_id, _membership.c.id > after_id, _IS_ACTIVE)
        .order_by(_membership.c.id)
        .limit(limit)
    )
    return [(row.username, row.name, value_from_row(row, Membership)) for row in rows]


def has_staff(tx: Connection, schedule_id: int) -> bool:
    """Return whether an administrator or a collaborator is a member of a schedule."""
    staff = sa.select(tables.subscriber.c.id).where(tables.IS_STAFF)
    theirs = (_membership.c.subscriber_id.in_(staff), _membership.c.schedule_id == schedule_id)
    found = sa.select(_membership.c.id).where(*theirs, _membership.c.ended_at.is_(None)).limit(1)
    return tx.execute(found).first() is not None


def member_counts(tx: Connection) -> dict[int, int]:
    """Return the number of members by schedule id, for schedules that have any."""
    column = _membership.c.schedule_id
    rows = tx.execute(sa.select(column, sa.func.count().label("members")).where(_IS_ACTIVE).group_by(column))
    return {row.schedule_id: row.members for row in rows}


def renew(tx: Connection, membership: Membership, *, count: int, months: int, now: datetime) -> Membership:
    """Set the runs left, and record a contract of ``months``. Raise `UnknownMembership` when it has ended."""
    check_whole("months", months, 0, COUNT_MAX)
    renewed = set_count(tx, membership, count)
    tx.execute(sa.insert(_contract).values(membership_id=membership.id, at=now, months=months))
    return renewed


def set_count(tx: Connection, membership: Membership, count: int) -> Membership:
    """Set the runs left; at 0 the membership ends with the next run. Raise `UnknownMembership` when it has ended."""
    check_whole("count", count, 0, COUNT_MAX)
    _update(tx, membership, count=count)
    return replace(membership, count=count)


def leave(tx: Connection, membership: Membership, now: datetime) -> Membership:
    """End a membership; what is not credited yet is lost, and a fee that is unpaid is not owed any more.

    Raise `UnknownMembership` when it has ended.
    """
    _update(tx, membership, ended_at=now)
    mine = tables.fee_period.c.membership_id == membership.id
    fee_periods.cancel_owed(tx, mine, note=_LEFT, now=now)
    return replace(membership, ended_at=now)


def leave_all(tx: Connection, subscriber_id: int, now: datetime) -> int:
    """End all memberships of a (deleted) subscriber; return how many there were."""
    theirs = (_membership.c.subscriber_id == subscriber_id, _membership.c.ended_at.is_(None))
    _lock(tx, sa.select(_membership.c.schedule_id).where(*theirs))
    ended = tx.execute(sa.update(_membership).where(*theirs).values(ended_at=now)).rowcount
    fee_periods.cancel_owed(tx, tables.fee_period.c.subscriber_id == subscriber_id, note=_LEFT, now=now)
    return ended


def contracts(tx: Connection, membership_ids: Collection[int]) -> list[Contract]:
    """Return the renewals of these memberships, oldest first."""
    rows = tx.execute(
        sa.select(_contract).where(_contract.c.membership_id.in_(membership_ids)).order_by(_contract.c.id)
    )
    return [value_from_row(row, Contract) for row in rows]


def _lock(tx: Connection, schedule_ids: Any) -> None:
    """Lock schedules, in id order, before their memberships are changed."""
    columns = _schedule.c
    locked = sa.select(columns.id).where(columns.id.in_(schedule_ids)).order_by(columns.id)
    tx.execute(locked.with_for_update(key_share=True)).all()


def _update(tx: Connection, membership: Membership, **values: object) -> None:
    _lock(tx, [membership.schedule_id])
    active = (_membership.c.id == membership.id, _IS_ACTIVE)
    if tx.execute(sa.update(_membership).where(*active).values(values)).rowcount == 0:
        raise UnknownMembership("the subscriber is not in the schedule any more")
