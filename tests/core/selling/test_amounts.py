"""Amounts as people write them: read exactly, or refused by a sentence; never guessed."""

from contextlib import suppress
from fractions import Fraction

import hypothesis.strategies as st
import pytest
from hypothesis import given

from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.balance_format import BalanceStyle
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.selling.amounts import CREDITS, Money, format_amount, parse_amount

REAIS = Money("R$", 100)


@pytest.mark.parametrize(
    ("text", "credits_"),
    [
        *[("50", 50), (" 5 ", 5), ("+5", 5), ("007", 7), ("5,00", 5), ("5.0", 5), ("1 234", 1234), ("\u00a05", 5)],
        *[("1.234.567", 1234567), ("1,234,567", 1234567), ("1.234,00", 1234), ("1,234.00", 1234), ("1'234", 1234)],
        *[
            ("1234.000", 1234),
            ("0.500,0", None),
            ("12 345 678", 12345678),
            ("50\r\n", 50),
            ("9007199254740991", AMOUNT_MAX),
        ],
    ],
)
def test_whole_credits_are_read_in_any_notation(text, credits_):
    if credits_ is None:
        with pytest.raises(InvalidValue):
            parse_amount(text)
    else:
        assert parse_amount(text) == credits_


@pytest.mark.parametrize(
    ("text", "cents"),
    [
        *[("50", 5000), ("1.234,50", 123450), ("1,234.50", 123450), ("0,5", 50), (".50", 50), (",5", 50), ("1.5", 150)],
        *[("1 234,50", 123450), ("R$ 5", 500), ("r$5,25", 525), ("5 R$", 500), ("0.500", 50), ("12.5000", 1250)],
        *[("1.234.567,8", 123456780), ("1'234.50", 123450), ("1234.500", 123450), ("0,010", 1)],
    ],
)
def test_money_is_read_in_any_notation(text, cents):
    assert parse_amount(text, REAIS) == cents


@pytest.mark.parametrize("text", ["1.234", "1,234", "12.500", "999,000", "1.000"])
@pytest.mark.parametrize("money", [CREDITS, REAIS])
def test_thousands_and_decimals_are_never_guessed(text, money):
    with pytest.raises(InvalidValue, match="two things: write"):
        parse_amount(text, money)


@pytest.mark.parametrize("text", ["1.234", "12,500", "1.000"])
def test_what_an_ambiguity_proposes_can_be_read(text):
    with pytest.raises(InvalidValue) as refused:
        parse_amount(text, Money("X", 1000))
    first, _, second = str(refused.value).partition("write ")[2].partition(" or ")
    assert parse_amount(first, Money("X", 1000)) == 1000 * int(first)
    assert parse_amount(second, Money("X", 1000)) == Fraction(second.replace(",", ".")) * 1000


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "five",
            "-5",
            "\u22125",
            "+-5",
            "+ 5",
            "--",
            "0",
            "0,00",
            "5-",
            "5 0",
            "1 23",
            "1.23.456",
            "1,234,56",
        ),
        *(
            "5e3",
            "0x5",
            "\u0665",
            "\uff15",
            "1_000",
            "5\x00",
            "5\n6",
            "1..5",
            "1.,5",
            "5.",
            "5,",
            "50%",
            "R$",
            "nan",
            "inf",
        ),
        *(
            "1.234.567.89",
            "12.34,5",
            "1 234.567,8",
            "1,234.567.8",
            "0.001",
            "01.234,5",
            "9" * 16,
            "9" * 41,
            "1" + " " * 41,
        ),
        *("1.5", "0,5", "\u00bd", "1/2", "5;drop", "5 5 5", "1 234'567", "5\u202e"),
    ],
)
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(InvalidValue, match=r"^the amount"):
        parse_amount(text)


def test_a_refusal_shows_no_control_characters():
    with pytest.raises(InvalidValue) as refused:
        parse_amount("5\x1b[2J\u202e")
    assert str(refused.value).isprintable()


@given(st.integers(1, AMOUNT_MAX), st.sampled_from([CREDITS, REAIS, Money("MZN", 1), Money("", 1)]))
def test_shown_amounts_are_read_back(amount, money):
    shown = format_amount(amount, money, BalanceStyle(as_time=False))
    assert parse_amount(shown, money) == amount


@given(st.integers(1, 10**12), st.integers(0, 99), st.sampled_from([".,", ",.", " ,", " .", "'."]))
def test_grouped_money_is_read_exactly(whole, cents, signs):
    group, point = signs
    text = f"{whole:,}".replace(",", group) + f"{point}{cents:02}"
    assert parse_amount(text, REAIS) == whole * 100 + cents


@given(st.text(max_size=50))
def test_any_text_is_read_or_refused(text):
    with suppress(InvalidValue):
        assert 1 <= parse_amount(text, REAIS) <= AMOUNT_MAX
