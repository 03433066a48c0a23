"""Prices as texts: exact in both directions."""

from fractions import Fraction

import hypothesis.strategies as st
import pytest
from hypothesis import given

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.tariffs import Service, Step
from celcombiller.core.tariffs.price_format import format_money, format_steps, make_steps, parse_amount, whole_credits


@pytest.mark.parametrize(
    ("amount", "credits_per_unit", "text"),
    [
        (1250, 10_000, "R$ 0.1250"),
        (5, 100, "R$ 0.05"),
        (300, 100, "R$ 3.00"),
        (Fraction(1, 3), 1, "~R$ 0.33333333"),
        (0, 100, "R$ 0.00"),
    ],
)
def test_money_is_exact_or_marked(amount, credits_per_unit, text):
    assert format_money(amount, "R$", credits_per_unit) == text


@pytest.mark.parametrize(
    ("service", "steps", "text"),
    [
        (Service.VOICE, (Step(0, 1, 1, 1),), "1 per s, 1/1"),
        (Service.VOICE, make_steps(Fraction(12), 60, (30, 6)), "1 per 5, 30/6"),
        (Service.VOICE, (Step(0, 60, 0, 60), Step(60, 60, 12, 60)), "0 per min, 60/60; from 60: 12 per min, 60/60"),
        (Service.SMS, (Step(0, 1, 7, 1),), "7 per message, 1/1"),
        (Service.DATA, (Step(0, 1, 7, 2**20),), "7 per MiB, 1/1"),
    ],
)
def test_steps_are_shown_in_credits(service, steps, text):
    assert format_steps(service, steps) == text


def test_money_is_for_the_usual_unit():
    steps = make_steps(parse_amount("0.125", 100), 60, (30, 6))
    assert format_steps(Service.VOICE, steps, "R$", 100) == "R$ 0.1250 per min, 30/6"
    assert format_steps(Service.DATA, (Step(0, 1024, 1, 1024),), "EUR", 10_000) == "EUR 0.1024 per MiB, 1024/1024"


@pytest.mark.parametrize("text", ["", "x", "-1", "nan", "inf", "1e99", "1,5", "9" * 40])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(InvalidValue):
        parse_amount(text)


def test_fees_are_whole_credits():
    assert whole_credits(parse_amount("1.5", 100), "the fee") == 150
    with pytest.raises(InvalidValue, match="whole credits"):
        whole_credits(parse_amount("1.5"), "the fee")


@given(st.decimals(min_value=0, max_value=10**6, places=6), st.integers(1, 10**6), st.integers(1, 3600))
def test_price_of_steps_is_the_exact_amount(amount, credits_per_unit, per):
    for step in make_steps(parse_amount(str(amount), credits_per_unit), per, (30, 6)):
        assert Fraction(step.price * per, step.per) == Fraction(amount) * credits_per_unit
