"""Schedules: create, find, change and end them, on an open transaction.

Nothing here moves credit; `celcombiller.core.schedules.runs` credits what is due. Both changing and crediting
memberships lock the schedule first. So members are credited in the order of their ids: no member joins behind the one
being credited, and no member leaves while they are being credited.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from celcombiller.core.bundles import offers
from celcombiller.core.errors import AlreadyTaken, InvalidValue, UnknownSchedule
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.schedules import CatchUp, Joining, Recurrence, Schedule, ScheduleKind, WhenShort
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.schedules.due_dates import local_date, zone_of
from celcombiller.core.schedules.fee_terms import DAYS_MAX, parse_days
from celcombiller.core.schema import tables
from celcombiller.core.schema.rows import value_from_row

if TYPE_CHECKING:
    from datetime import datetime
    from enum import Enum

    from sqlalchemy.engine import Connection

E = TypeVar("E", bound="Enum")


COUNT_MAX = 1_000_000


INTERVAL_DAYS_MAX = 3660


END_MAX = 2000
"""Most memberships ended in one transaction: ending a million at once would delay calls by seconds."""


_NAMES_LOCK = 4_573_001
"""The advisory lock of PostgreSQL that who gives a name holds."""


_NAME = re.compile(rf"[^{UNPRINTABLE}]{{1,200}}")


_FIRST, _LAST = date(1970, 1, 1), date(9000, 12, 31)


_DAYS = {Recurrence.MONTHLY: 31, Recurrence.WEEKLY: 7}


_CHANGEABLE = (
    *("name", "kind", "value", "recurrence", "day", "interval_days", "first_on", "count", "time_zone"),
    *("catch_up", "enabled", "offer_id", "when_short", "joining", "remind_days", "suspend_days"),
)


NOT_DELETED = tables.schedule.c.deleted_at.is_(None)
"""Not deleted."""


_schedule = tables.schedule


_membership = tables.membership


def add(
    tx: Connection,
    *,
    name: str,
    kind: int,
    value: int,
    offer_id: int | None = None,
    recurrence: str,
    day: int | None,
    interval_days: int | None,
    first_on: date | None = None,
    count: int,
    time_zone: str,
    catch_up: str = CatchUp.ALL,
    when_short: str | None = None,
    joining: str | None = None,
    remind_days: str | None = None,
    suspend_days: int | None = None,
    now: datetime,
) -> Schedule:
    """Create a schedule, due today at the earliest. Names may repeat here.

    With an ``offer_id`` it gives bundles of that offer; ``kind`` and ``value`` do not matter then. With ``when_short``
    it takes a fee of ``value`` voice credits, which buys that offer. Raises `InvalidValue` for wrong fields, and
    `NotFound` for an unknown offer.
    """
    _check_name(name)
    if when_short is not None:
        kind, joining, remind_days = ScheduleKind.VOICE, joining or Joining.NEXT, remind_days or ""
    if offer_id is not None:
        offer = offers.find(tx, offer_id)
        if when_short is None:
            kind, value = ScheduleKind.VOICE, offer.amount
    today = local_date(now, time_zone)
    schedule = _checked(
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
            offer_id=offer_id,
            when_short=None if when_short is None else _one_of(WhenShort, "when_short", when_short),
            joining=None if joining is None else _one_of(Joining, "joining", joining),
            remind_days=remind_days,
            suspend_days=suspend_days,
        )
    )
    if schedule.recurrence is Recurrence.ONCE and schedule.first_on < today:
        raise _wrong("first_on", f"is {first_on}, which is past: a schedule of one date would never run")
    values = asdict(schedule)
    del values["id"]
    schedule_id = tx.execute(sa.insert(_schedule).values(values).returning(_schedule.c.id)).scalar_one()
    return replace(schedule, id=schedule_id)


def find(tx: Connection, schedule_id: int, *, lock: bool = False) -> Schedule:
    """Return a schedule that is not deleted. Raise `UnknownSchedule` if there is none.

    With ``lock``, no member can join, leave or be credited until this transaction ends.
    """
    statement = sa.select(_schedule).where(_schedule.c.id == schedule_id, NOT_DELETED)
    row = tx.execute(statement.with_for_update(key_share=True) if lock else statement).first()
    if row is None:
        raise UnknownSchedule(f"no schedule has the id {schedule_id}")
    return value_from_row(row, Schedule)


def find_by_name(tx: Connection, name: str) -> list[Schedule]:
    """Return all schedules of this name, oldest first."""
    rows = tx.execute(sa.select(_schedule).where(_schedule.c.name == name, NOT_DELETED).order_by(_schedule.c.id))
    return [value_from_row(row, Schedule) for row in rows]


def resolve(tx: Connection, word: str) -> Schedule:
    """Return the schedule with this id, or with this name when only one has it.

    Raises `UnknownSchedule`, and `InvalidValue` where several have the name.
    """
    if word.isdecimal():
        with suppress(UnknownSchedule):
            return find(tx, int(word))
    found = find_by_name(tx, word)
    if not found:
        raise UnknownSchedule(f"no schedule has the id or the name {word}")
    if len(found) > 1:
        ids = ", ".join(str(each.id) for each in found)
        raise InvalidValue(f"{len(found)} schedules have the name {word}; say which by its id: {ids}")
    return found[0]


def name_of(tx: Connection, schedule_id: int) -> str:
    """Return the name of a schedule, also of one that was deleted."""
    return str(tx.execute(sa.select(_schedule.c.name).where(_schedule.c.id == schedule_id)).scalar_one())


def refuse_taken(tx: Connection, name: str) -> None:
    """Raise `AlreadyTaken` when a schedule has this name, `InvalidValue` for one that a command takes for an id.

    Commands name schedules. The table allows a name twice, as the original's API does; so two that ask for one name at
    the same time wait for each other here.
    """
    if name.isdecimal():
        raise _wrong("name", "must not be a number only: it would be taken for an id")
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_NAMES_LOCK)))
    for other in find_by_name(tx, name):
        rhythm = other.recurrence if other.day is None else f"{other.recurrence} on day {other.day}"
        what = f"schedule {other.id} has it: {other.value} credits, {rhythm}"
        raise AlreadyTaken(f"name {name} is taken: {what}. Change that one, or choose another name", {"name": what})


def list_all(tx: Connection, *, after_id: int = 0, limit: int | None = None) -> list[Schedule]:
    """Return all schedules, oldest first; at most ``limit``, and only ids greater than ``after_id``."""
    statement = sa.select(_schedule).where(NOT_DELETED, _schedule.c.id > after_id)
    rows = tx.execute(statement.order_by(_schedule.c.id).limit(limit))
    return [value_from_row(row, Schedule) for row in rows]


def change(tx: Connection, schedule_id: int, **changes: Any) -> Schedule:
    """Change fields of a schedule; runs that are open go on unchanged. Raises as `add` and `find` do.

    A schedule that gets an ``offer_id`` gives bundles from then on, one that gets a ``kind`` or ``value`` credit. A new
    ``recurrence`` resets ``day`` and ``interval_days`` unless they are passed with it.
    """
    changes = _in_their_types(changes)
    was = find(tx, schedule_id, lock=True)
    offer = None if changes.get("offer_id") is None else offers.find(tx, changes["offer_id"])
    if offer is not None and not was.takes:
        changes |= {"kind": ScheduleKind.VOICE, "value": offer.amount}
    elif {"kind", "value"} & changes.keys() and not was.takes:
        changes = {"offer_id": None} | changes
    if was.takes is (changes.get("when_short", was.when_short) is None):
        raise _wrong("when_short", "cannot be changed: a schedule that gives takes no fee; make another one")
    changed = _checked(replace(was, **changes))
    if changes:
        changes = {name: getattr(changed, name) for name in changes}
        tx.execute(sa.update(_schedule).where(_schedule.c.id == schedule_id).values(changes))
    return changed


def _in_their_types(changes: dict[str, Any]) -> dict[str, Any]:
    """Return changes with their words as values. Raise `InvalidValue` for what is none, or cannot be changed."""
    for unknown in sorted(changes.keys() - set(_CHANGEABLE)):
        raise _wrong(unknown, "is nothing that can be changed")
    words: dict[str, type[Any]] = {"kind": ScheduleKind, "recurrence": Recurrence, "catch_up": CatchUp}
    of_fees: dict[str, type[Any]] = {"when_short": WhenShort, "joining": Joining}
    words |= {name: kind for name, kind in of_fees.items() if changes.get(name) is not None}
    changes = changes | {name: _one_of(kind, name, changes[name]) for name, kind in words.items() if name in changes}
    if "recurrence" in changes:
        changes = {"day": None, "interval_days": None} | changes
    if "name" in changes:
        _check_name(changes["name"])
    return changes


def delete(tx: Connection, schedule_id: int, now: datetime) -> Schedule:
    """Delete a schedule and end its memberships. Its row stays for the history. Raise `UnknownSchedule`."""
    deleted = replace(find(tx, schedule_id, lock=True), deleted_at=now)
    tx.execute(sa.update(_schedule).where(_schedule.c.id == schedule_id).values(deleted_at=now))
    end_orphans(tx, now)
    return deleted


def end_orphans(tx: Connection, now: datetime) -> int:
    """End memberships of deleted schedules, at most `END_MAX`; return how many there were."""
    some = (
        sa.select(_membership.c.id)
        .join(_schedule, _schedule.c.id == _membership.c.schedule_id)
        .where(_membership.c.ended_at.is_(None), _schedule.c.deleted_at.is_not(None))
        .limit(END_MAX)
    )
    return tx.execute(sa.update(_membership).where(_membership.c.id.in_(some)).values(ended_at=now)).rowcount


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise _wrong("name", "must be 1 to 200 printable characters on one line")


def _checked(schedule: Schedule) -> Schedule:
    check_whole("value", schedule.value, 0, AMOUNT_MAX)
    check_whole("count", schedule.count, 0, COUNT_MAX)
    if not _FIRST <= schedule.first_on <= _LAST:
        raise _wrong("first_on", f"must be from {_FIRST} to {_LAST}")
    recurrence = schedule.recurrence
    if recurrence in _DAYS:
        check_whole("day", schedule.day, 1, _DAYS[recurrence])
    elif schedule.day is not None:
        raise _wrong("day", f"has no meaning for {recurrence}")
    if recurrence is Recurrence.DAYS:
        check_whole("interval_days", schedule.interval_days, 1, INTERVAL_DAYS_MAX)
    elif schedule.interval_days is not None:
        raise _wrong("interval_days", f"has no meaning for {recurrence}")
    zone_of(schedule.time_zone)
    return _checked_fee(schedule)


def _checked_fee(schedule: Schedule) -> Schedule:
    """Return the schedule with its reminders in their one form. Raise `InvalidValue` for terms that it cannot have."""
    if not schedule.takes:
        for name in ("joining", "remind_days", "suspend_days"):
            if getattr(schedule, name) is not None:
                raise _wrong(name, "has no meaning for a schedule that gives: it is for a fee")
        return schedule
    if schedule.kind is not ScheduleKind.VOICE:
        raise _wrong("kind", "of a fee is voice: it is taken from the voice balance")
    if schedule.joining is None:
        raise _wrong("joining", "of a fee is one of whole, days, next")
    if schedule.suspend_days is not None:
        check_whole("suspend_days", schedule.suspend_days, 0, DAYS_MAX)
    return replace(schedule, remind_days=" ".join(map(str, parse_days(schedule.remind_days or ""))))


def check_whole(name: str, value: int | None, least: int, most: int) -> None:
    """Raise `InvalidValue` unless the value is a whole number within the bounds."""
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
