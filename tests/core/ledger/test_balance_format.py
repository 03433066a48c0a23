"""A balance is told as it is, to the last credit: written and spoken, whatever its size and sign."""

import re

import hypothesis.strategies as st
import pytest
from hypothesis import given

from celcombiller.asterisk.balance_prompts import NUMBER_MAX, Verb, balance
from celcombiller.core.ledger.balance_format import BalanceStyle, format_balance
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind

SECONDS = BalanceStyle()
amounts = st.integers(-AMOUNT_MAX, AMOUNT_MAX) | st.integers(-200, 200)


@pytest.mark.parametrize(
    ("credits_told", "style", "text"),
    [
        (0, SECONDS, "0 s"),
        (59, SECONDS, "59 s"),
        (60, SECONDS, "1 min"),
        (125, SECONDS, "2 min 5 s"),
        (-30, SECONDS, "-30 s"),
        (-90, SECONDS, "-1 min 30 s"),
        (12500, BalanceStyle(as_time=False), "12500"),
        (12500, BalanceStyle(as_time=False, scale=4), "1.25"),
        (-5, BalanceStyle(as_time=False, scale=2), "-0.05"),
        (300, BalanceStyle(as_time=False, scale=2), "3"),
    ],
)
def test_a_voice_balance_has_the_operators_format(credits_told, style, text):
    assert format_balance(credits_told, Kind.VOICE, style) == text


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.SMS])
def test_data_and_sms_balances_are_bare_numbers(kind):
    assert format_balance(-125, kind, SECONDS) == "-125"
    assert format_balance(125, kind, BalanceStyle(as_time=False, scale=2)) == "125"


@given(amounts)
def test_written_minutes_and_seconds_equal_the_balance(credits_told):
    text = format_balance(credits_told, Kind.VOICE, SECONDS)
    minutes, seconds = re.fullmatch(r"-?(?:(\d+) min)? ?(?:(\d+) s)?", text).groups()
    found = int(minutes or 0) * 60 + int(seconds or 0)
    assert (-found if text.startswith("-") else found) == credits_told
    assert int(seconds or 0) < 60


@given(amounts, st.integers(0, 9))
def test_a_written_number_is_all_of_the_balance(credits_told, scale):
    sign, whole, _, decimals = re.fullmatch(
        r"(-?)(\d+)(\.?)(\d*)", format_balance(credits_told, Kind.VOICE, BalanceStyle(False, scale))
    ).groups()
    assert int(f"{sign}{whole}{decimals.ljust(scale, '0')}") == credits_told


def heard(words):
    """Give back the number of seconds, or of credits at scale 0, that these words say."""
    minus, value, number = False, 0, 0
    for word in words:
        if word.verb is not Verb.SOUND:
            number = int(word.what)
            assert word.verb is not Verb.NUMBER or 0 <= number <= NUMBER_MAX
        elif word.what == "digits/minus":
            minus = True
        else:
            value += number * {"minute": 60, "minutes": 60, "second": 1, "seconds": 1}[word.what]
            assert (number == 1) == (word.what in ("minute", "second"))
            number = 0
    return (-1 if minus else 1) * (value + number)


@given(amounts)
def test_spoken_minutes_and_seconds_equal_the_balance(available):
    assert heard(balance(available, SECONDS, intro="", unit="")) == available


@given(amounts)
def test_a_spoken_number_is_the_balance(available):
    assert heard(balance(available, BalanceStyle(as_time=False), intro="", unit="")) == available


def test_a_spoken_number_ends_in_decimals_and_unit():
    words = balance(-120_500, BalanceStyle(as_time=False, scale=4), intro="vm-youhave", unit="digits/dollars")
    assert [(str(word.verb), word.what) for word in words] == [
        ("STREAM FILE", "vm-youhave"),
        ("STREAM FILE", "digits/minus"),
        ("SAY NUMBER", "12"),
        ("STREAM FILE", "letters/dot"),
        ("SAY DIGITS", "05"),
        ("STREAM FILE", "digits/dollars"),
    ]
