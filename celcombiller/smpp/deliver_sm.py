"""Messages that a message centre brings from phones elsewhere: what a deliver_sm says, as text.

Of a message in parts each part comes as a deliver_sm of its own, and is a message of its own here. What is no text
(pictures, settings of a phone, classes of data) is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gsm0338 import Codec
from smpplib import consts

from celcombiller.core.data.accounting_reports import key_of
from celcombiller.core.errors import InvalidValue
from celcombiller.core.sms.encoding import printable
from celcombiller.core.sms.inbound_message import InboundMessage

if TYPE_CHECKING:
    from collections.abc import Callable

_HAS_HEADER: int = consts.SMPP_GSMFEAT_UDHI
_PARTS_ONLY = frozenset({0x00, 0x08})
"""What a header may have of a part of a text (TS 23.040, 9.2.3.24): the parts, counted in one byte or in two."""

_NUMBER, _SENDER = re.compile(r"\+?[0-9]{1,20}"), re.compile(r"[^A-Za-z0-9+*#]")
_SENDER_CHARACTERS_MAX = 20
_NOBODY = "unknown"

_ALPHABETS: dict[int, Callable[[bytes], str]] = {
    consts.SMPP_ENCODING_DEFAULT: lambda data: str(Codec().decode(data, errors="replace")[0]),
    consts.SMPP_ENCODING_IA5: lambda data: data.decode("ascii", "replace"),
    consts.SMPP_ENCODING_ISO88591: lambda data: data.decode("latin-1"),
    consts.SMPP_ENCODING_ISO88595: lambda data: data.decode("iso8859-5", "replace"),
    consts.SMPP_ENCODING_ISO88598: lambda data: data.decode("iso8859-8", "replace"),
    consts.SMPP_ENCODING_ISO10646: lambda data: data.decode("utf-16-be", "replace"),
}
"""By data_coding (SMPP 3.4, 5.2.19); the default one is taken to be GSM's, as it is for what goes there."""

_OWN_IDS = ("receipted_message_id", "user_message_reference", "sar_msg_ref_num", "sar_segment_seqnum")
"""Where a centre may number its messages; SMPP 3.4 has no field of that for a deliver_sm."""


def inbound_from_pdu(pdu: Any) -> InboundMessage:
    """Read a message. Raises `InvalidValue` when it is no text."""
    source, destination = (_shown(each) for each in (pdu.source_addr, pdu.destination_addr))
    data, coding, kind = pdu.short_message or pdu.message_payload or b"", pdu.data_coding or 0, pdu.esm_class or 0
    alphabet = _ALPHABETS.get(coding)
    if alphabet is None:
        raise InvalidValue(f"it is no text (data_coding {coding})")
    text = alphabet(_without_header(data) if kind & _HAS_HEADER else data)
    ids = [str(getattr(pdu, name, None)) for name in _OWN_IDS]
    return InboundMessage(
        key=key_of(source, destination, str(coding), str(kind), data.hex(), *ids),
        from_number=_SENDER.sub("", source)[:_SENDER_CHARACTERS_MAX] or _NOBODY,
        to_number=destination if _NUMBER.fullmatch(destination) else "",
        text=printable(text),
    )


def _shown(address: bytes | None) -> str:
    return (address or b"").decode("ascii", "replace")


def _without_header(data: bytes) -> bytes:
    """Return the text after its header, whose elements have each a kind and a length."""
    header, rest = data[1 : 1 + data[:1][0]] if data else b"", data[1 + data[0] :] if data else b""
    while header:
        if header[0] not in _PARTS_ONLY or len(header) < 2 or len(header) < 2 + header[1]:  # noqa: PLR2004  kind, length
            raise InvalidValue("it is no text, or its header is broken")
        header = header[2 + header[1] :]
    return rest
