"""The secret codes of vouchers: make them of random bytes, read what a person typed, and hash them. Pure.

A code has 20 random digits, which are 66 bits, and a check digit by H. Michael Damm's method ("Total anti-symmetrische
Quasigruppen", 2004). It catches each wrong digit and each swap of two neighbours, so that a slip is no other code.
"""

from __future__ import annotations

import hashlib
import unicodedata

from celcombiller.core.errors import UnknownVoucher
from celcombiller.core.languages.language import Text
from celcombiller.core.languages.language import Text as _

RANDOM_DIGITS = 20
DIGITS = RANDOM_DIGITS + 1
GROUP = 3
"""Digits that people read together: a code is seven groups of three."""

ENTROPY_BYTES = 16
"""Random bytes that one code is made of. No code is more likely than another by more than 1 in 2**61."""

TYPED_CHARACTERS_MAX = 200

_DAMM = (
    "0317598642",
    "7092154863",
    "4206871359",
    "1750983426",
    "6123045978",
    "3674209581",
    "5869720134",
    "8945362017",
    "9438617205",
    "2581436790",
)
_NEXT = tuple(tuple(map(int, row)) for row in _DAMM)
_READ_ALIKE = str.maketrans({"O": "0", "o": "0", "I": "1", "i": "1", "L": "1", "l": "1", "|": "1"})
_BETWEEN = frozenset(" -_.,·•")


def make_codes(entropy: bytes) -> list[str]:
    """Return a code for each `ENTROPY_BYTES` of random bytes."""
    codes = []
    for start in range(0, len(entropy), ENTROPY_BYTES):
        number = int.from_bytes(entropy[start : start + ENTROPY_BYTES]) % 10**RANDOM_DIGITS
        digits = f"{number:0{RANDOM_DIGITS}}"
        codes.append(f"{digits}{check_digit(digits)}")
    return codes


def check_digit(digits: str) -> int:
    """Return the check digit of a row of digits; of a whole code, with its own check digit, it is 0."""
    interim = 0
    for each in digits:
        interim = _NEXT[interim][ord(each) - 48]
    return interim


def parse_code(typed: str) -> str:
    """Return the code that a person typed: groups in any form, O for 0, I or l for 1, digits of any script.

    Raises `UnknownVoucher`, which says what is wrong with it, without the code.
    """
    if len(typed) > TYPED_CHARACTERS_MAX:
        raise _refusal(_("has {digits} digits", digits=DIGITS))
    digits = ""
    for each in unicodedata.normalize("NFKC", typed).translate(_READ_ALIKE):
        digit = unicodedata.decimal(each, None)
        if digit is not None:
            digits += str(digit)
        elif each not in _BETWEEN and not each.isspace() and unicodedata.category(each) not in ("Pd", "Cf"):
            raise _refusal(_("has {digits} digits, and nothing else", digits=DIGITS))
    if len(digits) != DIGITS:
        raise _refusal(_("has {digits} digits, not {count}", digits=DIGITS, count=len(digits)))
    if check_digit(digits):
        raise _refusal(_("is mistyped: compare each digit with the card"))
    return digits


def format_code(code: str) -> str:
    """Return a code in groups for people."""
    return " ".join(code[start : start + GROUP] for start in range(0, len(code), GROUP))


def hash_code(code: str) -> str:
    """Return the SHA-256 under which the database stores a code."""
    return hashlib.sha256(code.encode()).hexdigest()


def _refusal(what: Text) -> UnknownVoucher:
    return UnknownVoucher(_("the code {what}", what=what))
