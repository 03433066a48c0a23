"""Which passwords are refused: common ones, shapes, and a person's own name. No others, and always fast."""

import contextlib
import string

import hypothesis.strategies as st
import pytest
from hypothesis import given

from celcombiller.core.access.password_rules import check_password
from celcombiller.core.errors import InvalidValue
from tests.support.work_measures import is_cheap

OWN = ["ana", "Ana Paula Souza", "5596991234567", "724000000002001"]
GUESSED = [
    *("12345678", "87654321", "11223344", "1234567890", "00000000", "        ", "aaaaaaaa", "abababab", "12341234"),
    *("abcdefgh", "abcd1234", "qwertyui", "qwerty123", "asdfasdf", "1qaz2wsx", "QWERTY123", "01011990", "1990-01-01"),
    *("password", "Password1!", "p@ssw0rd", "P4SSW0RD", "senha123", "Mudar123", "brasil2026", "flamengo10", "admin123"),
    *("iloveyou", "1q2w3e4r", "ana12345", "anapaula", "Ana Paula", "souza2026", "96991234567", "724000000002001"),
]
GOOD = [
    "correct horse",
    "hush-hush",
    "a good password",
    "xK7#pQ2m",
    "manga verde 3",
    "anacondas sobem",
    "q8w3e1r6z",
    "3141592653",
]


@pytest.mark.parametrize("password", GUESSED)
def test_what_is_guessed_first_is_refused(password):
    with pytest.raises(InvalidValue) as refused:
        check_password(password, OWN)
    assert list(refused.value.fields) == ["password"]


@pytest.mark.parametrize("password", GOOD)
def test_an_ordinary_password_is_accepted(password):
    check_password(password, OWN)


@given(st.text(string.ascii_letters + string.digits, min_size=16, max_size=24))
def test_random_passwords_are_hardly_ever_refused(password):
    if len(set(password)) > 8:  # Hypothesis likes to repeat itself
        check_password(password + "~K")


@given(st.text(max_size=1024), st.lists(st.text(max_size=200), max_size=5))
def test_any_text_is_accepted_or_refused(password, own):
    with contextlib.suppress(InvalidValue):
        check_password(password, own)


@pytest.mark.parametrize(
    "text", ["0123456789" * 103, "ab" * 513, "a" * 1023 + "b", "qwe" * 341 + "!", "qwerty" * 10 + "!a"]
)
def test_a_long_password_is_checked_fast(text):
    assert is_cheap(lambda: check_password(text[:1024], OWN), lambda: check_password("manga verde", OWN))
