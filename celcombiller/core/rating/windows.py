"""Times of the week: their text, whether two overlap, and which is in force when. Daylight saving time is exact.

A window is written as days and hours: ``mon-fri 08:00-18:00``, ``sat,sun,holiday 00:00-24:00``. One that ends at or
before its start passes midnight: it belongs to the day on which it begins. A holiday is a day of its own, not the day
of the week on which it falls. What counts is the wall clock: an hour that a change of the clock repeats is twice in the
same windows, one that it leaves out is in none.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.tariffs import DAY_MINUTES, HOLIDAY, Calendar, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday")
"""The names of the days; their places are the numbers that a window has."""

DAYS_KNOWN = 4096
"""The days of calendars whose windows are remembered, as times of the clock."""

WINDOW_FORM = "days and hours, such as mon-fri 08:00-18:00 or sat,sun,holiday 00:00-24:00"

_WINDOW = re.compile(r"([a-z,-]+) +([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})", re.ASCII)
_DAY_SECONDS = 86_400
_PROBE_SECONDS = 3600
_SECOND = 1_000_000
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

Windows = tuple[Window, ...]


def parse_window(text: str) -> Window:
    """Return the window of a text. Raises `InvalidValue`."""
    found = _WINDOW.fullmatch(text.strip().lower())
    if found is None:
        raise InvalidValue(f"a time of the week is {WINDOW_FORM}, not {text!r}")
    days, *figures = found.groups()
    start_hour, start_minute, end_hour, end_minute = map(int, figures)
    start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
    if max(start_minute, end_minute) > 59 or start >= DAY_MINUTES or end > DAY_MINUTES:  # noqa: PLR2004  a clock's
        raise InvalidValue(f"{text!r}: hours are from 00:00 to 24:00, and no window begins at 24:00")
    if start == end:
        raise InvalidValue(f"{text!r} ends when it begins; a whole day is 00:00-24:00")
    return Window(_parse_days(days, text), start, end)


def _parse_days(text: str, whole: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and (last not in DAYS or HOLIDAY in (DAYS.index(first), DAYS.index(last)))):
            raise InvalidValue(f"{whole!r}: days are {', '.join(DAYS)}, and ranges such as mon-fri; not {part!r}")
        start, end = DAYS.index(first), DAYS.index(last or first)
        span = {HOLIDAY} if start == HOLIDAY else {(start + each) % 7 for each in range((end - start) % 7 + 1)}
        if days & span:
            raise InvalidValue(f"{whole!r} names a day twice: {part!r}")
        days |= span
    return frozenset(days)


def format_window(window: Window) -> str:
    """Return the text of a window, as `parse_window` reads it."""
    runs: list[list[int]] = []
    for day in sorted(window.days):
        if runs and day != HOLIDAY and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    days = [
        f"{DAYS[run[0]]}-{DAYS[run[-1]]}" if len(run) > 2 else ",".join(DAYS[day] for day in run)  # noqa: PLR2004
        for run in runs
    ]
    start, end = divmod(window.start_minute, 60), divmod(window.end_minute, 60)
    return f"{','.join(days)} {start[0]:02}:{start[1]:02}-{end[0]:02}:{end[1]:02}"


def check_windows(windows: Sequence[Window]) -> None:
    """Raise `InvalidValue` if two windows have a minute of the week in common, on any holiday that can be."""
    for position, window in enumerate(windows):
        for other in windows[:position]:
            day = _common_day(window, other)
            if day is not None:
                raise InvalidValue(
                    f"the windows {format_window(other)} and {format_window(window)} overlap on {DAYS[day]}"
                    + (_ADVICE if _passes_midnight(window) or _passes_midnight(other) else "")
                )


_ADVICE = "; one that passes midnight belongs to the day on which it begins: end it at 24:00, and add another for 00:00"


def _common_day(one: Window, other: Window) -> int | None:
    """Return a day on which two windows are both in force."""
    for before, day, start, end in _spans(one):
        for other_before, other_day, other_start, other_end in _spans(other):
            is_one_day = day == other_day and (before == other_before or None in (before, other_before))
            if is_one_day and max(start, other_start) < min(end, other_end):
                return day
    return None


def _passes_midnight(window: Window) -> bool:
    return window.end_minute <= window.start_minute


def _spans(window: Window) -> Iterator[tuple[int | None, int, int, int]]:
    """Yield the parts of a window on one day: the day before, the day, first minute and end.

    ``None``: whatever the day before. Any day may be followed by a holiday, and follow one.
    """
    for day in window.days:
        if not _passes_midnight(window):
            yield None, day, window.start_minute, window.end_minute
            continue
        yield None, day, window.start_minute, DAY_MINUTES
        for following in range(len(DAYS)) if day == HOLIDAY else (HOLIDAY, (day + 1) % 7):
            yield day, following, 0, window.end_minute


def parse_holidays(text: str) -> frozenset[date]:
    """Return the dates (ISO 8601) of a text, separated by spaces or commas. Raises `InvalidValue`."""
    days = set()
    for word in text.replace(",", " ").split():
        try:
            day = date.fromisoformat(word)
        except ValueError:
            day = None
        if day is None or day.isoformat() != word:
            raise InvalidValue(f"a holiday is a date such as 2026-12-25, not {word!r}")
        days.add(day)
    return frozenset(days)


def format_holidays(days: frozenset[date]) -> str:
    """Return the dates in order, separated by spaces."""
    return " ".join(day.isoformat() for day in sorted(days))


def find_window(windows: Windows, calendar: Calendar, at: datetime) -> int | None:
    """Return the place of the window that is in force at ``at``; ``None``: none of them."""
    return next(iter(list_stretches(windows, calendar, at, 1)))[1]


def list_stretches(
    windows: Windows, calendar: Calendar, at: datetime, seconds: int
) -> Iterator[tuple[int, int | None]]:
    """Yield the stretches of ``seconds`` from ``at`` on that have one window each: their end, and the window's place.

    An end is in whole seconds since ``at``: a second belongs to the window in which it begins.
    """
    begin = (at - _EPOCH) // _MICROSECOND
    day = begin // (_DAY_SECONDS * _SECOND)
    current: int | None = None
    while True:
        for start, place in _list_changes(windows, calendar, day):
            elapsed = -((begin - start * _SECOND) // _SECOND)
            if elapsed <= 0:
                current = place
            elif elapsed >= seconds:
                yield seconds, current
                return
            elif place != current:
                yield elapsed, current
                current = place
        day += 1


@lru_cache(maxsize=DAYS_KNOWN)
def _list_changes(windows: Windows, calendar: Calendar, day: int) -> tuple[tuple[int, int | None], ...]:
    """Return when which window begins on one day of UTC, in seconds since 1970; the first entry is the day's start."""
    changes = []
    for start, end, offset in _list_offsets(ZoneInfo(calendar.time_zone), day * _DAY_SECONDS, (day + 1) * _DAY_SECONDS):
        for local_day in range((start + offset) // _DAY_SECONDS, (end + offset - 1) // _DAY_SECONDS + 1):
            date_ = date.fromordinal(_EPOCH_ORDINAL + local_day)
            for minute in _cut_day(windows):
                at = local_day * _DAY_SECONDS + minute * 60 - offset
                if at < end:
                    changes.append((max(at, start), _place_of(windows, calendar, date_, minute)))
    # Of the entries at one second, which were before the span, the last is in force.
    return tuple(dict(changes).items())


def _cut_day(windows: Windows) -> list[int]:
    """Return the minutes of a day at which a window may begin or end."""
    ends = {minute % DAY_MINUTES for window in windows for minute in (window.start_minute, window.end_minute)}
    return sorted({0} | ends)


def _place_of(windows: Windows, calendar: Calendar, day: date, minute: int) -> int | None:
    """Return the place of the window of a minute of a local day."""
    kind, kind_before = _kind_of(day, calendar), _kind_of(day - timedelta(days=1), calendar)
    for place, window in enumerate(windows):
        if not _passes_midnight(window):
            is_in = kind in window.days and window.start_minute <= minute < window.end_minute
        else:
            is_in = (kind in window.days and minute >= window.start_minute) or (
                kind_before in window.days and minute < window.end_minute
            )
        if is_in:
            return place
    return None


def _kind_of(day: date, calendar: Calendar) -> int:
    return HOLIDAY if day in calendar.holidays else day.weekday()


def _list_offsets(zone: ZoneInfo, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the spans between two times (seconds since 1970) that have one offset from UTC: start, end, seconds."""
    offset = _offset_at(zone, start)
    for probe in range(start + _PROBE_SECONDS, end + 1, _PROBE_SECONDS):
        if _offset_at(zone, probe) == offset:
            continue
        before, after = probe - _PROBE_SECONDS, probe
        while after - before > 1:
            middle = (before + after) // 2
            if _offset_at(zone, middle) == offset:
                before = middle
            else:
                after = middle
        yield start, after, offset
        start, offset = after, _offset_at(zone, probe)
    if start < end:
        yield start, end, offset


def _offset_at(zone: ZoneInfo, seconds: int) -> int:
    offset = (_EPOCH + timedelta(seconds=seconds)).astimezone(zone).utcoffset()
    return 0 if offset is None else offset // timedelta(seconds=1)
