"""The octets of a CSV file as rows of cells, one after the other, in bounded memory.

Each line is read by itself, so that one that is broken hides no other. A quoted cell may go on in the next lines, a
few of them; a quote that is never closed is a fault of its line.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from celcombiller.core.tariffs.files.findings import Findings

LINE_BYTES_MAX = 64 * 1024
"""The longest line; a row of a price list has some hundred octets, and a list of prefixes some thousand."""
LINES_OF_A_ROW_MAX = 5
"""Lines that one row may have, because of line breaks in its quoted cells."""
DELIMITERS = "\t;,"
"""In the order in which one is preferred, where a line has as many of both."""

_OTHER_FORMATS = (
    (b"PK\x03\x04", "is a workbook or an archive (.xlsx, .ods, .zip)"),
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook (.xls)"),
    (b"\x1f\x8b", "is compressed (gzip)"),
    (b"%PDF", "is a PDF document"),
    (b"\xff\xfe", "is UTF-16 text"),
    (b"\xfe\xff", "is UTF-16 text"),
)


class FileRows:
    """The rows of a file; iterate once. ``delimiter`` is found in the first line, unless it is given."""

    def __init__(self, chunks: Iterable[bytes], findings: Findings, delimiter: str = "") -> None:
        self.delimiter = delimiter
        self._chunks = chunks
        self._findings = findings
        self._unicode_row = 0
        self._latin_row = 0

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number and the cells of each row that has any."""
        lines = self._read_lines()
        waiting: list[tuple[int, str]] = []
        while True:
            row, text = waiting.pop(0) if waiting else next(lines, (0, ""))
            if not row:
                return
            if not self.delimiter:
                if _is_separator_line(text):
                    self.delimiter = text.strip()[4]
                    continue
                self.delimiter = _find_delimiter(text)
            if '"' in text and text.count('"') % 2:
                text = self._join(row, text, waiting, lines)
            cells = self._split(text)
            if any(cells):
                yield row, cells

    def _split(self, text: str) -> list[str]:
        if '"' not in text:
            return [cell.strip() for cell in text.split(self.delimiter)]
        try:
            reader = csv.reader([text], delimiter=self.delimiter, skipinitialspace=True)
            return [cell.strip() for cell in next(reader, [])]
        except csv.Error:  # too long a cell
            return []

    def _join(self, row: int, text: str, waiting: list[tuple[int, str]], lines: Iterator[tuple[int, str]]) -> str:
        """Return a row whose quoted cell goes on in the next lines; alone, if no quote ends it."""
        while len(waiting) < LINES_OF_A_ROW_MAX - 1:
            following = next(lines, None)
            if following is None:
                break
            waiting.append(following)
        for count, (_, more) in enumerate(waiting[: LINES_OF_A_ROW_MAX - 1], 1):
            if more.count('"') % 2:
                text = " ".join([text, *(each for _, each in waiting[:count])])
                del waiting[:count]
                return text
        self._findings.add_fault(row, 'a quote (") begins a cell that does not end')
        return ""

    def _read_lines(self) -> Iterator[tuple[int, str]]:
        for row, line in enumerate(self._split_lines(), 1):
            if line is None:
                limit = f"{LINE_BYTES_MAX // 1024} KiB"
                self._findings.add_fault(row, f"is longer than {limit}: is this a CSV file? It was read no further")
                return
            if row == 1:
                for beginning, what in _OTHER_FORMATS:
                    if line.startswith(beginning):
                        self._findings.add_fault(row, f"the file {what}: save it as CSV, UTF-8")
                        return
            yield row, self._decode(row, line.removeprefix(b"\xef\xbb\xbf") if row == 1 else line)

    def _split_lines(self) -> Iterator[bytes | None]:
        r"""Yield the lines without their ends, which are \n, \r\n or \r; `None` for one that is too long, the last."""
        rest = b""
        for chunk in self._chunks:
            data = rest + chunk
            ends_open = data.endswith(b"\r")
            *lines, rest = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            if ends_open:  # the next chunk may begin with the other half of the end
                rest = (lines.pop() if lines else b"") + b"\r"
            for line in lines:
                yield line if len(line) <= LINE_BYTES_MAX else None
            if len(rest) > LINE_BYTES_MAX:
                yield None
                return
        yield rest.removesuffix(b"\r")

    def _decode(self, row: int, line: bytes) -> str:
        if line.isascii():
            text = line.decode()
        else:
            try:
                text = line.decode("utf-8")
                self._note_encoding(row, is_unicode=True)
            except UnicodeDecodeError:
                text = _decode_latin(line)
                self._note_encoding(row, is_unicode=False)
        if "\x00" in text:
            self._findings.add_fault(row, "has a NUL character: is this a text file?")
            return ""
        return text

    def _note_encoding(self, row: int, *, is_unicode: bool) -> None:
        if is_unicode:
            self._unicode_row = self._unicode_row or row
        elif not self._latin_row:
            self._latin_row = row
            self._findings.add_remark(row, "is not UTF-8: it was read as Latin-1 (Windows-1252)")
        else:
            return
        if row in (self._unicode_row, self._latin_row):
            other = self._latin_row if is_unicode else self._unicode_row
            if other:
                kinds = ("UTF-8", "Latin-1") if is_unicode else ("Latin-1", "UTF-8")
                mixed = f"is {kinds[0]}, but row {other} is {kinds[1]}"
                self._findings.add_fault(row, f"{mixed}: save the whole file again as UTF-8")


def _decode_latin(line: bytes) -> str:
    try:
        return line.decode("cp1252")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _is_separator_line(text: str) -> bool:
    """Return whether this is the line by which Excel names the delimiter of a file."""
    line = text.strip().strip('"')
    return len(text.strip()) == len("sep=;") and line.lower().startswith("sep=") and line[-1] in DELIMITERS


def _find_delimiter(text: str) -> str:
    """Return the delimiter that a line has most of, outside of quotes."""
    outside = "".join(text.split('"')[::2])
    return max(DELIMITERS, key=outside.count)
