"""Barred and allowed prefixes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.errors import InvalidValue
from celcombiller.core.routing.prefixes import check_prefix, is_barred, match_length

DIGITS = st.text("0123", max_size=4)
PREFIXES = st.lists(DIGITS.filter(bool), max_size=4).map(tuple)


@pytest.mark.parametrize(
    ("number", "barred", "allowed", "expected"),
    [
        ("900123", ("900",), (), True),
        ("+900123", ("900",), (), True),
        ("900123", ("+900",), (), True),
        ("901123", ("900",), (), False),
        ("900512", ("900",), ("9005",), False),
        ("900412", ("900",), ("9005",), True),
        ("900512", ("9005",), ("900",), True),
        ("900512", ("900",), ("900",), True),
        ("5511", (), ("55",), False),
        ("4411", (), ("55",), True),
        ("4411", ("900",), ("9005",), False),
        ("5511", (), (), False),
    ],
)
def test_the_longer_of_bar_and_allowance_decides(number, barred, allowed, expected):
    assert is_barred(number, barred, allowed) is expected


@given(DIGITS, PREFIXES, PREFIXES)
def test_a_plus_changes_no_verdict(number, barred, allowed):
    signed = tuple(f"+{each}" for each in barred)
    assert is_barred(number, barred, allowed) is is_barred(f"+{number}", signed, allowed)


@given(DIGITS, PREFIXES, PREFIXES)
def test_an_allowance_of_the_whole_frees_it(number, barred, allowed):
    shorter = tuple(each for each in barred if len(each) < len(number))
    assert not is_barred(number, shorter, (*allowed, number))


@given(DIGITS, PREFIXES)
def test_the_longest_match_is_found(number, prefixes):
    longest = max((each for each in prefixes if number.startswith(each)), key=len, default=None)
    assert match_length(number, prefixes) == (-1 if longest is None else len(longest))


@pytest.mark.parametrize("text", ["9 0", "a", "++9", "9&", "9\n", "1" * 33, "٣"])
def test_what_no_number_begins_with_is_refused(text):
    with pytest.raises(InvalidValue, match="barred"):
        check_prefix(text, "barred")
