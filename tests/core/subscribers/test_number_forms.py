"""The forms of numbers and IMSIs by which a network names a subscriber."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.model.subscribers import Level, Subscriber
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.subscribers.directory import Directory
from celcombiller.core.subscribers.number_forms import NUMBER, forms_of, plain_number
from tests.core.ledger.test_book import NOW

ANA = Subscriber(1, "ana", "Ana", "5540002001", "724000000002001", None, "", Level.SUBSCRIBER, enabled=True)
BIA = Subscriber(2, "2001", "Bia", "2002", "724000000002002", None, "", Level.SUBSCRIBER, enabled=True)
ROOT = Subscriber(3, "root", "Root", "0", "000000000000000", None, "", Level.ADMINISTRATOR, enabled=True)

FORMS = {
    "the number": "5540002001",
    "+": "+5540002001",
    "00": "005540002001",
    "spaces": "+55 4000 2001",
    "separators": "+55-(4000).2001",
    "parameters": "5540002001;phone-context=ims.example",
    "parameters of a +": "+5540002001;phone-context=+1;npdi",
    "a local number and its context": "40002001;phone-context=+55",
    "tel": "tel:+55-4000-2001",
    "sip": "sip:5540002001;user=phone@127.0.0.1:5062",
    "sips": "SIPS:+5540002001@pbx.example;transport=tls",
    "IMSI": "IMSI724000000002001",
    "imsi": "imsi724000000002001",
    "IMSI:": "IMSI:724000000002001",
    "a bare IMSI": "724000000002001",
    "an IMSI with spaces": "724 00 0000002001",
    "an IMSI as a URI": "sip:IMSI724000000002001@127.0.0.1:5062",
}


@pytest.mark.parametrize("word", FORMS.values(), ids=FORMS)
def test_a_subscriber_is_found_by_each_form(word):
    directory = Directory([ANA, BIA, ROOT])
    assert directory.find_callee(word) is ANA
    assert directory.find_payer("", word) is ANA
    assert directory.find_payer(word, "unknown") is ANA


@pytest.mark.parametrize("word", FORMS.values(), ids=FORMS)
def test_each_form_is_found_in_the_database(engine, word):
    facts = {"cpf": None, "address": "", "level": Level.SUBSCRIBER, "password_hash": None, "now": NOW}
    with engine.begin() as tx:
        subscriber_records.add(tx, username="ana", name="Ana", clid=ANA.clid, imsi=ANA.imsi, **facts)
        assert Directory.load(tx, [word]).find_callee(word).username == "ana"


def test_a_number_comes_before_what_it_may_mean():
    exact = Subscriber(4, "x", "X", "724000000002001", "724000000002009", None, "", Level.SUBSCRIBER, enabled=True)
    prefixed = Subscriber(5, "y", "Y", "002002", "724000000002008", None, "", Level.SUBSCRIBER, enabled=True)
    directory = Directory([ANA, BIA, exact, prefixed])
    assert directory.find_callee("724000000002001") is exact
    assert directory.find_callee("IMSI724000000002001") is ANA
    assert (directory.find_callee("002002"), directory.find_callee("+2002")) == (prefixed, BIA)
    assert directory.find_payer("2001", "") is BIA


@pytest.mark.parametrize(
    "word",
    [
        *("", "unknown", "anonymous", "000000000000000", "IMSI", "IMSI12", "+", "00", "tel:", "sip:@x"),
        *(
            "2002&2001",
            "2002,1",
            "2002 ",
            " 2002",
            "\x00",
            "\udc80",
            "\uff12\uff10\uff10\uff12",
            "2002@elsewhere",
            "7240000000020010",
        ),
    ],
)
def test_what_is_no_form_finds_no_subscriber(word):
    directory = Directory([ANA, BIA, ROOT])
    assert directory.find_callee(word) is None
    assert directory.find_payer("", word) is None


@pytest.mark.parametrize(
    ("word", "plain"),
    [
        ("2002;phone-context=x", "2002"),
        ("tel:+55 11", "+5511"),
        ("*1 00#", "*100#"),
        ("imsi724000000002001", "IMSI724000000002001"),
        ("2002&PJSIP/1", "2002&PJSIP/1"),
        ("ana.b-c", "ana.b-c"),
    ],
)
def test_a_number_is_made_plain(word, plain):
    assert plain_number(word) == plain


@given(st.text() | st.from_regex(r"(sips?:|tel:|)\+?[0-9 .()-]*(;[a-z-]+=[+0-9]*)*(@.*)?"))
def test_forms_are_digits_whatever_the_word(word):
    plain = plain_number(word)
    assert plain == word or NUMBER.fullmatch(plain)
    assert plain_number(plain) == plain
    assert forms_of(word).imsi == "" or NUMBER.fullmatch(f"IMSI{forms_of(word).imsi}")
