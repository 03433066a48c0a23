"""The calendar of schedules, as laws over a century of dates and all the zones there are."""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from importlib.resources import files
from zoneinfo import ZoneInfo, available_timezones

import hypothesis.strategies as st
import pytest
from hypothesis import given

from celcombiller.core.model.schedules import CatchUp, Recurrence, Schedule, ScheduleKind
from celcombiller.core.schedules.due_dates import comes_at, due_dates, last_come, local_date, next_due_date, period
from tests.support.properties import share

DAY = timedelta(days=1)
CENTURY = (date(1970, 1, 1), date(2070, 12, 31))
EVER = date(1969, 1, 1)

dates = st.dates(*CENTURY)
zones = st.sampled_from(sorted(available_timezones()))
run_times = st.times().map(lambda each: each.replace(second=0, microsecond=0))


def schedule(recurrence, day=None, interval_days=None, first_on=CENTURY[0]):
    return Schedule(
        id=1,
        name="s",
        kind=ScheduleKind.VOICE,
        value=1,
        recurrence=Recurrence(recurrence),
        day=day,
        interval_days=interval_days,
        first_on=first_on,
        count=1,
        time_zone="UTC",
        catch_up=CatchUp.ALL,
        enabled=True,
        done_until=EVER,
        created_at=datetime(1970, 1, 1, tzinfo=UTC),
    )


schedules = st.one_of(
    st.builds(schedule, st.just("monthly"), day=st.integers(1, 31), first_on=dates),
    st.builds(schedule, st.just("weekly"), day=st.integers(1, 7), first_on=dates),
    st.builds(schedule, st.just("days"), interval_days=st.integers(1, 400), first_on=dates),
    st.builds(schedule, st.just("once"), first_on=dates),
)


def belongs(plan, day):
    """Say by the words of the rule whether a date is due."""
    if day < plan.first_on:
        return False
    match plan.recurrence:
        case Recurrence.MONTHLY:
            return day.day == min(plan.day, monthrange(day.year, day.month)[1])
        case Recurrence.WEEKLY:
            return day.isoweekday() == plan.day
        case Recurrence.DAYS:
            return (day - plan.first_on).days % plan.interval_days == 0
        case _:
            return day == plan.first_on


@given(schedules, dates, st.integers(0, 800))
def test_due_dates_follow_the_rule_in_order(plan, after, days):
    until = after + days * DAY
    wanted = [after + n * DAY for n in range(1, days + 1) if belongs(plan, after + n * DAY)]
    assert list(due_dates(plan, after, until)) == wanted


@given(schedules, dates, st.integers(0, 400), st.integers(0, 400))
def test_looking_twice_finds_what_looking_once_finds(plan, after, first, second):
    middle, until = after + first * DAY, after + (first + second) * DAY
    assert [*due_dates(plan, after, middle), *due_dates(plan, middle, until)] == list(due_dates(plan, after, until))


@given(st.integers(1, 31))
def test_a_missing_day_is_the_months_last(day):
    found = list(due_dates(schedule("monthly", day), EVER, CENTURY[1]))
    assert [(each.year, each.month) for each in found] == [(y, m) for y in range(1970, 2071) for m in range(1, 13)]
    for each in found:
        assert each.day == day or (each.day < day and (each + DAY).month != each.month)


@pytest.mark.parametrize(
    ("year", "last"), [(2023, 28), (2024, 29), (2000, 29), (2100, 28)], ids=["common", "leap", "400", "100"]
)
def test_the_31st_is_the_last_day_of_february(year, last):
    assert date(year, 2, last) in due_dates(schedule("monthly", 31), date(year, 1, 1), date(year, 3, 1))


@given(schedules, dates)
def test_the_next_due_date_is_the_first_later(plan, after):
    found = next_due_date(plan, after)
    assert (found is None) == (plan.recurrence is Recurrence.ONCE and plan.first_on <= after)
    assert found is None or (found > after and belongs(plan, found))


def test_no_due_date_follows_the_calendars_end():
    for plan in (schedule("monthly", 31), schedule("weekly", 7), schedule("days", interval_days=400)):
        assert next_due_date(plan, date.max) is None
        assert list(due_dates(plan, date.max - 800 * DAY, date.max))


@given(schedules, dates)
def test_a_period_has_at_most_one_due_date(plan, after):
    spans = [period(plan, each) for each in due_dates(plan, after, after + 200 * DAY)]
    assert None in spans or len(spans) == len(set(spans))


# -- when a date has come --------------------------------------------------------------------------------------------


@given(zones, dates, run_times)
def test_a_date_comes_at_or_after_skipped_times(zone, day, run_at):
    at = comes_at(day, run_at, zone)
    shown = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    wanted = datetime.combine(day, run_at)
    if shown != wanted:  # the clock skipped it: later by what was skipped, which nowhere was more than a day
        assert timedelta(0) < shown - wanted <= DAY
        before = (at - (shown - wanted)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        assert before < wanted


@given(zones, dates, run_times)
def test_dates_come_in_their_order(zone, day, run_at):
    assert comes_at(day, run_at, zone) <= comes_at(day + DAY, run_at, zone)


@given(zones, dates, run_times, st.integers(0, 86_399))
def test_the_last_date_passed_the_next_has_not(zone, day, run_at, second):
    now = datetime.combine(day, time(), UTC) + timedelta(seconds=second)
    last = last_come(now, run_at, zone)
    assert comes_at(last, run_at, zone) <= now < comes_at(last + DAY, run_at, zone)


@given(zones, dates, run_times, st.lists(st.integers(0, 60), min_size=1, max_size=60))
@share(3)
def test_due_dates_advance_and_miss_no_day(zone, day, run_at, hours):
    now = datetime.combine(day, time(), UTC)
    before = last_come(now, run_at, zone)
    for step in hours:
        now += timedelta(hours=step)
        last = last_come(now, run_at, zone)
        assert last >= before
        before = last
    assert (before - day).days <= sum(hours) / 24 + 2


@pytest.mark.slow
def test_zone_transitions_bring_each_date_once():
    """Around every change of every clock, minute by minute where it matters."""
    run_at = time(0, 30)
    for zone in _distinct_zones():
        for moment in _transitions(zone):
            days = [last_come(moment + timedelta(minutes=m), run_at, zone) for m in range(-1500, 1501, 150)]
            assert days == sorted(days), (zone, moment)
            assert (days[-1] - days[0]).days in (1, 2, 3, 4), (
                zone,
                moment,
                days,
            )  # 4: the whole day that Kwajalein left out


def _distinct_zones():
    """Return one name of each set of rules. Almost half of all names are links to another name."""
    names = {}
    for zone in sorted(available_timezones()):
        file = files("tzdata").joinpath("zoneinfo", *zone.split("/"))
        names.setdefault(file.read_bytes() if file.is_file() else zone, zone)
    return names.values()


def _transitions(zone):
    """Give where the offset of a zone changes, found by halving weeks."""
    info = ZoneInfo(zone)
    at = datetime(1985, 1, 1, tzinfo=UTC)
    offset = at.astimezone(info).utcoffset()
    while at.year < 2035:
        ahead = at + timedelta(days=28)
        if ahead.astimezone(info).utcoffset() != offset:
            low, high = at, ahead
            while high - low > timedelta(minutes=1):
                middle = low + (high - low) / 2
                low, high = (middle, high) if middle.astimezone(info).utcoffset() == offset else (low, middle)
            yield high
            offset = ahead.astimezone(info).utcoffset()
        at = ahead


@pytest.mark.parametrize(
    ("zone", "day", "run_at", "comes"),
    [
        ("America/Sao_Paulo", date(2026, 11, 5), time(0, 30), "2026-11-05T03:30+00:00"),
        # Clocks went from 0:00 to 1:00: the skipped half past midnight is half past one.
        ("America/Sao_Paulo", date(2018, 11, 4), time(0, 30), "2018-11-04T03:30+00:00"),
        # 2:30 was skipped, and on the day of the other change it came twice: the first counts.
        ("Europe/Berlin", date(2026, 3, 29), time(2, 30), "2026-03-29T01:30+00:00"),
        ("Europe/Berlin", date(2026, 10, 25), time(2, 30), "2026-10-25T00:30+00:00"),
        # Samoa had no 30 December 2011: that date came with the 31st.
        ("Pacific/Apia", date(2011, 12, 30), time(0, 30), "2011-12-30T10:30+00:00"),
        ("Pacific/Apia", date(2011, 12, 31), time(0, 30), "2011-12-30T10:30+00:00"),
    ],
)
def test_gaps_and_overlaps_of_real_clocks(zone, day, run_at, comes):
    assert comes_at(day, run_at, zone) == datetime.fromisoformat(comes)


def test_a_day_skipped_by_a_zone_still_credits():
    after_it = datetime(2011, 12, 30, 11, tzinfo=UTC)
    assert local_date(after_it, "Pacific/Apia") == date(2011, 12, 31)
    come = last_come(after_it, time(0, 30), "Pacific/Apia")
    assert list(due_dates(schedule("monthly", 30), date(2011, 12, 29), come)) == [date(2011, 12, 30)]
