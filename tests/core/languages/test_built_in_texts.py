"""The texts of ours to phones: each is complete in each language, short, and no language changes the operator's own."""

from datetime import date, datetime
from functools import partial
from operator import attrgetter

import hypothesis.strategies as st
import pytest
from hypothesis import given

from celcombiller.config.tables import Config, Console, Smpp, Sms
from celcombiller.core.errors import InsufficientBalance, InvalidValue
from celcombiller.core.languages.built_in_texts import BUILT_IN, BUILT_IN_TEXTS
from celcombiller.core.languages.error_texts import ERROR_TEXTS, describe_error, describe_reason
from celcombiller.core.languages.language import PLAIN, Text
from celcombiller.core.ledger.balance_format import BalanceStyle, format_balance
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.dial_strings import list_placeholders
from celcombiller.core.selling.amounts import Money, format_amount, parse_amount
from celcombiller.core.sms.encoding import DefaultAlphabet, Encoding, leave_out_accents, split
from celcombiller.runtime.languages import LANGUAGES, load_language

WAY = {"sms": Sms(on_net_route="smpp", sender="biller"), "smpp": Smpp(host="127.0.0.1")}
POLICY = Config(**WAY).message_policy
MONEY, TIME = BalanceStyle(as_time=False, scale=2), BalanceStyle()
LANGUAGE = pytest.mark.parametrize("language", LANGUAGES)


def values(style):
    amount = partial(format_balance, 74_090, Kind.VOICE, style)
    sums = dict.fromkeys(("amount", "balance", "left", "fee", "spent", "limit", "threshold", "value"), amount)
    return sums | {
        "name": "Pacote mensal 1",
        "number": "+5591987654321",
        "code": "123456",
        "time": datetime(2026, 12, 31, 13, 45),  # noqa: DTZ001  a local time
        "date": date(2026, 9, 30),
        "valid_until": date(2026, 9, 30),
        "minutes": 5,
        "receipt": "office-12345",
        "bundles": "Pacote mensal 1: 42 min 10 s; SMS: 100",
        "reason": "R" * 80,
        "sms": 1234,
    }


@LANGUAGE
@pytest.mark.parametrize("style", [MONEY, TIME])
@pytest.mark.parametrize("name", BUILT_IN_TEXTS)
def test_each_text_fits_one_message(name, style, language):
    text = POLICY.write(BUILT_IN_TEXTS[name], language, **values(style))
    found = split(text)
    assert (found.encoding, len(found.parts)) == (Encoding.GSM7, 1), text
    assert "{" not in text


@LANGUAGE
@pytest.mark.parametrize("code", ERROR_TEXTS)
def test_each_refusal_fits_one_message(code, language):
    error = type("Refusal", (InsufficientBalance,), {"code": code})("says something else")
    refused = BUILT_IN_TEXTS["text_commands.refused_text"]
    text = POLICY.write(refused, language, reason=partial(describe_reason, error))
    assert (split(text).encoding, len(split(text).parts)) == (Encoding.GSM7, 1), text
    assert not text.endswith("..")
    assert ("says something else" in text) == (language == "en")


@pytest.mark.parametrize("name", BUILT_IN_TEXTS)
def test_each_text_may_stand_in_its_setting(name):
    section, key = name.split(".")
    kind = type(getattr(Config(), section))
    kind(**{key: str(BUILT_IN_TEXTS[name])})
    own = Config(**WAY | {section: kind(**{key: BUILT_IN})})
    assert own.phone_text(name) is BUILT_IN_TEXTS[name]


def test_each_default_text_is_one_of_ours():
    for name, text in BUILT_IN_TEXTS.items():
        default = attrgetter(name)(Config())
        assert default in (BUILT_IN, ""), name
        assert Config().phone_text(name) == (text if default else "")


@LANGUAGE
def test_translations_have_the_same_values(language):
    for text in BUILT_IN_TEXTS.values():
        allowed = tuple(list_placeholders(text, tuple(values(TIME))))
        found = list_placeholders(load_language(language).gettext(text), allowed)
        assert sorted(found) == sorted(allowed)


@pytest.mark.parametrize(
    ("language", "number", "money", "day", "clock"),
    [
        ("en", "1,234.50", "R$ 1,234.50", "Sep 30, 2026", "1:45 PM"),
        ("pt_BR", "1.234,50", "R$ 1.234,50", "30 de set. de 2026", "13:45"),
        ("es", "1.234,50", "R$ 1.234,50", "30 sept 2026", "13:45"),
    ],
)
def test_values_are_written_as_the_language_does(language, number, money, day, clock):
    written = load_language(language)
    assert written.format_number("1234.50") == number
    assert format_amount(123_450, Money("R$", 100), MONEY, written) == money
    assert written.format_day(date(2026, 9, 30)) == day
    assert written.format_clock(values(TIME)["time"]) == clock


@pytest.mark.parametrize("language", [*LANGUAGES, "", "xx"])
@given(credits_=st.integers(-(10**12), 10**12), scale=st.integers(0, 9))
def test_no_language_changes_a_figure(language, credits_, scale):
    style = BalanceStyle(as_time=False, scale=scale)
    text = format_balance(credits_, Kind.VOICE, style, load_language(language))
    decimals = "." if language not in ("pt_BR", "es") else ","
    groups = {".": ",", ",": "."}[decimals]
    assert text.replace(groups, "").replace(decimals, ".") == format_balance(credits_, Kind.VOICE, style)


def test_an_own_text_is_the_same_for_all():
    policy = Config(console=Console(language="pt_BR"), **WAY).message_policy
    for language in ("", "es", "pt_BR", "en"):
        text = policy.write("Vocês têm {amount}: {date}", language, **values(MONEY))
        assert text == "Vocês têm 740,9: 30 de set. de 2026"


def test_who_chose_no_language_gets_the_default():
    for default, begins in (("en", "Your"), ("pt_BR", "Seu"), ("es", "Su")):
        policy = Config(console=Console(language=default), **WAY).message_policy
        assert policy.write(BUILT_IN_TEXTS["notices.text"], "", balance="5").split()[0] == begins


@pytest.mark.parametrize(
    ("text", "alphabet", "sent"),
    [
        ("Não há crédito, você", "gsm", "Nao ha crédito, voce"),
        ("El niño cambió: ¿qué?", "gsm", "El niño cambio: ¿qué?"),
        ("Seu saldo é 5", "ascii", "Seu saldo e 5"),
        ("Não há crédito", "latin1", "Nao ha crédito"),
        ("Não é Иван", "gsm", "Não é Иван"),
        ("Na\u0303o", "gsm", "Nao"),
        ("{} € ~", "gsm", "{} € ~"),
    ],
)
def test_accents_that_cost_a_message_are_left_out(text, alphabet, sent):
    assert leave_out_accents(text, DefaultAlphabet(alphabet)) == sent


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=100))
def test_letters_are_left_out_of_no_text(text):
    sent = leave_out_accents(text)
    assert sent == text or split(sent).encoding is Encoding.GSM7


def test_a_refusal_is_told_with_its_amounts():
    with pytest.raises(InvalidValue) as ambiguous:
        parse_amount("1.234")
    with pytest.raises(InvalidValue) as parts:
        parse_amount("0.5")
    told = [describe_error(each.value, load_language("pt_BR")) for each in (ambiguous, parts)]
    assert told == [
        "O valor '1.234' pode ter dois sentidos: escreva 1234 ou 1.2340",
        "O valor '0.5' deve ser em créditos inteiros, como 50",
    ]
    assert str(ambiguous.value) == "the amount '1.234' could mean two things: write 1234 or 1.2340"
    assert {type(each) for each in ambiguous.value.fields.values()} == {str}


def test_a_text_is_told_in_another_language():
    said = Text("the code {what}", what=Text("has {digits} digits", digits=21))
    assert (said, PLAIN.write(said)) == ("the code has 21 digits",) * 2
    assert load_language("es").write(said) == "el código tiene 21 cifras"
