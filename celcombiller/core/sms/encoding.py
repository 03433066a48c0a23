"""Split a text into short messages: the alphabet it needs, the number of its parts, and their contents.

3GPP TS 23.038: a text whose characters are all in the GSM 7-bit alphabet (6.2.1; those of its extension table take two
septets) has room for 160 in a message; any other text is sent as UCS-2, with room for 70. TS 23.040, 9.2.3.24: a longer
text is sent in parts with a header of six bytes, which leaves 153 or 67; no part may end within a character.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from gsm0338 import Codec

from celcombiller.core.errors import InvalidValue

PARTS_MAX = 255
"""The header counts parts in one byte."""

_ESCAPE = b"\x1b"
_HIGH_SURROGATE = range(0xD8, 0xDC)
_REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_GSM = Codec()


class Encoding(StrEnum):
    """The alphabet of a message."""

    GSM7 = "gsm7"
    UCS2 = "ucs2"


class DefaultAlphabet(StrEnum):
    """What an SMSC takes data_coding 0 for: SMPP 3.4 (5.2.19) leaves it to the SMSC."""

    GSM = "gsm"
    LATIN1 = "latin1"
    ASCII = "ascii"

    @property
    def codec(self) -> str:
        """The name of Python's codec; for GSM there is none."""
        return self.value


_ROOM = {Encoding.GSM7: (160, 153), Encoding.UCS2: (140, 134)}
"""What one message and one part of a longer message hold: septets, or bytes."""


@dataclass(frozen=True, slots=True)
class Split:
    """A text as it is sent: one character of the default alphabet a byte, or UTF-16 in network byte order."""

    encoding: Encoding
    parts: tuple[bytes, ...]


def split(text: str, *, parts_max: int = PARTS_MAX, alphabet: DefaultAlphabet = DefaultAlphabet.GSM) -> Split:
    """Split a text into parts. Raises `InvalidValue` of the field ``text``.

    The radio network carries septets, whatever ``alphabet`` the SMSC takes them from; a character that this alphabet
    does not have makes the text UCS-2.
    """
    if not text:
        raise _invalid("must not be empty")
    if _REFUSED.search(text):
        raise _invalid("must have no control characters but line ends and tabs")
    if len(text) > parts_max * _ROOM[Encoding.GSM7][0]:  # before encoding a text of any length
        raise _too_long(parts_max)
    encoding, data = _encoded(text, alphabet)
    alone, room = _ROOM[encoding]
    parts = (data,) if len(data) <= alone else tuple(_cut(data, room, encoding))
    if len(parts) > parts_max:
        raise _too_long(parts_max)
    if encoding is Encoding.GSM7 and alphabet is not DefaultAlphabet.GSM:
        parts = tuple(_GSM.decode(each)[0].encode(alphabet.codec) for each in parts)
    return Split(encoding, parts)


def leave_out_accents(text: str, alphabet: DefaultAlphabet = DefaultAlphabet.GSM) -> str:
    """Return a text without the accents that would make it UCS-2; as it is, where it is UCS-2 all the same.

    The GSM alphabet has é, à, è, ñ and ü, but not á, í, ó, ú, ã, õ and ç.
    """
    plain = "".join(each if _is_in(each, alphabet) else _base_of(each) for each in unicodedata.normalize("NFC", text))
    return plain if _is_in(plain, alphabet) else text


def printable(text: str) -> str:
    """Return a foreign text without what `split` refuses: control characters, and halves of characters."""
    return _UNPRINTABLE.sub(" ", text)


def _encoded(text: str, alphabet: DefaultAlphabet) -> tuple[Encoding, bytes]:
    try:
        if alphabet is not DefaultAlphabet.GSM:
            text.encode(alphabet.codec)
        return Encoding.GSM7, _GSM.encode(text)[0]
    except UnicodeEncodeError:
        pass
    try:
        return Encoding.UCS2, text.encode("utf-16-be")
    except UnicodeEncodeError:
        raise _invalid("must have no half of a character (an unpaired surrogate)") from None


def _is_in(text: str, alphabet: DefaultAlphabet) -> bool:
    try:
        return _encoded(text, alphabet)[0] is Encoding.GSM7
    except InvalidValue:
        return False


def _base_of(character: str) -> str:
    return "".join(each for each in unicodedata.normalize("NFD", character) if not unicodedata.combining(each))


def _cut(data: bytes, room: int, encoding: Encoding) -> list[bytes]:
    """Cut a text that is too long for one message, never within a character."""
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
