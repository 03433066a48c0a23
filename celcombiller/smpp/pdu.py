"""Read the PDUs that an SMSC sends (SMPP 3.3, 3.4 and 5.0), whatever optional parameters they have.

smpplib writes our PDUs. It is not the reader, because it refuses a PDU for one optional parameter that it does not
expect there, or of another size than it expects. This reader refuses nothing but a length that cannot be one: a field
that is missing is zero or empty, a field that is cut is as long as what there is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from smpplib import consts
from smpplib.command_codes import commands

from celcombiller.core.errors import BillerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HEADER = struct.Struct(">LLLL")
_TLV = struct.Struct(">HH")

PDU_BYTES_MAX = 1 << 20
"""One optional parameter has up to 65,535 bytes (3.2.4.1), and a PDU several."""

ADDRESS_BYTES_MAX = 64
"""Of an address that is read: what SMPP 3.4 gives it in a data_sm (4.7.1); a deliver_sm has 20."""

RESPONSE = 0x80000000
"""The bit of the command id that makes a PDU a response (5.1.2.1)."""

STATUS_OK: int = consts.SMPP_ESME_ROK

_COMMANDS: dict[int, str] = {number: name for name, number in commands.items()}
_STRING, _OCTET, _TEXT = range(3)
_ADDRESSES = (
    *((None, _STRING), (None, _OCTET), (None, _OCTET), ("source_addr", _STRING)),
    *((None, _OCTET), (None, _OCTET), ("destination_addr", _STRING), ("esm_class", _OCTET)),
)
_FIELDS: dict[str, tuple[tuple[str | None, int], ...]] = {
    "deliver_sm": (
        *(*_ADDRESSES, (None, _OCTET), (None, _OCTET), (None, _STRING), (None, _STRING), (None, _OCTET)),
        *((None, _OCTET), ("data_coding", _OCTET), (None, _OCTET), ("short_message", _TEXT)),
    ),
    "data_sm": (*_ADDRESSES, (None, _OCTET), ("data_coding", _OCTET)),
    "submit_sm_resp": (("message_id", _STRING),),
}
"""The fields of a command before its optional parameters (4.4.2, 4.6.1, 4.7.1); those without a name are skipped."""


class BrokenStream(BillerError):
    """The bytes are no PDUs, and no later PDU can be found among them."""

    code = "SMPP"


@dataclass(frozen=True, slots=True)
class Pdu:
    """A PDU as it was sent. ``is_cut``: it ends within a field. ``parameters`` are the optional ones, by tag."""

    command_id: int
    status: int = STATUS_OK
    sequence: int = 0
    source_addr: bytes = b""
    destination_addr: bytes = b""
    esm_class: int = 0
    data_coding: int = 0
    short_message: bytes = b""
    message_id: bytes = b""
    parameters: Mapping[int, bytes] = field(default_factory=lambda: MappingProxyType({}))
    is_cut: bool = False

    @property
    def command(self) -> str:
        """The name of the command, or its number where it has no name."""
        return command_name(self.command_id)

    @property
    def is_response(self) -> bool:
        """Whether it answers a PDU of ours."""
        return bool(self.command_id & RESPONSE)

    @property
    def reason(self) -> str:
        """What the status says, in words and as a number."""
        return f"{consts.DESCRIPTIONS.get(self.status, 'a status of its own')} (0x{self.status:x})"

    @property
    def sender(self) -> str:
        """The address that it is from."""
        return self.source_addr[:ADDRESS_BYTES_MAX].decode("ascii", "replace")

    @property
    def recipient(self) -> str:
        """The address that it is for."""
        return self.destination_addr[:ADDRESS_BYTES_MAX].decode("ascii", "replace")

    @property
    def text(self) -> bytes:
        """The text, from where the SMSC put it: ``short_message`` or the parameter ``message_payload`` (5.3.2.32)."""
        return self.short_message or self.parameters.get(consts.OPTIONAL_PARAMS["message_payload"], b"")

    def string(self, name: str) -> bytes:
        """Return an optional parameter up to its terminating NUL; empty where it is missing."""
        return self.parameters.get(consts.OPTIONAL_PARAMS[name], b"").split(b"\0", 1)[0]

    def number(self, name: str) -> int | None:
        """Return an optional parameter that is a number, in as many bytes as it has; ``None`` where it is missing."""
        value = self.parameters.get(consts.OPTIONAL_PARAMS[name], b"")
        return int.from_bytes(value[:8], "big") if value else None


def take_pdus(received: bytearray) -> Iterator[Pdu]:
    """Yield the PDUs that are whole and remove them. Raises `BrokenStream`."""
    at = 0
    try:
        while len(received) - at >= HEADER.size:
            length = int.from_bytes(received[at : at + 4], "big")
            if not HEADER.size <= length <= PDU_BYTES_MAX:
                raise BrokenStream(f"a PDU of {length} bytes")
            if len(received) - at < length:
                return
            at += length
            yield read_pdu(bytes(received[at - length : at]))
    finally:
        del received[:at]


def read_pdu(raw: bytes) -> Pdu:
    """Return a PDU of at least a header; it never fails."""
    _, command_id, status, sequence = HEADER.unpack_from(raw)
    values: dict[str, Any] = {}
    at = HEADER.size
    for name, kind in _FIELDS.get(command_name(command_id), ()):
        value: Any
        if kind == _STRING:
            end = raw.find(b"\0", at)
            value, at = (raw[at:end], end + 1) if end >= 0 else (raw[at:], len(raw) + 1)
        else:
            value, at = (raw[at] if at < len(raw) else 0), at + 1
        if kind == _TEXT:
            size = value
            value, at = raw[at : at + size], at + size
        if name is not None:
            values[name] = value
    return Pdu(command_id, status, sequence, **values, parameters=_read_parameters(raw, at), is_cut=at > len(raw))


def command_name(command_id: int) -> str:
    """Return the name of a command, or its number where it has no name."""
    return _COMMANDS.get(command_id, f"0x{command_id:08x}")


def _read_parameters(raw: bytes, at: int) -> Mapping[int, bytes]:
    """Return the optional parameters (3.2.4); of those with one tag the first counts."""
    parameters: dict[int, bytes] = {}
    while at + _TLV.size <= len(raw):
        tag, length = _TLV.unpack_from(raw, at)
        at += _TLV.size
        parameters.setdefault(tag, raw[at : at + length])
        at += length
    return MappingProxyType(parameters)
