"""When grants are looked at, and how they are shared: laws."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.asterisk.live_control.grants import (
    KEPT_SECONDS,
    LAST_TRY_SECONDS,
    due_warning,
    lead_seconds,
    next_look,
    shared_grant,
)
from celcombiller.core.model.tariffs import flat_rate
from celcombiller.core.rating.pricing import price

AT = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("slice_seconds", "warnings", "lead"),
    [(300, (), 30), (300, (60, 10), 65), (6, (), 3), (0, (), 30), (40, (60,), 20)],
)
def test_grants_are_renewed_before_their_end(slice_seconds, warnings, lead):
    assert lead_seconds(slice_seconds, warnings) == lead


@given(
    st.floats(-10, 10_000),
    st.floats(0.5, 600),
    st.booleans(),
    st.lists(st.integers(2, 600), max_size=3),
)
def test_each_mark_is_looked_at_once(left, lead, is_final, warnings):
    looked = []
    for _ in range(8):
        wait = next_look(left, lead, is_final=is_final, warnings=warnings)
        assert wait > 0
        left -= wait
        looked.append(left)
    marks = [LAST_TRY_SECONDS, *(warnings if is_final else [lead])]
    assert all(any(abs(mark - each) < 1e-6 for each in looked) for mark in marks if mark < looked[0])
    assert looked == sorted(looked, reverse=True)


@given(st.lists(st.integers(2, 60), max_size=4, unique=True), st.integers(0, 70), st.sampled_from([0.1, 0.25, 0.5]))
def test_each_warning_sounds_once_in_time(warnings, granted, tick):
    played, heard, left = None, [], float(granted)
    while left > 0:
        warning = due_warning(left, warnings, played)
        if warning is not None:
            assert warning - 1 < left <= warning
            heard.append(warning)
            played = warning
        left -= tick
    assert heard == sorted((each for each in warnings if each <= granted), reverse=True)


@given(
    st.builds(flat_rate, price=st.integers(0, 20), increment=st.sampled_from([1, 6, 30, 60])),
    st.integers(1, 8000),
    st.data(),
)
def test_sharing_frees_credit_or_changes_nothing(rate, granted, data):
    used = data.draw(st.floats(0, granted))
    sharers = data.draw(st.integers(1, 5))
    kept = shared_grant(rate, AT, granted, used, sharers)
    assert kept <= granted
    if kept < granted:
        assert kept >= min(granted, used + KEPT_SECONDS - 1)
        assert price(rate, kept, AT) < price(rate, granted, AT)


@pytest.mark.parametrize(
    ("increment", "used", "sharers", "kept"),
    [(1, 20, 1, 60), (1, 20, 3, 80), (1, 97, 1, 99), (1, 99, 1, 100), (60, 20, 1, 60), (60, 70, 1, 100)],
)
def test_calls_keep_their_part_of_the_rest(increment, used, sharers, kept):
    assert shared_grant(flat_rate(increment=increment), AT, 100, used, sharers) == kept
