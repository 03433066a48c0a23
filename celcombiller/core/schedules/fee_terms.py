"""The terms of a fee: its periods, what who joins between two due dates pays, and when it suspends. Pure."""

from __future__ import annotations

from datetime import time, timedelta
from typing import TYPE_CHECKING

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.schedules import Joining, Recurrence
from celcombiller.core.schedules.due_dates import comes_at, due_dates, next_due_date

if TYPE_CHECKING:
    from datetime import date, datetime

    from celcombiller.core.model.schedules import Schedule

ORIGIN = "fee"
"""The origin of a transfer that takes a fee, and of one that fills a bundle that a fee bought."""

DAYS_MAX = 365
"""Most days before a due date for a reminder, and most unpaid ones before a suspension."""

REMINDERS_MAX = 5

_LONGEST_MONTH_DAYS = 31
_DAY = timedelta(days=1)
MIDNIGHT = time(0)


def reference_of(schedule_id: int, subscriber_id: int, due_on: date, part: int = 1) -> str:
    """Return the reference of the transfer that takes a fee, or of the next part of one that is paid in parts."""
    whole = f"{ORIGIN}:{schedule_id}:{subscriber_id}:{due_on}"
    return whole if part == 1 else f"{whole}:{part}"


def bundle_reference_of(schedule_id: int, subscriber_id: int, due_on: date) -> str:
    """Return the reference of the bundle that a fee buys."""
    return f"{reference_of(schedule_id, subscriber_id, due_on)}:bundle"


def parse_days(words: str) -> tuple[int, ...]:
    """Return the numbers of days in a list that is separated by spaces or commas, the largest first.

    Raises `InvalidValue`.
    """
    texts = words.replace(",", " ").split()
    what = f"must be at most {REMINDERS_MAX} numbers of days from 0 to {DAYS_MAX}, such as 3 0"
    if len(texts) > REMINDERS_MAX or not all(each.isascii() and each.isdecimal() and len(each) < 4 for each in texts):  # noqa: PLR2004
        raise InvalidValue(f"remind_days {what}", {"remind_days": what})
    days = sorted({int(each) for each in texts}, reverse=True)
    if days and days[0] > DAYS_MAX:
        raise InvalidValue(f"remind_days {what}", {"remind_days": what})
    return tuple(days)


def last_due_date(schedule: Schedule, day: date) -> date | None:
    """Return the last due date up to this day, or ``None`` when there was none."""
    match schedule.recurrence:
        case Recurrence.MONTHLY:
            span_days = _LONGEST_MONTH_DAYS
        case Recurrence.WEEKLY:
            span_days = 7
        case Recurrence.DAYS:
            span_days = schedule.interval_days or 1
        case Recurrence.ONCE:
            return schedule.first_on if schedule.first_on <= day else None
    return max(due_dates(schedule, day - timedelta(days=span_days), day), default=None)


def first_amount(schedule: Schedule, start: date, end: date, joined_on: date) -> int:
    """Return the fee of who joins on a day of the period from ``start`` to before ``end``, by the rule of the schedule.

    By days it is the share of the days that are left, the one of joining included, rounded up to a whole credit.
    """
    match schedule.joining:
        case Joining.WHOLE:
            return schedule.value
        case Joining.DAYS:
            return -(-schedule.value * (end - joined_on).days // (end - start).days)
        case _:
            return schedule.value if joined_on == start else 0


def period_end(schedule: Schedule, due_on: date) -> datetime | None:
    """Return when what the fee of a due date buys ends: with the day of the next due date, on which the next is paid.

    ``None``: there is no next due date.
    """
    end = next_due_date(schedule, due_on)
    return None if end is None else comes_at(end + _DAY, MIDNIGHT, schedule.time_zone)


def suspension_time(schedule: Schedule, owed_since: date, run_at: time) -> datetime | None:
    """Return when a fee that is owed since a day suspends who owes it; ``None``: never."""
    if schedule.suspend_days is None:
        return None
    return comes_at(owed_since + timedelta(days=schedule.suspend_days), run_at, schedule.time_zone)


def start_of(day: date, schedule: Schedule) -> datetime:
    """Return the midnight with which a day begins in the zone of a schedule."""
    return comes_at(day, MIDNIGHT, schedule.time_zone)
