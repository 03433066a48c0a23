"""The text of times of the week, and which of them overlap."""

from datetime import date

import pytest
from hypothesis import given

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.tariffs import HOLIDAY, Window
from celcombiller.core.rating.windows import check_windows, format_holidays, format_window, parse_holidays, parse_window
from tests.core.rating.rates import windows


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("mon-fri 08:00-18:00", Window(frozenset(range(5)), 480, 1080)),
        ("sat,sun,holiday 00:00-24:00", Window(frozenset({5, 6, HOLIDAY}))),
        ("fri-mon 22:00-06:00", Window(frozenset({4, 5, 6, 0}), 1320, 360)),
        ("  Wed  23:59-24:00 ", Window(frozenset({2}), 1439, 1440)),
        ("holiday 00:00-00:01", Window(frozenset({HOLIDAY}), 0, 1)),
    ],
)
def test_a_window_is_read(text, window):
    assert parse_window(text) == window


@pytest.mark.parametrize(
    "text",
    [
        "", "mon-fri", "08:00-18:00", "mon 8:00-18:00", "mon 08:00-24:01", "mon 24:00-06:00", "mon 08:60-10:00",
        "mon 08:00-08:00", "monday 08:00-18:00", "mon,mon 08:00-18:00", "mon-wed,tue 08:00-18:00", "mon, 08:00-18:00",
        "sat-holiday 08:00-18:00", "holiday-mon 08:00-18:00", "mon 08:00-18:00 x", "mon 08:00-18:00\nx", "mon \uff10\uff18:00-18:00",
        "mon--fri 08:00-18:00",
    ],
)  # fmt: skip
def test_a_wrong_window_is_refused(text):
    with pytest.raises(InvalidValue):
        parse_window(text)


@given(windows)
def test_a_window_is_written_as_read(window):
    assert parse_window(format_window(window)) == window


@pytest.mark.parametrize(
    ("one", "other", "day"),
    [
        ("mon-fri 08:00-18:00", "mon-fri 18:00-24:00", None),
        ("mon-fri 08:00-18:00", "fri,sat 17:59-20:00", "fri"),
        ("sun 22:00-06:00", "mon 05:00-07:00", "mon"),
        ("sun 22:00-06:00", "tue 05:00-07:00", None),
        ("mon-fri 08:00-18:00", "holiday 08:00-18:00", None),
        ("mon 22:00-06:00", "tue 22:00-06:00", None),  # the day before a holiday is one of them only
        ("mon 22:00-06:00", "holiday 00:00-24:00", "holiday"),  # a holiday may follow
        ("mon-fri 22:00-24:00", "holiday 00:00-24:00", None),
        ("holiday 22:00-06:00", "thu 05:00-07:00", "thu"),  # a Thursday may follow
    ],
)
def test_windows_that_overlap_are_refused(one, other, day):
    pair = [parse_window(one), parse_window(other)]
    for each in (pair, pair[::-1]):
        if day is None:
            check_windows(each)
        else:
            with pytest.raises(InvalidValue, match=f"overlap on {day}"):
                check_windows(each)


def overlap_somewhere(one, other):
    """Return whether two windows are in force in one minute, by trying each minute of each day after each other day."""

    def is_in(window, day, before, minute):
        start, end = window.start_minute, window.end_minute
        if start < end:
            return day in window.days and start <= minute < end
        return (day in window.days and minute >= start) or (before in window.days and minute < end)

    pairs = [(before, day) for before in range(8) for day in range(8) if 7 in (before, day) or day == (before + 1) % 7]
    minutes = sorted(
        {edge % 1440 for window in (one, other) for edge in (window.start_minute, window.end_minute)} | {0}
    )
    return any(is_in(one, day, b4, m) and is_in(other, day, b4, m) for b4, day in pairs for m in minutes)


@given(windows, windows)
def test_overlaps_are_those_of_some_minute(one, other):
    if overlap_somewhere(one, other):
        with pytest.raises(InvalidValue):
            check_windows([one, other])
    else:
        check_windows([one, other])


def test_holidays_are_read_and_written():
    days = parse_holidays("2026-12-25, 2026-01-01\n2026-12-25")
    assert days == {date(2026, 1, 1), date(2026, 12, 25)}
    assert format_holidays(days) == "2026-01-01 2026-12-25"
    assert parse_holidays("") == frozenset()


@pytest.mark.parametrize("text", ["25.12.2026", "2026-13-01", "20261225", "2026-W01-1", "tomorrow"])
def test_a_wrong_holiday_is_refused(text):
    with pytest.raises(InvalidValue, match="2026-12-25"):
        parse_holidays(text)
