"""Ids of a part are alike in each form that an SMSC writes them in, and different ids are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.sms.network_ids import ID_CHARACTERS_MAX, Likeness, compare, forms_of, text_of_id

NUMBERS = st.integers(0, 2**64 - 1)
FORMS = st.sampled_from(["{}", "{:x}", "{:X}", "{:020}", "{:010}", "{:08x}", "{:016X}", "0x{:x}"])


@pytest.mark.parametrize(
    ("stored", "received", "likeness"),
    [
        ("1A2B3C4D", "1A2B3C4D", Likeness.SAME),
        ("1A2B3C4D", "1a2b3c4d", Likeness.OTHER_CASE),
        ("m1", "M1", Likeness.OTHER_CASE),
        ("1A2B3C4D", "0000001a2b3c4d", Likeness.OTHER_ZEROS),
        ("0000000007", "7", Likeness.OTHER_ZEROS),
        ("1A2B3C4D", "439041101", Likeness.OTHER_BASE),
        ("439041101", "1A2B3C4D", Likeness.OTHER_BASE),
        ("10", "16", Likeness.OTHER_BASE),
        ("0", "000", Likeness.OTHER_ZEROS),
        ("1A2B3C4D", "439041102", None),
        ("m1", "m01", None),
        ("", "0", None),
        ("9" * 41, "0" + "9" * 41, None),
    ],
)
def test_ids_are_compared_in_every_normal_form(stored, received, likeness):
    assert compare(stored, received) is likeness
    if likeness is not None:
        assert stored in forms_of(received)


@given(NUMBERS, FORMS, FORMS)
def test_forms_of_one_number_are_alike(number, one, other):
    stored, received = one.format(number), other.format(number)
    assert compare(stored, received) is not None
    assert stored.startswith("0x") or stored in forms_of(received)


@given(st.text(st.characters(max_codepoint=127), max_size=50), st.text(max_size=50))
def test_what_is_looked_up_is_alike(received, other):
    forms = forms_of(received)
    assert len(forms) < 400
    assert all(compare(form, received) is not None for form in forms)
    assert compare(other, received) == compare(received, other)


def test_no_id_is_like_an_empty_one():
    assert forms_of("") == frozenset()


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_stored_ids_are_printable_and_stay_different(one, other):
    first, second = text_of_id(one), text_of_id(other)
    assert first.isascii()
    assert "\0" not in first
    assert len(first) <= ID_CHARACTERS_MAX
    if one.isalnum() and other.isalnum() and max(len(one), len(other)) <= ID_CHARACTERS_MAX and one != other:
        assert first != second
