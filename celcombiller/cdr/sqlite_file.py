"""A database of cdr_sqlite3_custom: any table of SQLite whose columns have the names of Asterisk's CDR variables."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from celcombiller.cdr.columns import CdrColumns, CdrError
from celcombiller.cdr.source import Reading, SourceRow
from celcombiller.core.errors import InvalidValue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, tzinfo
    from pathlib import Path

    from celcombiller.cdr.source import Place
    from celcombiller.core.reconciliation.cdr import CdrRow

CHUNK = 1000
"""Rows that are read at once: Asterisk waits to write meanwhile."""


class SqliteFile:
    """The records of a table of SQLite, by their rowid."""

    def __init__(self, path: Path, table: str, zone: tzinfo) -> None:
        self.label = f"{path} ({table})"
        self._path = path
        self._table = '"' + table.replace('"', '""') + '"'
        self._zone = zone

    def read(self, after: Place, now: datetime, *, is_written: bool = False) -> Reading:  # noqa: ARG002  all are whole
        """Return the records that follow a place."""
        last = int(self.find_end()["rowid"])
        reading = Reading(iter(()), dict(after), total=last)
        if last < int(after.get("rowid", 0)):
            reading.notes.append(f"{self.label} was emptied: it is read from its beginning")
            reading.place = {}
        reading.rows = self._rows(reading, now)
        return reading

    def find_end(self) -> Place:
        """Return the place behind the last record of now."""
        with self._open() as connection:
            return {"rowid": connection.execute(f"select coalesce(max(rowid), 0) from {self._table}").fetchone()[0]}  # noqa: S608  quoted

    def find(self, uniqueid: str, now: datetime) -> Sequence[CdrRow]:
        """Return the records of one channel."""
        with self._open() as connection:
            rows = connection.execute(f"select rowid, * from {self._table} where uniqueid = ?", (uniqueid,))  # noqa: S608
            columns = self._columns(rows, now)
            found = [_read(columns, each) for each in rows]
        return [each.row for each in found if each.row is not None]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as made:
                made.text_factory = lambda octets: octets.decode("utf-8", "backslashreplace")
                yield made
        except (sqlite3.Error, OverflowError) as error:
            raise InvalidValue(f"{self.label} cannot be read: {error}") from None

    def _columns(self, rows: sqlite3.Cursor, now: datetime) -> CdrColumns:
        try:
            return CdrColumns([each[0] for each in rows.description[1:]], self._zone, now)
        except CdrError as error:
            raise InvalidValue(f"{self.label}: {error}") from None

    def _rows(self, reading: Reading, now: datetime) -> Iterator[SourceRow]:
        query = f"select rowid, * from {self._table} where rowid > ? order by rowid limit {CHUNK}"  # noqa: S608  quoted
        while True:
            with self._open() as connection:
                found = connection.execute(query, (int(reading.place.get("rowid", 0)),))
                columns, rows = self._columns(found, now), found.fetchall()
            for each in rows:
                reading.place = {"rowid": each[0]}
                yield _read(columns, each)
            if len(rows) < CHUNK:
                return


def _read(columns: CdrColumns, cells: Sequence[Any]) -> SourceRow:
    number = int(cells[0])
    try:
        return SourceRow(number, columns.read(number, cells[1:]), progress=number)
    except CdrError as error:
        return SourceRow(number, None, str(error), number)
