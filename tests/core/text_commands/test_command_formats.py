"""The words of a text message as a command, however a phone writes them."""

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from celcombiller.core.text_commands.command_formats import (
    CommandFormat,
    CommandKind,
    list_fields,
    normalise_text,
    parse_command,
)

SELL = CommandFormat(CommandKind.SELL, "777", "{pin}#{number}#{amount}")
GIVE = CommandFormat(CommandKind.TRANSFER, "777", "{number}#{amount}")
CARD = CommandFormat(CommandKind.VOUCHER, "777", "{code}")
PIN = CommandFormat(CommandKind.CHANGE_PIN, "778", "PIN {old}#{new}#{again}")
FORMATS = (SELL, GIVE, CARD, PIN)


def parsed(text, to="777", formats=FORMATS):
    found = parse_command(formats, to, text)
    return found.kind.value, *found.fields.values()


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("1234#2001#50", ("sell", "1234", "2001", "50")),
        (" 1234 # 2001 # 50 \n", ("sell", "1234", "2001", "50")),
        ("1234#+55 91 98000-0001#1.234,50", ("sell", "1234", "+55 91 98000-0001", "1.234,50")),
        ("\uff11\uff12\uff13\uff14\uff03\u0662\u0660\u0660\u0661#\u06f5\u06f0", ("sell", "1234", "2001", "50")),
        ("12\u200b34#20\u20601#50\ufeff\x00", ("sell", "1234", "201", "50")),
        ("1234#2001#five", ("sell", "1234", "2001", "five")),
        ("1234#2001#-5", ("sell", "1234", "2001", "-5")),
        ("2001#50", ("transfer", "2001", "50")),
        ("O0I1-ABCD-EFGH-2345", ("voucher", "O0I1-ABCD-EFGH-2345")),
        ("123456", ("confirm", "123456")),
        ("12 34", ("confirm", "1234")),
        ("123-456", ("confirm", "123456")),
        ("123", ("voucher", "123")),
        ("123456789", ("voucher", "123456789")),
        ("1234#2001#50#", ("unknown",)),
        ("#2001#50", ("unknown",)),
        ("1234##50", ("unknown",)),
        ("", ("unknown",)),
        (" \n", ("unknown",)),
        ("x" * 161, ("unknown",)),
    ],
)
def test_words_mean_a_command(text, command):
    assert parsed(text) == command


def test_each_service_code_has_its_commands():
    assert parsed("pin 1234#5678#5678", "778") == ("change_pin", "1234", "5678", "5678")
    assert parsed("PIN1234#5678#5678", "778") == ("change_pin", "1234", "5678", "5678")
    assert parsed("1234#2001#50", "778") == ("unknown",)
    assert parsed("1234#2001#50", "779") == ("unknown",)


def test_a_format_may_be_words_and_spaces():
    formats = (CommandFormat(CommandKind.SELL, "777", "VENDER {amount} a {number} {pin}"),)
    assert parsed("vender 5,50  A 2001 1234", formats=formats) == ("sell", "5,50", "2001", "1234")


def test_formats_of_one_shape_are_alike():
    swapped = CommandFormat(CommandKind.CHANGE_PIN, "777", "{old}#{new}#{again}")
    assert swapped.shape == SELL.shape != GIVE.shape
    assert list_fields(SELL.template) == ["pin", "number", "amount"]


def test_a_command_does_not_show_its_words():
    assert "1234" not in repr(parse_command(FORMATS, "777", "1234#2001#50"))


@given(st.text(max_size=200))
@example("1234#2001#" + "9" * 150)
def test_any_text_is_a_command_or_none(text):
    found = parse_command(FORMATS, "777", text)
    assert found.kind in CommandKind
    assert all(value == normalise_text(value) != "" for value in found.fields.values())


@given(st.integers(0, 99999999), st.from_regex(r"\+?[0-9]{2,15}", fullmatch=True), st.integers(0, 10**9))
def test_what_a_format_writes_is_read(pin, number, amount):
    for template in ("{pin}#{number}#{amount}", "sell {number} {amount} {pin}", "{amount}*{number}*{pin}"):
        formats = (CommandFormat(CommandKind.SELL, "1", template),)
        written = template.format(pin=pin, number=number, amount=amount)
        found = parse_command(formats, "1", written)
        assert found.fields == {"pin": str(pin), "number": number, "amount": str(amount)}
