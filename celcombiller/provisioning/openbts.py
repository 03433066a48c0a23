"""OpenBTS: the NodeManager of its sipauthserve, JSON over ZeroMQ (REQ/REP).

Facts of that server: it builds its SQL by joining strings, so nothing but digits is sent; it keeps two tables and
writes them one after the other, so an entry can be there by half; it lets an IMSI stand there twice; ``read`` gives
everything, whatever is asked; and ``delete`` and ``update`` say 200 when there was nothing to do it to.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import zmq
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from celcombiller.core.errors import NetworkUnavailable
from celcombiller.core.provisioning.entries import ProvisioningEntry, UnreadableRow, show_row
from celcombiller.core.provisioning.network import NetworkRefused, check_digits, check_imsi
from celcombiller.core.provisioning.seen_phones import SeenPhone, read_age
from celcombiller.provisioning.network_numbers import number_on_network

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""Of the list of all: about 80 bytes a subscriber."""

LOOK_MS = 50
"""How often a thread that waits for an answer looks whether it still should."""

OK, NO_CONTENT, NOT_FOUND = 200, 204, 404


_SPELLED = re.compile(r"(?:IMSI)?([0-9]{6,15})", re.ASCII | re.IGNORECASE)
"""An IMSI as rows have it that others wrote; nothing else of a row is sent back to the network."""

_FIELDS = ("imsi", "name", "msisdn")


class _Answer(msgspec.Struct):
    code: int
    data: Any = None


@dataclass(frozen=True, slots=True)
class NodeManagerList:
    """A list: its entries, the rows that are not as they should be, and IMSIs that are not spelled ``IMSI`` + digits.

    A spelling that is not the usual one is needed to change or to remove its row.
    """

    entries: list[ProvisioningEntry]
    unreadable: list[UnreadableRow]
    spellings: dict[str, set[str]]


class OpenBts:
    """One NodeManager. Each exchange has a socket of its own, in a thread of this network.

    A REQ socket whose answer did not come is of no more use, and one kept open would deliver, when the server comes
    back, what was given up long ago.
    """

    keeps_names = True

    def __init__(
        self, reactor: Any, name: str, host: str, port: int, bts_port: int = 0, *, answer_seconds: float
    ) -> None:
        self._reactor = reactor
        bracketed = f"[{host}]" if ":" in host else host
        self._address = f"tcp://{bracketed}:{port}"
        self._bts_address = f"tcp://{bracketed}:{bts_port}" if bts_port else None
        self._seconds = answer_seconds
        self._threads = ThreadPool(0, 2, f"openbts-{name}")  # a BTS that is away keeps no change waiting
        self._context: zmq.Context[Any] | None = None
        self._ending = threading.Event()
        self.unreadable: Sequence[UnreadableRow] | None = None
        self._spellings: dict[str, set[str]] = {}

    async def read(self, imsis: Collection[str], numbers: Collection[str]) -> list[ProvisioningEntry]:
        """Take from the list of all what is asked for."""
        return [
            each for each in await self.list_all() if each.imsi in imsis or (each.msisdn and each.msisdn in numbers)
        ]

    async def list_all(self) -> list[ProvisioningEntry]:
        """Ask for all."""
        found: NodeManagerList = await self._in_thread(self._list)
        self.unreadable, self._spellings = found.unreadable, found.spellings
        return found.entries

    async def list_seen(self) -> list[SeenPhone]:
        """Ask the BTS itself, which has a NodeManager of its own, for its table of phones."""
        if self._bts_address is None:
            return []
        answer: _Answer = await self._in_thread(self._exchange, {"command": "tmsis"}, self._bts_address)
        return read_seen(answer)

    async def create(self, entry: ProvisioningEntry) -> None:
        """Make an entry, without a key: the phone registers by its IMSI."""
        check_digits(entry)
        await self._in_thread(self._create, entry)

    async def change(self, was: ProvisioningEntry, entry: ProvisioningEntry) -> None:
        """Change the number and the name, which keeps the phone registered; half an entry is deleted and made again."""
        check_digits(entry)
        if was.msisdn == "":
            await self.delete(was.imsi)
            await self.create(entry)
            return
        fields = {"name": entry.name, "msisdn": entry.msisdn}
        for match in self._matches(entry.imsi):
            await self._in_thread(self._done, "update", match=match, fields=fields)

    async def free(self, entry: ProvisioningEntry) -> None:
        """Nothing: two entries may have one number until the second gets its own."""

    async def delete(self, imsi: str) -> None:
        """Remove all of an IMSI, from both tables."""
        check_imsi(imsi)
        for match in self._matches(imsi):
            await self._in_thread(self._done, "delete", match=match)

    async def close(self) -> None:
        """End the exchange that is going on, and the thread."""
        self._ending.set()
        if self._threads.started:
            self._threads.stop()
        if self._context is not None:
            self._context.term()

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if self._ending.is_set():
            raise NetworkUnavailable("the biller stops")
        if not self._threads.started:
            self._threads.start()
        if self._context is None:
            self._context = zmq.Context(io_threads=1)
        return await deferToThreadPool(self._reactor, self._threads, work, *arguments, **named)

    # -- in the thread ----------------------------------------------------------------------------------------------

    def _list(self) -> NodeManagerList:
        answer = self._exchange({"command": "subscribers", "action": "read"})
        if answer.code in (NOT_FOUND, NO_CONTENT):
            return NodeManagerList([], [], {})
        if answer.code != OK:
            raise NetworkUnavailable(f"NodeManager answers {answer.code} to read")
        return read_list(answer.data)

    def _matches(self, imsi: str) -> list[dict[str, str]]:
        """Return what names the rows of an IMSI, in each spelling that they have."""
        return [{"imsi": each} for each in sorted(self._spellings.get(imsi, {f"IMSI{imsi}"}))]

    def _create(self, entry: ProvisioningEntry) -> None:
        fields = {"name": entry.name, "imsi": f"IMSI{entry.imsi}", "msisdn": entry.msisdn, "ki": ""}
        self._done("create", fields=fields)

    def _done(self, action: str, **rest: dict[str, str]) -> None:
        answer = self._exchange({"command": "subscribers", "action": action, **rest})
        if answer.code not in (OK, NO_CONTENT):
            raise NetworkRefused(f"NodeManager answers {answer.code} to {action}")

    def _exchange(self, request: dict[str, Any], address: str = "") -> _Answer:
        address = address or self._address
        assert self._context is not None
        socket: zmq.Socket[bytes] = self._context.socket(zmq.REQ)
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.MAXMSGSIZE, ANSWER_BYTES_MAX)
            socket.connect(address)
            socket.send(msgspec.json.encode(request))
            self._wait(socket, address)
            said = socket.recv(zmq.NOBLOCK)
        except zmq.ZMQError as error:
            raise NetworkUnavailable(f"NodeManager at {address}: {error}") from None
        finally:
            socket.close()
        return decode_answer(said)

    def _wait(self, socket: zmq.Socket[bytes], address: str) -> None:
        ends_at = time.monotonic() + self._seconds
        while not socket.poll(LOOK_MS):
            if self._ending.is_set():
                raise NetworkUnavailable("the biller stops")
            if time.monotonic() > ends_at:
                raise NetworkUnavailable(f"NodeManager at {address} does not answer within {self._seconds} s")


def decode_answer(data: bytes) -> _Answer:
    """Return what NodeManager answers. Raises `NetworkUnavailable` for what is no answer.

    NodeManager does not escape what it puts into its JSON: texts may have control characters, or be no UTF-8. Both are
    read: else a single row would take the whole list along.
    """
    try:
        return msgspec.json.decode(data, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return msgspec.convert(json.loads(data.decode("utf-8", "replace"), strict=False), _Answer)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise NetworkUnavailable(f"NodeManager's answer is not what it should be: {error}") from None


def read_seen(answer: _Answer) -> list[SeenPhone]:
    """Return the phones of a BTS's table. Raises `NetworkUnavailable` for what is no such table."""
    if answer.code != OK or not isinstance(answer.data, list):
        raise NetworkUnavailable(f"the BTS answers {answer.code} to tmsis")
    rows = [each for each in answer.data if isinstance(each, dict)]
    found = ((_SPELLED.fullmatch(_text_of(each.get("IMSI"))), _text_of(each.get("ACCESSED"))) for each in rows)
    return [SeenPhone(spelled[1], read_age(age)) for spelled, age in found if spelled is not None]


def read_list(data: Any) -> NodeManagerList:
    """Return the list that an answer has. Raises `NetworkUnavailable` for what is no list of rows."""
    if not isinstance(data, list):
        raise NetworkUnavailable(f"NodeManager's list cannot be read: it is {show_row(repr(data))}")
    if data and not any(isinstance(row, dict) for row in data):
        raise NetworkUnavailable(f"NodeManager's list cannot be read: it has no rows, but {show_row(repr(data[0]))}")
    found = NodeManagerList([], [], {})
    for row in data:
        _read_row(row, found)
    for imsi in [imsi for imsi, spellings in found.spellings.items() if spellings == {f"IMSI{imsi}"}]:
        del found.spellings[imsi]
    return found


def _read_row(row: Any, found: NodeManagerList) -> None:
    """Add a row to what was found.

    A number counts as its digits, in whatever form it is written, and a text of others as none. A row that has another
    name than an IMSI is of no subscriber, and is left out.
    """
    fields = {name: row.get(name) for name in _FIELDS} if isinstance(row, dict) else {"imsi": None}
    texts = {name: _text_of(value) for name, value in fields.items()}
    spelled = _SPELLED.fullmatch(texts["imsi"])
    imsi = "" if spelled is None else spelled[1]
    if not texts["imsi"] or not all(map(_is_clean, fields.values())):
        found.unreadable.append(UnreadableRow(show_row(json.dumps(row, ensure_ascii=False)), imsi))
    if imsi:
        found.entries.append(ProvisioningEntry(imsi, number_on_network(texts["msisdn"]), texts["name"]))
        found.spellings.setdefault(imsi, set()).add(texts["imsi"])


def _text_of(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**19:
        return str(value)
    return value if isinstance(value, str) else ""


def _is_clean(value: object) -> bool:
    """Return whether a field is a text of characters, or is missing."""
    return value is None or (isinstance(value, str) and value.isprintable() and "\ufffd" not in value)
