"""Steps of the wall clock, against a monotonic one."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from celcombiller.runtime.timers.clock_steps import STEP_LEAST, ClockSteps
from celcombiller.service import use_monotonic_time

BOOT = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.lists(st.tuples(st.floats(0.1, 60), st.floats(-90_000, 2e9)), min_size=1, max_size=5))
def test_a_moment_seems_older_by_later_steps(looks):
    steps, wall, seconds, true_seconds = ClockSteps(), BOOT, 0.0, 0.0
    steps.look(wall, seconds)
    for elapsed, step in looks:
        seconds, true_seconds = seconds + elapsed, true_seconds + elapsed
        forward = step >= STEP_LEAST.total_seconds()
        wall += timedelta(seconds=elapsed + (step if forward else 0))
        steps.look(wall, seconds)
    age = wall - BOOT - steps.excess_age(BOOT)
    assert abs(age.total_seconds() - true_seconds) < 0.01
    assert steps.excess_age(wall) == timedelta()


def test_timers_do_not_follow_the_wall_clock():
    reactor = SimpleNamespace(running=False, seconds=None)
    use_monotonic_time(reactor)
    assert reactor.seconds() < 1e9  # not seconds since 1970
    running = SimpleNamespace(running=True, seconds=None)
    use_monotonic_time(running)
    assert running.seconds is None
