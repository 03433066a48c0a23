"""Rates for properties, and what a price is in the plainest words: one increment after the other."""

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import ceil
from zoneinfo import ZoneInfo

import hypothesis.strategies as st

from celcombiller.core.model.tariffs import Calendar, Prices, Rate, Step, Window

CLOCK_CHANGES = [
    datetime(2018, 11, 4, 3, tzinfo=UTC),  # São Paulo, 00:00 becomes 01:00
    datetime(2019, 2, 17, 2, tzinfo=UTC),  # São Paulo, 00:00 becomes 23:00 of the day before
    datetime(2011, 12, 30, 10, tzinfo=UTC),  # Samoa leaves out a whole day
    datetime(2026, 3, 29, 1, tzinfo=UTC),  # Berlin, 02:00 becomes 03:00
    datetime(2026, 10, 25, 1, tzinfo=UTC),  # Berlin, 03:00 becomes 02:00
    datetime(2026, 12, 24, 23, tzinfo=UTC),  # a holiday begins in Berlin
]

moments = st.builds(
    lambda change, seconds, micros: change + timedelta(seconds=seconds, microseconds=micros),
    st.sampled_from(CLOCK_CHANGES),
    st.integers(-90_000, 90_000),
    st.sampled_from([0, 0, 1, 500_000, 999_999]),
)

calendars = st.builds(
    Calendar,
    st.sampled_from(
        ["America/Sao_Paulo", "Europe/Berlin", "UTC", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"]
    ),
    st.sampled_from([frozenset(), frozenset({date(2026, 12, 25), date(2018, 11, 4), date(2026, 10, 26)})]),
)

per_counts = st.sampled_from([1, 1, 6, 7, 30, 60, 100])


def steps(increments=(1, 1, 6, 7, 30, 60), amounts=(0, 0, 1, 2, 5, 60, 100)):
    def build(rows):
        start, made = 0, []
        for length, increment, price, per in rows:
            made.append(Step(start, increment, price, per))
            start += length
        return tuple(made)

    row = st.tuples(st.integers(1, 200), st.sampled_from(increments), st.sampled_from(amounts), per_counts)
    return st.lists(row, min_size=1, max_size=4).map(build)


prices = st.builds(
    Prices, st.integers(0, 20), steps(), st.sampled_from([0, 0, 0, 7, 50]), st.sampled_from([0, 0, 3, 10])
)

windows = st.builds(
    lambda days, start, length: Window(days, start, (start + length - 1) % 1440 + 1),
    st.frozensets(st.integers(0, 7), min_size=1),
    st.sampled_from([0, 1, 60, 90, 150, 480, 1320, 1410]),
    st.sampled_from([1, 30, 60, 480, 720, 1439]),
)

plain_rates = st.builds(Rate, prices=prices)
window_rates = st.builds(
    Rate, prices=prices, windows=st.lists(st.tuples(windows, prices), max_size=3).map(tuple), calendar=calendars
)
any_rates = plain_rates | window_rates


def slow_prices(rate, moment):
    """Return the prices at a moment, by the clock on the wall."""
    wall = moment.astimezone(ZoneInfo(rate.calendar.time_zone))

    def kind(day):
        return 7 if day in rate.calendar.holidays else day.weekday()

    today, yesterday = kind(wall.date()), kind(wall.date() - timedelta(days=1))
    minute = wall.hour * 60 + wall.minute
    for window, found in rate.windows:
        if window.start_minute < window.end_minute:
            if today in window.days and window.start_minute <= minute < window.end_minute:
                return found
        elif (today in window.days and minute >= window.start_minute) or (
            yesterday in window.days and minute < window.end_minute
        ):
            return found
    return rate.prices


def slow_increments(rate, at):
    """Yield the start, the length and the exact price of each increment, without end."""
    unit = 0
    while True:
        found = slow_prices(rate, at + timedelta(seconds=unit))
        step = max((each for each in found.steps if each.start <= unit), key=lambda each: each.start)
        yield unit, step.increment, Fraction(step.increment * step.price, step.per)
        unit += step.increment


def slow_price(rate, used, at):
    """Return a price, increment by increment."""
    first = slow_prices(rate, at)
    if first.grace > 0 and used <= first.grace:
        return 0
    total = Fraction(first.connect_fee)
    for start, _, share in slow_increments(rate, at):
        if start > 0 and start >= used:
            break
        total += share
    return max(ceil(total), first.minimum_charge)
