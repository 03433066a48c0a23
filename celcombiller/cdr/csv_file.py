"""A file of CSV: Master.csv of cdr_csv, with or without its optional columns, or any with a header (cdr_custom).

A record is read by itself, so that one that is broken hides no other. A quoted value may go on in the next lines.
A file that is written is read up to its last whole line. It may be renamed or truncated by logrotate meanwhile: then
the rest of what was written before is looked for in the files beside it.
"""

from __future__ import annotations

import csv
import hashlib
import os
from typing import TYPE_CHECKING, Any, BinaryIO

from celcombiller.cdr.columns import CdrColumns, CdrError, name_csv_columns
from celcombiller.cdr.source import Reading, SourceRow
from celcombiller.core.errors import InvalidValue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, tzinfo
    from pathlib import Path

    from celcombiller.cdr.source import Place
    from celcombiller.core.reconciliation.cdr import CdrRow

LINE_BYTES_MAX = 64 * 1024
LINES_OF_A_ROW_MAX = 20
"""Lines that one record may have, because of line feeds in its values."""
HEAD_BYTES = 512
"""The beginning of a file by which it is known again."""
FIND_BYTES = 16 << 20
FOUND_MAX = 50
"""Records of one channel that are looked at."""

_OTHER_FORMATS = {b"PK\x03\x04": "an archive or a workbook", b"\x1f\x8b": "compressed (gzip): unpack it first"}
_OTHER_FORMATS |= {b"\xff\xfe": "UTF-16 text", b"\xfe\xff": "UTF-16 text", b"BZh": "compressed (bzip2)"}


class CsvFile:
    """The records of a file of CSV."""

    def __init__(self, path: Path, zone: tzinfo, columns: Sequence[str] = ()) -> None:
        self.label = str(path)
        self._path = path
        self._zone = zone
        self._named = tuple(columns)

    def read(self, after: Place, now: datetime, *, is_written: bool = False) -> Reading:
        """Return the records that follow a place."""
        reading = Reading(iter(()), dict(after))
        reading.rows = self._rows(reading, now, is_whole=not is_written)
        try:
            reading.total = self._path.stat().st_size
        except OSError as error:
            raise self._unreadable(error) from None
        return reading

    def find_end(self) -> Place:
        """Return the place behind the last whole line."""
        try:
            with self._path.open("rb") as file:
                lines, offset = 0, 0
                while block := file.read(1 << 20):
                    lines += block.count(b"\n")
                    if b"\n" in block:
                        offset = file.tell() - len(block) + block.rindex(b"\n") + 1
                return {"offset": offset, "line": lines, "head": _head(file, offset)} if offset else {}
        except OSError as error:
            raise self._unreadable(error) from None

    def find(self, uniqueid: str, now: datetime) -> Sequence[CdrRow]:
        """Return the records of one channel, of those in the last `FIND_BYTES`, the last ones first."""
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size == 0:
                    return []
                columns, _ = self._columns(file, now)
                file.seek(max(0, size - FIND_BYTES))
                return list(_find(file.read(FIND_BYTES), uniqueid, columns))
        except OSError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError) -> InvalidValue:
        return InvalidValue(f"{self.label} cannot be read: {error.strerror or error}")

    def _columns(self, file: BinaryIO, now: datetime) -> tuple[CdrColumns, int]:
        """Return the columns, and the offset of the first record behind a header."""
        file.seek(0)
        start = file.read(4)
        for magic, what in _OTHER_FORMATS.items():
            if start.startswith(magic):
                raise InvalidValue(f"{self.label} is {what}")
        file.seek(3 if start.startswith(b"\xef\xbb\xbf") else 0)
        try:
            if self._named:
                return CdrColumns(self._named, self._zone, now), file.tell()
            _, behind, first = next(_records(file, file.tell(), 0), (0, 0, b""))
            names, is_header = name_csv_columns(_split(first))
            return CdrColumns(names, self._zone, now), behind if is_header else 0
        except CdrError as error:
            raise InvalidValue(f"{self.label}: {error}") from None

    def _rows(self, reading: Reading, now: datetime, *, is_whole: bool) -> Iterator[SourceRow]:
        try:
            with self._path.open("rb") as file:
                for former in self._find_former(file, reading):
                    with former:
                        yield from self._rows_of(former, reading, now, is_whole=True)
                    reading.place = {}
                yield from self._rows_of(file, reading, now, is_whole=is_whole)
        except OSError as error:
            raise self._unreadable(error) from None

    def _rows_of(self, file: BinaryIO, reading: Reading, now: datetime, *, is_whole: bool) -> Iterator[SourceRow]:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return
        columns, start = self._columns(file, now)
        offset, line = max(reading.place.get("offset", 0), start), reading.place.get("line", 1 if start else 0)
        head = _head(file, size)
        for number, after, text in _records(file, offset, line):
            if not is_whole and not text.endswith(b"\n"):
                break  # it is being written
            row, error = None, ""
            try:
                cells = _split(text)
                if cells:
                    row = columns.read(number, cells)
            except CdrError as wrong:
                error = str(wrong)
            line = number + max(text.count(b"\n"), 1) - 1
            reading.place = {"offset": after, "line": line, "head": head}
            if row is not None or error:
                yield SourceRow(number, row, error, after)

    def _find_former(self, file: BinaryIO, reading: Reading) -> Iterator[BinaryIO]:
        """Yield what was read before, where the file is another one by now; a note says so if that is gone."""
        place = reading.place
        if not place.get("offset") or _is_same(file, place):
            return
        for path in sorted(self._path.parent.glob(f"{self._path.name}?*"), key=_written_at, reverse=True):
            former = path.open("rb")
            if _is_same(former, place):
                yield former
                return
            former.close()
        reading.notes.append(f"{self.label} was replaced, and what stood in it is not beside it: compare it by hand")
        reading.place = {}


def _find(content: bytes, uniqueid: str, columns: CdrColumns) -> Iterator[CdrRow]:
    wanted, end = uniqueid.encode(), len(content)
    for _ in range(FOUND_MAX):
        at = content.rfind(wanted, 0, end)
        if at < 0:
            return
        end = content.rfind(b"\n", 0, at) + 1
        try:
            row = columns.read(0, _split(content[end : end + LINE_BYTES_MAX].partition(b"\n")[0]))
        except CdrError:
            continue
        if row.uniqueid == uniqueid:
            yield row


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _head(file: BinaryIO, size: int) -> str:
    at = file.tell()
    file.seek(0)
    head = file.read(min(size, HEAD_BYTES))
    file.seek(at)
    return f"{len(head)}:{hashlib.sha256(head).hexdigest()[:16]}"


def _is_same(file: BinaryIO, place: dict[str, Any]) -> bool:
    """Return whether a file begins as the one that a place is of, and goes as far."""
    known = str(place.get("head", ""))
    length = known.partition(":")[0]
    size = os.fstat(file.fileno()).st_size
    return length.isdecimal() and size >= int(place["offset"]) and _head(file, min(size, int(length))) == known


def _records(file: BinaryIO, offset: int, line: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield of each record its first line's number, the offset behind it, and its octets.

    A quote that no line of the next `LINES_OF_A_ROW_MAX` ends is a fault of its own line only.
    """
    file.seek(offset)
    while text := file.readline(LINE_BYTES_MAX):
        line += 1
        offset += len(text)
        is_long = len(text) == LINE_BYTES_MAX
        while is_long and not text.endswith(b"\n") and (rest := file.readline(LINE_BYTES_MAX)):
            offset += len(rest)
            text = text[:1] * LINE_BYTES_MAX + rest[-1:]
        record, after, more = text, offset, 0
        if text.count(b'"') % 2 and not is_long:
            lines = [text]
            while len(lines) < LINES_OF_A_ROW_MAX and sum(map(len, lines)) < LINE_BYTES_MAX:
                following = file.readline(LINE_BYTES_MAX)
                lines.append(following)
                if not following or following.count(b'"') % 2:
                    break
            if lines[-1].count(b'"') % 2 and len(lines) > 1:
                record, more = b"".join(lines), len(lines) - 1
                after = offset + sum(map(len, lines[1:]))
            file.seek(after)
        yield line, after, record
        line, offset = line + more, after


def _split(record: bytes) -> list[str]:
    """Return the values of a record. Raises `CdrError`."""
    if len(record) >= LINE_BYTES_MAX:
        raise CdrError(f"is longer than {LINE_BYTES_MAX} octets")
    text = record.decode("utf-8", "backslashreplace").rstrip("\r\n")
    if not text.strip():
        return []
    try:
        return next(csv.reader([text], strict=True), [])
    except (csv.Error, StopIteration) as error:
        raise CdrError(f"is no CSV: {error}") from None
