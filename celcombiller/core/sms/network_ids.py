"""The forms of a part's id at an SMSC: the one in its response, and the one in a receipt, are often not the same.

SMPP 3.3 gives a hexadecimal number and SMPP 3.4 any text, but the receipt's text has ten decimal digits (3.4, appendix
B). SMSCs also change the case and the zeros in front.
"""

from __future__ import annotations

import re
from enum import IntEnum

ID_CHARACTERS_MAX = 255
"""Of an id that is stored; SMPP 3.4 gives 64 (5.2.23). An index of PostgreSQL refuses rows of more than 2,704 bytes."""

_NUMBER_DIGITS_MAX, _PADDED_DIGITS_MAX = 40, 32
_DECIMAL, _HEXADECIMAL = re.compile("[0-9]+", re.ASCII), re.compile("[0-9a-f]+", re.ASCII)


class Likeness(IntEnum):
    """How alike two ids are; the least is the best."""

    SAME = 0
    OTHER_CASE = 1
    OTHER_ZEROS = 2
    OTHER_BASE = 3


def text_of_id(network_id: bytes) -> str:
    """Return an id as text that can be stored; different ids stay different."""
    return network_id.decode("ascii", "backslashreplace").replace("\0", r"\x00")[:ID_CHARACTERS_MAX]


def compare(one: str, other: str) -> Likeness | None:
    """Return how alike two ids are; ``None`` where they are of different parts."""
    if one == other:
        return Likeness.SAME
    if one.casefold() == other.casefold():
        return Likeness.OTHER_CASE
    first, second = _without_zeros(one), _without_zeros(other)
    if first is None or second is None:
        return None
    if first == second:
        return Likeness.OTHER_ZEROS
    return Likeness.OTHER_BASE if second in _other_bases(first) else None


def forms_of(network_id: str) -> frozenset[str]:
    """Return what may be stored of a part whose id is this: all that `compare` finds alike, in one case or the other.

    An empty id is of no part: AMI gives none, and some SMSCs give none.
    """
    if not network_id:
        return frozenset()
    number = _without_zeros(network_id)
    numbers = {number, *_other_bases(number)} if number is not None else set()
    padded = {each.zfill(size) for each in numbers for size in range(len(each), _PADDED_DIGITS_MAX + 1)}
    return frozenset(form for each in (network_id, *numbers, *padded) for form in (each, each.lower(), each.upper()))


def _without_zeros(network_id: str) -> str | None:
    """Return an id that is a number without its prefix and the zeros in front; ``None`` where it is none."""
    digits = network_id.lower().removeprefix("0x")
    if len(digits) > _NUMBER_DIGITS_MAX or not _HEXADECIMAL.fullmatch(digits):
        return None
    return digits.lstrip("0") or "0"


def _other_bases(number: str) -> set[str]:
    """Return a number as it would be in decimal, if these digits are hexadecimal, and the other way round."""
    others = {str(int(number, 16))}
    if _DECIMAL.fullmatch(number):
        others.add(f"{int(number):x}")
    return others - {number}
