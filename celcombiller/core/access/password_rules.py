"""Which passwords are refused: the common ones, and those that are guessed from a shape or from the person's own data.

NIST SP 800-63B (5.1.1.2) asks for this check and for no rules on kinds of characters. The list is short: it names what
people choose most, in the operators' languages; the shapes cover the many variants. Pure, and fast for any text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from celcombiller.core.errors import InvalidValue

if TYPE_CHECKING:
    from collections.abc import Iterable

PIECE_LEAST = 3
"""Characters of a row or of the alphabet that make a piece; two neighbours occur in any word."""


OTHERS_LEAST = 5
"""Characters that a password needs beside the person's own data."""


UNIT_MOST = 7
"""Characters of a unit that is only repeated; from 8 on, it could be a password of its own."""


LONG = 64
"""From this length on only repetition is looked for: a row or a name does not reach it."""


_ROWS = (
    *("01234567890", "abcdefghijklmnopqrstuvwxyz", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "azertyuiop"),
    *("1qaz", "2wsx", "3edc", "4rfv", "5tgb", "6yhn", "7ujm", "qaz", "wsx", "edc", "!@#$%^&*()", "147", "258", "369"),
)
"""Digits, the alphabet, and the rows and columns of keyboards and keypads."""


_COMMON = frozenset(
    """
    password passw0rd passwort motdepasse contrasena contrasenha senha senhas mudar mudarsenha trocar minhasenha
    mypassword newpassword novasenha default changeme changeit letmein welcome bemvindo bienvenido iloveyou loveyou
    teamo euteamo tequiero
    admin administrator administrador root toor user usuario guest test teste testing login sistema system server
    master manager operator operador asterisk openbts celcom celcombiller telefone telefonia freepbx
    sunshine princess princesa football futebol baseball basketball superman batman starwars pokemon dragon monkey
    shadow michael jennifer jordan trustno1 whatever computer computador internet freedom mustang corvette ferrari
    abc123 a1b2c3 a1b2c3d4 q1w2e3 q1w2e3r4 q1w2e3r4t5 1q2w3e 1q2w3e4r 1q2w3e4r5t zaq12wsx qwe123 asd123
    flamengo corinthians palmeiras vasco gremio internacional cruzeiro santos botafogo fluminense saopaulo brasil brazil
    amazonia familia jesus jesuscristo deusefiel deuseamor deus amor felicidade saudade estrela gabriel
    """.split()  # noqa: SIM905
)
"""What people choose most, here and elsewhere."""


_LEET = str.maketrans("@4301$57!", "aaeoissti")
_DOUBLED = re.compile(r"(.)\1+")
_DATE = re.compile(r"(\d\d?\D?\d\d?\D?)?(19|20)\d\d(\D?\d\d?\D?\d\d?)?")
_TAIL = re.compile(r"[\W\d_]{0,6}$")


def check_password(password: str, own: Iterable[str] = ()) -> None:
    """Raise `InvalidValue` for a password that is among the first to be guessed.

    ``own`` are the username, the name, and the numbers of whoever gets it.
    """
    why = _guessed_by(password.casefold(), [each.casefold() for each in own])
    if why:
        raise InvalidValue(f"password {why}", {"password": why})


def _guessed_by(text: str, own: list[str]) -> str:
    """Return why a password is easily guessed, or nothing."""
    bare = "".join(text.split())
    if len(set(bare)) <= 1 or _period(bare) <= min(UNIT_MOST, len(bare) // 2):
        return "must be more than one character or a few, repeated"
    if len(bare) > LONG:
        return ""
    if _is_in_rows(bare) or _DATE.fullmatch(bare):
        return "must be more than rows of digits, of the alphabet or of the keyboard, and more than a date"
    if _is_common(bare):
        return "must not be among the most common ones"
    words = {"".join(word.split()) for each in own for word in (each, *each.split())}
    left = "" if any(bare in word for word in words) else bare
    for word in sorted(words, key=len, reverse=True):
        left = left.replace(word, "") if len(word) >= PIECE_LEAST else left
    if left != bare and (len(left) < OTHERS_LEAST or _is_in_rows(left) or _is_common(left)):
        return "must be more than the person's own name or numbers"
    return ""


def _is_common(text: str) -> bool:
    """Return whether it is one of the list, also with letters written as digits, or with digits and signs behind it."""
    stems = {text, _TAIL.sub("", text)}
    return not _COMMON.isdisjoint(stems | {each.translate(_LEET) for each in stems})


def _is_in_rows(text: str) -> bool:
    """Return whether it consists of pieces of rows, in either direction, and of repeated characters."""
    return _is_covered(text) or _is_covered(_DOUBLED.sub(r"\1", text))


def _is_covered(text: str) -> bool:
    reached = {0}
    for end in range(PIECE_LEAST, len(text) + 1):
        if any(start in reached and _is_piece(text[start:end]) for start in range(max(0, end - 26), end - 2)):
            reached.add(end)
    return len(text) in reached


def _is_piece(piece: str) -> bool:
    return len(set(piece)) == 1 or any(piece in row or piece[::-1] in row for row in _ROWS)


def _period(text: str) -> int:
    """Return the length of the shortest unit that the text repeats, cut off anywhere at its end."""
    return next(size for size in range(1, len(text) + 1) if text.startswith(text[size:]))
