"""Read the text of a message: its user data header (3GPP TS 23.040) and its alphabet (SMPP 3.4, TS 23.038)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from gsm0338 import Codec
from smpplib.consts import OPTIONAL_PARAMS

from celcombiller.core.errors import InvalidValue
from celcombiller.core.sms.encoding import DefaultAlphabet

if TYPE_CHECKING:
    from collections.abc import Callable

    from celcombiller.smpp.pdu import Pdu

HAS_HEADER = 0x40
"""Of the esm_class: the text begins with a header (SMPP 3.4, 5.2.12)."""

_PORTS = frozenset({0x04, 0x05})
"""Elements that address a program in the phone (TS 23.040, 9.2.3.24.3 and 4): what follows is not for people."""

_PLACES = {0x00: 3, 0x08: 4}
"""Elements that say which part of a message this is, with their lengths: a reference of 8 or 16 bits, total, number."""

_BY_PARAMETERS = -1
_SAR = ("sar_msg_ref_num", "sar_total_segments", "sar_segment_seqnum")


class MessagePlace(NamedTuple):
    """Part ``number`` of ``total`` of the message with a ``reference``, by an element of this ``kind``."""

    kind: int
    reference: int
    total: int
    number: int


_UCS2 = "utf-16-be"
_SMPP_CODECS = {
    0x01: "ascii",
    0x03: "latin-1",
    0x05: "shift_jis",
    0x06: "iso8859-5",
    0x07: "iso8859-8",
    0x08: _UCS2,
    0x0A: "iso2022_jp",
    0x0D: "iso2022_jp_1",
    0x0E: "euc_kr",
}
"""The alphabets of data_coding below 0x10 (SMPP 3.4, 5.2.19)."""
_SMPP_OCTETS = frozenset({0x02, 0x04, 0x09})
_GROUP_RESERVED, _GROUP_STORE_UCS2, _GROUP_CLASS = 0x08, 0x0E, 0x0F
"""The first four bits (TS 23.038, section 4): from here reserved; an indication with UCS-2; a class with one bit."""
_COMPRESSED, _OCTETS, _ALPHABET_UCS2 = 0x20, 0x04, 0x08
"""The bits of the general groups, 00xx and 01xx."""


def read_text(pdu: Pdu, default_alphabet: DefaultAlphabet) -> str:
    """Return the text. Raises `InvalidValue` where it is none, or its header is broken."""
    decode = decoder_of(pdu.data_coding, default_alphabet)
    return decode(read_payload(pdu))


def read_payload(pdu: Pdu) -> bytes:
    """Return the text as octets, without its header. Raises `InvalidValue` where that is broken, or it is no text."""
    return without_header(pdu.text) if pdu.esm_class & HAS_HEADER else pdu.text


def find_place(pdu: Pdu) -> MessagePlace | None:
    """Return of which message a PDU is which part; ``None``: it is a message of its own.

    Its header says it (TS 23.040, 9.2.3.24.1 and 8), or optional parameters do (SMPP 3.4, 5.3.2.22 to 24). A place
    that cannot be counts as none, as a phone ignores it. The last element of a header counts.
    """
    places = [
        MessagePlace(identifier, int.from_bytes(value[:-2]), value[-2], value[-1])
        for identifier, value in (_list_elements(pdu.text) if pdu.esm_class & HAS_HEADER else ())
        if len(value) == _PLACES.get(identifier)
    ]
    reference, total, number = (pdu.parameters.get(OPTIONAL_PARAMS[name], b"") for name in _SAR)
    if not places and (len(reference), len(total), len(number)) == (2, 1, 1):
        places.append(MessagePlace(_BY_PARAMETERS, int.from_bytes(reference), total[0], number[0]))
    return places[-1] if places and 1 <= places[-1].number <= places[-1].total > 1 else None


def decoder_of(data_coding: int, default_alphabet: DefaultAlphabet) -> Callable[[bytes], str]:
    """Return what decodes a text of this data_coding. Raises `InvalidValue` where it is no text.

    Below 0x10 the values are SMPP's own, above they are the groups of TS 23.038, section 4. What is reserved there is
    read in the default alphabet, as it says.
    """
    group = data_coding >> 4
    if group == 0 and data_coding not in _SMPP_OCTETS:
        codec = _SMPP_CODECS.get(data_coding)
        return default_decoder(default_alphabet) if codec is None else partial(_decode, codec)
    if group >= _GROUP_RESERVED:
        is_text = group != _GROUP_CLASS or not data_coding & _OCTETS
        is_ucs2 = group == _GROUP_STORE_UCS2
    else:
        alphabet = data_coding & (_OCTETS | _ALPHABET_UCS2)
        is_text = group != 0 and alphabet != _OCTETS and not data_coding & _COMPRESSED
        is_ucs2 = alphabet == _ALPHABET_UCS2
    if not is_text:
        raise InvalidValue(f"it is no text (data_coding {data_coding})")
    return partial(_decode, _UCS2) if is_ucs2 else decode_gsm


def default_decoder(default_alphabet: DefaultAlphabet) -> Callable[[bytes], str]:
    """Return what decodes a text of data_coding 0, which each SMSC defines for itself."""
    if default_alphabet is DefaultAlphabet.GSM:
        return decode_gsm
    return partial(_decode, default_alphabet.codec)


def _decode(codec: str, data: bytes) -> str:
    return data.decode(codec, "replace")


def decode_gsm(data: bytes) -> str:
    """Return a text of the GSM alphabet, one septet a byte."""
    return str(Codec().decode(data, errors="replace")[0])


def without_header(data: bytes) -> bytes:
    """Return the text after its header. Raises `InvalidValue` where it is broken, or says that this is no text.

    A phone ignores elements that it does not know (TS 23.040, 9.2.3.24), and so does this.
    """
    if any(identifier in _PORTS for identifier, _ in _list_elements(data)):
        raise InvalidValue("it is no text, but for a program in the phone")
    return data[1 + data[0] :]


def _list_elements(data: bytes) -> list[tuple[int, bytes]]:
    """Return the elements of a header: their identifiers and values. Raises `InvalidValue` where it is broken."""
    size = data[0] if data else 0
    header = data[1 : 1 + size]
    elements, at = [], 0
    while at + 2 <= len(header) and at + 2 + header[at + 1] <= len(header):
        end = at + 2 + header[at + 1]
        elements.append((header[at], header[at + 2 : end]))
        at = end
    if at != len(header) or size != len(header) or not data:
        raise InvalidValue("it is no text: its header is broken")
    return elements
