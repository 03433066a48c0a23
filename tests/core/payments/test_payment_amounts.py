"""Amounts of payments become credits exactly, or not at all."""

from fractions import Fraction

import hypothesis.strategies as st
import pytest
from hypothesis import given

from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.payments.payment_amounts import credits_of, normalise_amount


@given(st.integers(0, 10**15 - 1), st.text("0123456789", max_size=9), st.integers(1, 10**9))
def test_credits_are_exact_or_refused(whole, decimals, per_unit):
    text = f"{whole}.{decimals}" if decimals else str(whole)
    exact = Fraction(text) * per_unit
    if exact.denominator == 1 and 1 <= exact <= AMOUNT_MAX:
        assert credits_of(text, per_unit) == exact
        assert credits_of(normalise_amount(text), per_unit) == exact
    else:
        with pytest.raises(InvalidValue) as refused:
            credits_of(text, per_unit)
        assert "amount" in refused.value.fields


@given(st.decimals(min_value=0, max_value=10**6, places=4))
def test_an_amount_is_written_in_one_way(amount):
    text = f"{amount:f}"
    assert normalise_amount(f"00{text}00") == normalise_amount(text)
    assert Fraction(normalise_amount(text)) == Fraction(text)
    assert not normalise_amount(text).endswith((".", ".0"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-5",
        "+5",
        " 5",
        "5 ",
        "1,5",
        "1.234,50",
        ".5",
        "5.",
        "1e3",
        "five",
        "\u0665",
        "0x5",
        "5\n",
        "1.2.3",
        "9" * 16,
        "NaN",
    ],
)
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(InvalidValue, match="must be a decimal number in quotes"):
        normalise_amount(text)
