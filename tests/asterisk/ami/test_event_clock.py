"""The time by Asterisk's clock, whatever was set since it was last measured."""

from datetime import UTC, datetime, timedelta

import pytest

from celcombiller.asterisk.ami.event_clock import EventClock

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
APART = timedelta(hours=2)


@pytest.mark.parametrize("step", [timedelta(), timedelta(hours=1), timedelta(hours=-1), timedelta(days=20_000)])
def test_a_step_of_the_billers_clock_moves_nothing(step):
    clock = EventClock()
    clock.measure(NOW - APART, NOW, 100.0)
    for seconds in (1, 2):
        at = timedelta(seconds=seconds)
        assert clock.time_there(NOW + at + step, 100.0 + seconds) == NOW - APART + at
    moment, _, _ = clock.time_of({}, NOW + timedelta(seconds=3) + step, 103.0)
    assert moment == NOW - APART + timedelta(seconds=3)


def test_drift_is_left_to_the_next_measurement():
    clock = EventClock()
    clock.measure(NOW - APART, NOW, 100.0)
    assert clock.time_there(NOW + timedelta(seconds=31), 101.0) == NOW - APART + timedelta(seconds=31)


def test_before_a_measurement_both_clocks_are_one():
    clock = EventClock()
    assert clock.time_there(NOW, 100.0) == NOW
    clock.measure(NOW - APART, NOW, 100.0)
    clock.reset()
    assert clock.time_there(NOW + APART, 101.0) == NOW + APART
