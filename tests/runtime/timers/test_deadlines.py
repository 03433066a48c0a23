"""One timer for all deadlines: each is kept to the moment, and one that is met costs nothing later."""

import hypothesis.strategies as st
from hypothesis import given
from twisted.internet.task import Clock

from celcombiller.runtime.timers.deadlines import Deadlines


@given(
    st.lists(
        st.tuples(st.sampled_from(["set", "met", "pass"]), st.integers(0, 5), st.integers(1, 20)),
        min_size=1,
        max_size=40,
    )
)
def test_a_deadline_ends_only_its_own_session(steps):
    clock, given_up, expected = Clock(), [], {}
    deadlines = Deadlines(clock)
    for what, who, seconds in steps:
        if what == "set":
            deadlines.set(who, seconds, lambda who=who: given_up.append((who, clock.seconds())))
            expected[who] = clock.seconds() + seconds
        elif what == "met":
            deadlines.met(who)
            expected.pop(who, None)
        else:
            for _ in range(seconds):
                clock.advance(1)
                late = sorted(each for each, due_at in expected.items() if due_at <= clock.seconds())
                assert sorted(given_up) == [(each, clock.seconds()) for each in late]
                expected = {each: due_at for each, due_at in expected.items() if each not in late}
                given_up.clear()
    assert len(deadlines) == len(expected)


def test_many_deadlines_share_one_timer():
    clock = Clock()
    deadlines = Deadlines(clock)
    for who in range(1000):
        deadlines.set(who, 10, list)
        deadlines.met(who)
    deadlines.set("x", 10, list)
    assert len(clock.getDelayedCalls()) == 1
    deadlines.stop()
    assert clock.getDelayedCalls() == []


def test_who_is_given_up_may_wait_again():
    clock, given_up = Clock(), []
    deadlines = Deadlines(clock)

    def again():
        given_up.append(clock.seconds())
        deadlines.set("x", 2, lambda: given_up.append(clock.seconds()))

    deadlines.set("x", 1, again)
    clock.advance(1)
    clock.advance(2)
    assert given_up == [1, 3]
    assert not deadlines
