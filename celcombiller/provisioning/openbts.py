"""OpenBTS: the NodeManager of its sipauthserve, JSON over ZeroMQ (REQ/REP).

Facts of that server: it builds its SQL by joining strings, so nothing but digits is sent; it keeps two tables and
writes them one after the other, so an entry can be there by half; it lets an IMSI stand there twice; ``read`` gives
everything, whatever is asked; and ``delete`` and ``update`` say 200 when there was nothing to do it to.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import zmq
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from celcombiller.core.errors import NetworkUnavailable
from celcombiller.core.provisioning.entries import ProvisioningEntry
from celcombiller.core.provisioning.network import NetworkRefused, check_digits, check_imsi, is_imsi, is_msisdn

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""Of the list of all: about 80 bytes a subscriber."""

LOOK_MS = 50
"""How often a thread that waits for an answer looks whether it still should."""

OK, NO_CONTENT, NOT_FOUND = 200, 204, 404


class _Known(msgspec.Struct):
    imsi: str | None = None
    name: str | None = None
    msisdn: str | None = None


class _Answer(msgspec.Struct):
    code: int
    data: msgspec.Raw = msgspec.Raw()


class OpenBts:
    """One NodeManager. Each exchange has a socket of its own, in the one thread of this network.

    A REQ socket whose answer did not come is of no more use, and one kept open would deliver, when the server comes
    back, what was given up long ago.
    """

    keeps_names = True

    def __init__(self, reactor: Any, name: str, host: str, port: int, *, answer_seconds: float) -> None:
        self._reactor = reactor
        bracketed = f"[{host}]" if ":" in host else host
        self._address = f"tcp://{bracketed}:{port}"
        self._seconds = answer_seconds
        self._threads = ThreadPool(0, 1, f"openbts-{name}")
        self._context: zmq.Context[Any] | None = None
        self._ending = threading.Event()

    async def read(self, imsis: Collection[str], numbers: Collection[str]) -> list[ProvisioningEntry]:
        """Take from the list of all what is asked for."""
        return [
            each for each in await self.list_all() if each.imsi in imsis or (each.msisdn and each.msisdn in numbers)
        ]

    async def list_all(self) -> list[ProvisioningEntry]:
        """Ask for all."""
        entries: list[ProvisioningEntry] = await self._in_thread(self._list)
        return entries

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
        await self._in_thread(
            self._done, "update", match=_match(entry.imsi), fields={"name": entry.name, "msisdn": entry.msisdn}
        )

    async def free(self, entry: ProvisioningEntry) -> None:
        """Nothing: two entries may have one number until the second gets its own."""

    async def delete(self, imsi: str) -> None:
        """Remove all of an IMSI, from both tables."""
        check_imsi(imsi)
        await self._in_thread(self._done, "delete", match=_match(imsi))

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
        return await deferToThreadPool(self._reactor, self._threads, work, *arguments, **named)

    # -- in the thread ----------------------------------------------------------------------------------------------

    def _list(self) -> list[ProvisioningEntry]:
        answer = self._exchange({"command": "subscribers", "action": "read"})
        if answer.code in (NOT_FOUND, NO_CONTENT):
            return []
        if answer.code != OK:
            raise NetworkUnavailable(f"NodeManager answers {answer.code} to read")
        return decode_list(answer.data)

    def _create(self, entry: ProvisioningEntry) -> None:
        fields = {"name": entry.name, "imsi": f"IMSI{entry.imsi}", "msisdn": entry.msisdn, "ki": ""}
        self._done("create", fields=fields)

    def _done(self, action: str, **rest: dict[str, str]) -> None:
        answer = self._exchange({"command": "subscribers", "action": action, **rest})
        if answer.code not in (OK, NO_CONTENT):
            raise NetworkRefused(f"NodeManager answers {answer.code} to {action}")

    def _exchange(self, request: dict[str, Any]) -> _Answer:
        if self._context is None:
            self._context = zmq.Context(io_threads=1)
        socket: zmq.Socket[bytes] = self._context.socket(zmq.REQ)
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.MAXMSGSIZE, ANSWER_BYTES_MAX)
            socket.connect(self._address)
            socket.send(msgspec.json.encode(request))
            self._wait(socket)
            said = socket.recv(zmq.NOBLOCK)
        except zmq.ZMQError as error:
            raise NetworkUnavailable(f"NodeManager at {self._address}: {error}") from None
        finally:
            socket.close()
        return decode_answer(said)

    def _wait(self, socket: zmq.Socket[bytes]) -> None:
        ends_at = time.monotonic() + self._seconds
        while not socket.poll(LOOK_MS):
            if self._ending.is_set():
                raise NetworkUnavailable("the biller stops")
            if time.monotonic() > ends_at:
                raise NetworkUnavailable(f"NodeManager at {self._address} does not answer within {self._seconds} s")


def decode_answer(data: bytes) -> _Answer:
    """Return what NodeManager answers. Raises `NetworkUnavailable` for what is no answer."""
    try:
        return msgspec.json.decode(data, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NetworkUnavailable(f"NodeManager's answer is not what it should be: {error}") from None


def decode_list(data: bytes | msgspec.Raw) -> list[ProvisioningEntry]:
    """Return the entries of NodeManager's list. Raises `NetworkUnavailable` for what is no list."""
    try:
        rows = msgspec.json.decode(data, type=list[_Known])
    except msgspec.DecodeError as error:
        raise NetworkUnavailable(f"NodeManager's list cannot be read: {error}") from None
    return [entry for row in rows if (entry := _entry_of(row)) is not None]


def _match(imsi: str) -> dict[str, str]:
    return {"imsi": f"IMSI{imsi}"}


def _entry_of(row: _Known) -> ProvisioningEntry | None:
    """Read one row; ``None`` for one that no subscriber of the biller's could ever be."""
    imsi = (row.imsi or "").removeprefix("IMSI")
    if not is_imsi(imsi):
        return None
    number = row.msisdn or ""
    return ProvisioningEntry(imsi, number if is_msisdn(number) else "", row.name or "")
