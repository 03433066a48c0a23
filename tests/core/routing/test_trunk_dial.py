"""What a trunk makes of a number, and of the caller's."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.routing import TrunkDial
from celcombiller.core.routing.trunk_dial import check_caller_id, check_dial, check_number_part, make_trunk_dial
from celcombiller.core.subscribers.number_forms import NUMBER
from tests.core.routing.test_trunk_choice import trunk


@pytest.mark.parametrize(
    ("number", "strip", "prepend", "expected"),
    [
        ("+5511", "+", "00", "005511"),
        ("5511", "55", "0", "011"),
        ("4411", "55", "0", "04411"),
        ("5511", "", "", "5511"),
        ("+5511", "+55", "", "11"),
    ],
)
def test_a_number_is_rewritten(number, strip, prepend, expected):
    assert make_trunk_dial(trunk(7, strip=strip, prepend=prepend), number, "1001") == TrunkDial(
        7, "t7", f"PJSIP/{expected}@t7"
    )


@pytest.mark.parametrize(
    ("rule", "expected"), [("", ""), ("{number}", "1001"), ("+551140{number}", "+5511401001"), ("5511999", "5511999")]
)
def test_the_caller_is_shown_by_the_rule(rule, expected):
    assert make_trunk_dial(trunk(7, caller_id=rule), "5511", "1001").caller_id == expected


def test_a_number_stripped_to_nothing_is_not_dialled():
    assert make_trunk_dial(trunk(7, strip="5511"), "5511", "1001") is None


@given(
    st.from_regex(NUMBER, fullmatch=True),
    st.from_regex(r"\+?[0-9*#]{0,16}", fullmatch=True),
    st.from_regex(r"\+?[0-9*#]{0,16}", fullmatch=True),
)
def test_nothing_special_comes_into_a_dial_string(number, strip, prepend):
    strip, prepend = check_number_part(strip, "strip"), check_number_part(prepend, "prepend")
    made = make_trunk_dial(trunk(7, strip=strip, prepend=prepend), number, "1001")
    assert made is None or re.fullmatch(r"PJSIP/\+?[0-9*#]+@t7", made.dial)


@pytest.mark.parametrize(
    "dial", ["PJSIP/x", "PJSIP/{number},60", "PJSIP/{numbre}@x", " PJSIP/{number}", "{number}\n", "{"]
)
def test_a_breaking_dial_string_is_refused(dial):
    with pytest.raises(InvalidValue) as refused:
        check_dial(dial)
    assert set(refused.value.fields) == {"dial"}


@pytest.mark.parametrize("rule", ["Ana", "{clid}", "{number}{number}", "1,2", "5511\n", "{"])
def test_a_wrong_caller_rule_is_refused(rule):
    with pytest.raises(InvalidValue):
        check_caller_id(rule)


@pytest.mark.parametrize("part", ["a", "1" * 17, "1+", "&", "1\n"])
def test_a_wrong_part_of_a_number_is_refused(part):
    with pytest.raises(InvalidValue):
        check_number_part(part, "strip")
