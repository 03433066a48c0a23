"""The calendar of schedules: on which dates a schedule is due, and at which instant such a date has come.

Pure functions. A due date is a date in the schedule's own time zone; it has come when the clock there has reached the
operator's run time. A day that the month does not have is the month's last day. A run time that the clock skips comes
later by the skipped time; a run time that the clock shows twice comes the first time.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.schedules import Recurrence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import time

    from celcombiller.core.model.schedules import Schedule

_DAY = timedelta(days=1)
_WEEK_DAYS = 7


def due_dates(schedule: Schedule, after: date, until: date) -> Iterator[date]:
    """Yield the due dates later than ``after`` and not later than ``until``, in order."""
    if after >= date.max:
        return
    earliest = max(schedule.first_on, after + _DAY)
    match schedule.recurrence:
        case Recurrence.ONCE:
            dates: Iterator[date] = iter((schedule.first_on,))
        case Recurrence.MONTHLY:
            dates = _monthly(earliest, schedule.day or 1)
        case Recurrence.WEEKLY:
            ahead_days = ((schedule.day or 1) - earliest.isoweekday()) % _WEEK_DAYS
            dates = _stepping(earliest, ahead_days, _WEEK_DAYS)
        case Recurrence.DAYS:
            interval_days = schedule.interval_days or 1
            dates = _stepping(earliest, -(earliest - schedule.first_on).days % interval_days, interval_days)
    for each in dates:
        if each > until:
            return
        if each >= earliest:
            yield each


def next_due_date(schedule: Schedule, after: date) -> date | None:
    """Return the first due date later than ``after``, or None when there are no more."""
    return next(due_dates(schedule, after, date.max), None)


def period(schedule: Schedule, day: date) -> tuple[int, int] | None:
    """Return the month or week of a date, which has one due date of the schedule; None for other recurrences."""
    match schedule.recurrence:
        case Recurrence.MONTHLY:
            return day.year, day.month
        case Recurrence.WEEKLY:
            return day.isocalendar()[:2]
        case _:
            return None


def _monthly(earliest: date, day: int) -> Iterator[date]:
    for month in range(earliest.year * 12 + earliest.month - 1, (date.max.year + 1) * 12):
        year, number = month // 12, month % 12 + 1
        yield date(year, number, min(day, monthrange(year, number)[1]))


def _stepping(earliest: date, ahead_days: int, step_days: int) -> Iterator[date]:
    first = earliest.toordinal() + ahead_days
    return map(date.fromordinal, range(first, date.max.toordinal() + 1, step_days))


def zone_of(name: str) -> ZoneInfo:
    """Return the time zone of a name from the IANA list. Raise `InvalidValue` for any other name."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # a directory of zones, a path, an unknown name
        what = "must be a name of the IANA list, such as America/Sao_Paulo"
        raise InvalidValue(f"time_zone {what}, not {name}", {"time_zone": what}) from None


def comes_at(day: date, run_at: time, zone: str) -> datetime:
    """Return the instant (UTC) at which a due date has come: the run time of that day on a clock in ``zone``."""
    return datetime.combine(day, run_at, zone_of(zone)).astimezone(UTC)


def last_come(now: datetime, run_at: time, zone: str) -> date:
    """Return the last date that has come by ``now``. It never decreases as ``now`` grows, whatever the zone does."""
    day = local_date(now, zone) + _DAY  # a clock that is set back over midnight has shown tomorrow already
    while comes_at(day, run_at, zone) > now:
        day -= _DAY
    return day


def local_date(now: datetime, zone: str) -> date:
    """Return the calendar date in ``zone``."""
    return now.astimezone(zone_of(zone)).date()
