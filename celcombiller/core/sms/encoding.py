"""How a text becomes short messages: which alphabet it needs, how many parts it has, and what each part holds.

3GPP TS 23.038 has the alphabets: a text all of whose characters are in the GSM 7-bit one (6.2.1, with its extension
table, of which each character takes two) has 160 to a message; any other goes as UCS-2, with 70. TS 23.040, 9.2.3.24:
a longer text goes in parts with a header of six bytes, which leaves 153 or 67, and no part may end within a character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from gsm0338 import Codec

from celcombiller.core.errors import InvalidValue

PARTS_MAX = 255
"""The header counts parts in one byte."""

_ESCAPE = b"\x1b"
_HIGH_SURROGATE = range(0xD8, 0xDC)
_REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_GSM = Codec()


class Encoding(StrEnum):
    """The alphabet of a message."""

    GSM7 = "gsm7"
    UCS2 = "ucs2"


_ROOM = {Encoding.GSM7: (160, 153), Encoding.UCS2: (140, 134)}
"""What a message holds alone and as a part: septets, or bytes."""


@dataclass(frozen=True, slots=True)
class Split:
    """A text as it travels: one septet a byte, or UTF-16 in the network's order."""

    encoding: Encoding
    parts: tuple[bytes, ...]


def split(text: str, *, parts_max: int = PARTS_MAX) -> Split:
    """Split a text. Raises `InvalidValue`, which says of the field ``text`` what is wrong with it."""
    if not text:
        raise _invalid("must not be empty")
    if _REFUSED.search(text):
        raise _invalid("must have no control characters but line ends and tabs")
    if len(text) > parts_max * _ROOM[Encoding.GSM7][0]:  # before a text of any length is looked at closely
        raise _too_long(parts_max)
    encoding, data = _encoded(text)
    alone, room = _ROOM[encoding]
    parts = (data,) if len(data) <= alone else tuple(_cut(data, room, encoding))
    if len(parts) > parts_max:
        raise _too_long(parts_max)
    return Split(encoding, parts)


def printable(text: str) -> str:
    """Give a text of somebody else's without the control characters that `split` refuses."""
    return _REFUSED.sub(" ", text)


def _encoded(text: str) -> tuple[Encoding, bytes]:
    try:
        return Encoding.GSM7, _GSM.encode(text)[0]
    except UnicodeEncodeError:
        pass
    try:
        return Encoding.UCS2, text.encode("utf-16-be")
    except UnicodeEncodeError:
        raise _invalid("must have no half of a character (an unpaired surrogate)") from None


def _cut(data: bytes, room: int, encoding: Encoding) -> list[bytes]:
    """Cut what is too long for one message, nowhere within a character."""
    parts = []
    start = 0
    while start < len(data):
        end = start + room
        if end < len(data) and _is_within(data, end, encoding):
            end -= 1 if encoding is Encoding.GSM7 else 2
        parts.append(data[start:end])
        start = end
    return parts


def _is_within(data: bytes, end: int, encoding: Encoding) -> bool:
    if encoding is Encoding.GSM7:
        return data[end - 1 : end] == _ESCAPE
    return data[end - 2] in _HIGH_SURROGATE


def _invalid(what: str) -> InvalidValue:
    return InvalidValue(f"text: {what}", {"text": what})


def _too_long(parts_max: int) -> InvalidValue:
    return _invalid(f"is longer than {parts_max} short messages")
