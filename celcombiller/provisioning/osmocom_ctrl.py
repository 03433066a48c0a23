"""OsmoHLR's control interface as a client sees it: bytes into replies, requests into bytes; and its console's list.

Knows no socket, no clock and no Twisted. The form is that of libosmocore's ``control_cmd.c`` and ``ipa.c``, tried on
osmo-hlr 1.5: a frame is two bytes of length, one of stream (0xEE, with 0x00 for CTRL after it), and text.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celcombiller.core.errors import NetworkUnavailable
from celcombiller.core.provisioning.entries import ProvisioningEntry, UnreadableRow, show_row
from celcombiller.core.provisioning.network import is_imsi
from celcombiller.core.provisioning.seen_phones import read_age
from celcombiller.provisioning.network_numbers import number_on_network

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

EXTENSION_STREAM = 0xEE
CTRL = b"\x00"
"""The first byte of the extension stream's payload: what follows is of the control interface."""

_HEADER = struct.Struct(">HB")
_REPLIES = ("GET_REPLY", "SET_REPLY")
_VARIABLE = re.compile(r"[A-Za-z0-9_.-]{1,200}", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9]{0,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class CtrlReply:
    """The answer to the request of this id: a value, or the reason of a refusal in ``error``."""

    id: str
    value: str = ""
    error: str | None = None


class CtrlDecoder:
    """One connection's bytes into replies; what is not an answer (a TRAP, another stream) is left out."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def receive(self, data: bytes) -> list[CtrlReply]:
        """Take what arrived and return the replies it completes. Raises `NetworkUnavailable` for what is no CTRL."""
        self._rest += data
        done = []
        begin = 0
        while len(self._rest) - begin >= _HEADER.size:
            length, stream = _HEADER.unpack_from(self._rest, begin)
            payload = begin + _HEADER.size
            if len(self._rest) < payload + length:
                break
            begin = payload + length
            text = self._rest[payload:begin]
            if stream == EXTENSION_STREAM and text[:1] == CTRL:
                reply = _reply(text[1:].decode("utf-8", "replace"))
                if reply is not None:
                    done.append(reply)
        del self._rest[:begin]
        return done


def _reply(text: str) -> CtrlReply | None:
    verb, _, rest = text.partition(" ")
    number, _, rest = rest.partition(" ")
    if verb == "ERROR":
        return CtrlReply(number, error=rest.strip() or "no reason given")
    if verb in _REPLIES:
        return CtrlReply(number, rest.partition(" ")[2])
    if verb == "TRAP":
        return None
    raise NetworkUnavailable(f"this is not OsmoHLR's control interface: {text[:40]!r}")


def request(number: int, verb: str, variable: str, value: str = "") -> bytes:
    """Make a request of plain words; nothing that comes from a subscriber can be anything else."""
    if not _VARIABLE.fullmatch(variable) or not _VALUE.fullmatch(value):
        raise ValueError("a control request has letters and digits only")
    payload = CTRL + " ".join(filter(None, (verb, str(number), variable, value))).encode()
    return _HEADER.pack(len(payload), EXTENSION_STREAM) + payload


def entry_of(info: str) -> ProvisioningEntry | None:
    """Read the ``info`` of a subscriber: a line for each field, with a tab after its name.

    ``None`` if it has no IMSI. A number that none can be counts as none: then the subscriber's own is set.
    """
    fields = dict(line.split("\t", 1) for line in info.split("\n") if "\t" in line)
    imsi, msisdn = fields.get("imsi", ""), fields.get("msisdn", "")
    return ProvisioningEntry(imsi, number_on_network(msisdn)) if is_imsi(imsi) else None


# -- the list, which only the console (VTY) has ------------------------------------------------------------------------

LIST_COMMAND = b"show subscribers all\n"  # with CR too it would be two lines
LAST_SEEN_COMMAND = b"show subscribers last-seen\n"
_PROMPT = re.compile(rb"(?:^|[^A-Za-z0-9_.-])[A-Za-z0-9_.-]+[>#] \Z")  # the first one comes behind telnet's options
_TITLES = ["ID", "MSISDN", "IMSI", "IMEI", "NAM"]
_ROW = re.compile(r"[0-9]+ +(none|\+?[0-9]{1,15}) +([0-9]{6,15}) +(?:-+|[0-9]{14,16}) *+(?:CS)?(?:PS)? *", re.ASCII)
_SEEN = re.compile(r"[0-9]+ +\S+ +([0-9]{6,15}) .*\(([0-9dhms]{1,30}) ago\) *", re.ASCII)
_BEGINNING = re.compile(r"[0-9]+ ", re.ASCII)
_TOTAL = re.compile(r" *Subscribers Shown: ([0-9]{1,12})", re.ASCII)
_NOBODY = "% No matching subscriber(s)"


def at_prompt(data: bytes) -> bool:
    """Return whether the console has said all and waits for a command."""
    return _PROMPT.search(data[-80:]) is not None


@dataclass(frozen=True, slots=True)
class ConsoleList:
    """A list: its entries, and the rows that are not as they should be."""

    entries: list[ProvisioningEntry]
    unreadable: list[UnreadableRow]


def listed(data: bytes) -> ConsoleList:
    """Read the console's list of all subscribers: as many rows as it says.

    Raises `NetworkUnavailable` for a list that is not whole: half a list would look like people missing.
    """
    lines = data.decode("ascii", "replace").replace("\r", "").split("\n")
    return _rows(line for line in lines[1:-1] if line.strip())  # the first is the command, the last the prompt


def read_ages(data: bytes) -> dict[str, timedelta | None]:
    """Return how long ago each IMSI was heard of, from the console's list; a version without that list says none."""
    lines = data.decode("ascii", "replace").replace("\r", "").split("\n")
    return {found[1]: read_age(found[2]) for found in map(_SEEN.fullmatch, lines) if found is not None}


def _rows(lines: Iterable[str]) -> ConsoleList:
    found = ConsoleList([], [])
    count = 0
    total: int | None = None
    titled = False
    for line in lines:
        shown = _TOTAL.fullmatch(line)
        if total is not None:
            raise NetworkUnavailable(f"OsmoHLR's list goes on after its end: {line[:60]!r}")
        if line.split() == _TITLES:
            titled = True
        elif line == _NOBODY and not count:
            total = 0
        elif shown is not None:
            total = int(shown.group(1))
        elif titled and _BEGINNING.match(line):
            count += 1
            _read_row(line, found)
        elif line.strip("- "):
            raise NetworkUnavailable(f"OsmoHLR's list has a line that is not understood: {line[:60]!r}")
    if not titled or total != count:
        raise NetworkUnavailable(f"OsmoHLR's list is not whole: {count} lines of {total}")
    return found


def _read_row(line: str, found: ConsoleList) -> None:
    """Add a row: what is odd in its last columns (IMEI, NAM) does not matter to its number and IMSI."""
    _, msisdn, imsi, *_ = (*line.split(), "", "")
    known = is_imsi(imsi)
    if known:
        found.entries.append(ProvisioningEntry(imsi, number_on_network(msisdn)))
    if _ROW.fullmatch(line) is None:
        found.unreadable.append(UnreadableRow(show_row(line.strip()), imsi if known else ""))
