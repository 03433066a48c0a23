"""The file of the journal: lines that are durable before anything follows from them, shared by several processes.

Whoever reads or appends has the lock of the file. What another process appended meanwhile is read first, so all know
the same. A line is on the disk (fsync) before `JournalFile.change` returns; where that fails the file is cut back to
what it was. When nothing waits any more, the file is emptied, and gets another number in its first line.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec

from celcombiller.asterisk.outage.journal_entries import JournalEntries, text_of_line
from celcombiller.core.errors import BillerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from celcombiller.asterisk.outage.journal_entries import Line

VERSION = 1
"""Of what the lines mean. A file of another version is not touched."""

OWNER_ONLY = 0o600
LOCK_SECONDS = 1.0
"""How long to wait for another process that has the lock: it writes a few lines."""

_HEADER_BYTES = 256
_LOOK_SECONDS = 0.01
_FIRST = b'{"journal":"celcombiller"'


class JournalFault(BillerError):
    """The journal cannot be used: nothing may go without the ledger."""


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """The first line: whose the file is. ``number`` is another one each time that the file is emptied."""

    journal: str
    version: int
    ledger: str
    number: int


class JournalFile:
    """The journal at ``path`` of the calls that a ledger of this name will charge. Not for several threads."""

    def __init__(self, path: Path, ledger: str) -> None:
        self.path = path
        self._ledger = ledger
        self._handle = -1
        self._number = -1
        self._read_to = 0
        self.entries = JournalEntries()

    def change(self, works: Sequence[Callable[[JournalEntries], tuple[Sequence[Line], Any]]]) -> list[Any]:
        """Do each of ``works`` on what waits, then make the lines that they return durable; return their results.

        A `BillerError` that one raises is its result, and changes nothing. Raises `JournalFault`; then nothing has
        changed at all.
        """
        results: list[Any] = []
        text = b""
        try:
            self._open()
            self._lock()
            try:
                self._catch_up()
                for work in works:
                    try:
                        lines, result = work(self.entries)
                    except BillerError as refusal:
                        results.append(refusal)
                        continue
                    for each in lines:
                        self.entries.apply(each)
                    text += b"".join(map(text_of_line, lines))
                    results.append(result)
                self._append(text)
            finally:
                fcntl.flock(self._handle, fcntl.LOCK_UN)
        except OSError as error:
            self._forget()
            raise JournalFault(f"{self.path}: {error.strerror or error}") from None
        except BaseException:
            self._forget()
            raise
        return results

    def read(self) -> JournalEntries:
        """Return what waits, from a file that may be of another user's; nothing in it is changed.

        Raises `JournalFault`.
        """
        try:
            self._handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            size = os.fstat(self._handle).st_size
            if size >= _HEADER_BYTES:
                self._read_header()
                for line in _read_at(self._handle, size - _HEADER_BYTES, _HEADER_BYTES).split(b"\n"):
                    self.entries.read(line)
        except OSError as error:
            raise JournalFault(f"{self.path}: {error.strerror or error}") from None
        return self.entries

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _open(self) -> None:
        """Open the file, and again where another one has its name."""
        if self._handle >= 0:
            try:
                is_same = os.path.samestat(os.fstat(self._handle), self.path.stat())
            except FileNotFoundError:
                is_same = False
            if is_same:
                return
            self._forget()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        is_new = not self.path.exists()
        self._handle = os.open(self.path, flags, OWNER_ONLY)
        if is_new:
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _lock(self) -> None:
        ends_at = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > ends_at:
                    raise OSError(errno.EAGAIN, f"another process has had its lock for {LOCK_SECONDS} s") from None
                time.sleep(_LOOK_SECONDS)
            else:
                return

    def _catch_up(self) -> None:
        """Read what was appended since; all, where the file was emptied meanwhile. Cut off a torn last line."""
        size = os.fstat(self._handle).st_size
        if size < _HEADER_BYTES:
            begun = _read_at(self._handle, size, 0)
            if begun[: len(_FIRST)] != _FIRST[:size] and begun.strip(b"\0"):
                raise JournalFault(f"{self.path}: is no journal of this program: move it away")
            self._begin()
            return
        header = self._read_header()
        if header.number != self._number or size < self._read_to:
            self._number, self._read_to, self.entries = header.number, _HEADER_BYTES, JournalEntries()
        if size == self._read_to:
            return
        text = _read_at(self._handle, size - self._read_to, self._read_to)
        whole, _, torn = text.rpartition(b"\n")
        for line in whole.split(b"\n"):
            self.entries.read(line)
        self._read_to = size - len(torn)
        if torn:  # a process died while it wrote this: its lock is ours, so it writes no more
            self.entries.torn += 1
            os.ftruncate(self._handle, self._read_to)

    def _read_header(self) -> Header:
        text = _read_at(self._handle, _HEADER_BYTES, 0)
        try:
            header = msgspec.json.decode(text.strip(), type=Header)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise JournalFault(f"{self.path}: is no journal of this program: move it away") from None
        if header.journal != "celcombiller" or header.version != VERSION:
            raise JournalFault(
                f"{self.path}: is of version {header.version}, and this program reads version {VERSION}: start the"
                " program that wrote it, so that it charges what is in there, or move the file away"
            )
        if header.ledger != self._ledger:
            raise JournalFault(
                f"{self.path}: is of the database {header.ledger}, not of {self._ledger}: set calls.journal to another"
                " file for each database, or move this one away"
            )
        return header

    def _begin(self) -> None:
        """Empty the file but for its first line."""
        number = int.from_bytes(os.urandom(6))
        header = msgspec.json.encode(Header("celcombiller", VERSION, self._ledger, number))
        os.ftruncate(self._handle, 0)
        _write_at(self._handle, header.ljust(_HEADER_BYTES - 1) + b"\n", 0)
        os.fsync(self._handle)
        self._number, self._read_to, self.entries = number, _HEADER_BYTES, JournalEntries()

    def _append(self, text: bytes) -> None:
        if not text:
            return
        before = self._read_to
        try:
            _write_at(self._handle, text, before)
            os.fsync(self._handle)
        except OSError:
            os.ftruncate(self._handle, before)
            raise
        self._read_to = before + len(text)
        if not self.entries:
            self._begin()

    def _forget(self) -> None:
        """Read all again the next time."""
        self.close()
        self._number, self._read_to, self.entries = -1, 0, JournalEntries()


def _write_at(handle: int, text: bytes, place: int) -> None:
    while text:
        written = os.pwrite(handle, text, place)
        text, place = text[written:], place + written


def _read_at(handle: int, size: int, place: int) -> bytes:
    parts = []
    while size > 0:
        part = os.pread(handle, size, place)
        if not part:
            break
        parts.append(part)
        size, place = size - len(part), place + len(part)
    return b"".join(parts)
