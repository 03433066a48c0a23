"""Texts become short messages as 3GPP TS 23.038 and 23.040 have it, and no character is torn."""

import pytest
from gsm0338 import Codec
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.errors import InvalidValue
from celcombiller.core.sms.encoding import DefaultAlphabet, Encoding, split

GSM = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCXYZÄÖÑÜ§¿abcxyzäöñüà"
EXTENDED = "^{}\\[~]|€"
REFUSED = [chr(n) for n in (*range(9), 11, 12, *range(14, 32), 127)]

gsm_texts = st.text(st.sampled_from(GSM + EXTENDED), min_size=1, max_size=900)
texts = st.text(st.characters(codec="utf-8", exclude_characters=REFUSED), min_size=1, max_size=900)


@pytest.mark.parametrize(
    ("text", "encoding", "sizes"),
    [
        ("a", "gsm7", [1]),
        ("a" * 160, "gsm7", [160]),
        ("a" * 161, "gsm7", [153, 8]),
        ("a" * 306, "gsm7", [153, 153]),
        ("a" * 307, "gsm7", [153, 153, 1]),
        ("€" * 80, "gsm7", [160]),
        ("€" * 81, "gsm7", [152, 10]),
        ("a" + "€" * 76 + "b" * 8, "gsm7", [153, 8]),
        ("ç" * 70, "ucs2", [140]),
        ("ç" * 71, "ucs2", [134, 8]),
        ("\t", "ucs2", [2]),
        ("😀" * 35, "ucs2", [140]),
        ("😀" * 36, "ucs2", [132, 12]),
        ("ç" + "😀" * 33 + "ç" * 5, "ucs2", [134, 10]),
    ],
)
def test_a_text_takes_its_alphabets_part_count(text, encoding, sizes):
    made = split(text)
    assert made.encoding == encoding
    assert [len(each) for each in made.parts] == sizes


@given(gsm_texts)
def test_gsm_parts_join_without_split_characters(text):
    made = split(text)
    assert made.encoding is Encoding.GSM7
    assert "".join(Codec().decode(each)[0] for each in made.parts) == text
    check_fullness(made.parts, 160, 153, widest=2)


@given(texts)
def test_any_text_is_whole_again_part_by_part(text):
    made = split(text)
    if made.encoding is Encoding.UCS2:
        assert "".join(each.decode("utf-16-be") for each in made.parts) == text
        check_fullness(made.parts, 140, 134, widest=4)


def check_fullness(parts, alone, room, *, widest):
    assert len(parts) != 1 or len(parts[0]) <= alone
    if len(parts) > 1:
        assert all(room - widest < len(each) <= room for each in parts[:-1])
        assert 0 < len(parts[-1]) <= room
        assert sum(map(len, parts)) > alone


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("a\0b", "control"),
        ("\x1b", "control"),
        ("a\x0cb", "control"),
        ("\ud83d", "unpaired"),
        ("ok \ude00\ud83d", "unpaired"),
        ("x" * 1531, "longer than 10 short messages"),
        ("ç" * 671, "longer than 10"),
        ("x" * 10_000_000, "longer than 10"),
    ],
)
def test_an_invalid_message_names_its_field(text, why):
    with pytest.raises(InvalidValue, match=why) as refusal:
        split(text, parts_max=10)
    assert list(refusal.value.fields) == ["text"]


def test_quotes_and_line_ends_are_plain_text():
    assert split('it\'s "so" ; rm -rf | `$HOME`\r\n', parts_max=1).encoding is Encoding.UCS2  # the backtick is no GSM
    assert split('it\'s "so"; rm -rf | ${HOME}\r\n', parts_max=1).encoding is Encoding.GSM7


@pytest.mark.parametrize(
    ("alphabet", "text", "encoding", "parts"),
    [
        (DefaultAlphabet.LATIN1, "à@_[é]", Encoding.GSM7, [b"\xe0@_[\xe9]"]),
        (DefaultAlphabet.LATIN1, "5 €", Encoding.UCS2, ["5 €".encode("utf-16-be")]),
        (DefaultAlphabet.ASCII, "a@_[b]", Encoding.GSM7, [b"a@_[b]"]),
        (DefaultAlphabet.ASCII, "é", Encoding.UCS2, [b"\x00\xe9"]),
        (DefaultAlphabet.LATIN1, "[" * 80, Encoding.GSM7, [b"[" * 80]),
        (DefaultAlphabet.LATIN1, "[" * 81, Encoding.GSM7, [b"[" * 76, b"[" * 5]),
    ],
)
def test_another_default_alphabet_needs_as_many_septets(alphabet, text, encoding, parts):
    made = split(text, alphabet=alphabet)
    assert (made.encoding, list(made.parts)) == (encoding, parts)
