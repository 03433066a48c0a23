"""Records on their way to a comparison: a temporary file sorts them by channel, so that memory stays small.

The file has about 200 octets a record, in the folder for temporary files (``TMPDIR``).
"""

from __future__ import annotations

import sqlite3
import tempfile
from dataclasses import astuple, fields
from datetime import UTC, datetime
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from celcombiller.core.reconciliation.cdr import CdrRow, join_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from celcombiller.core.reconciliation.cdr import ChannelCdr

BATCH = 2000
CACHE_KIBIBYTES = 16_384

_NAMES = tuple(each.name for each in fields(CdrRow))
_TIMES = [place for place, name in enumerate(_NAMES) if name.endswith("_at")]


class Staging:
    """A set of records, in a file that is deleted at the end. Use it as a context manager, in one thread."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="celcombiller-cdr-")
        self._database = sqlite3.connect(Path(self._folder.name, "records"), isolation_level=None)
        for each in ("journal_mode = off", "synchronous = off", f"cache_size = -{CACHE_KIBIBYTES}"):
            self._database.execute(f"pragma {each}")
        names = ", ".join(_NAMES)
        self._database.execute(f"create table record ({names}, primary key (uniqueid, place)) without rowid")
        self._insert = f"insert or replace into record values ({', '.join('?' * len(_NAMES))})"  # noqa: S608  our names
        self._waiting: list[tuple[Any, ...]] = []

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the file."""
        self._database.close()
        self._folder.cleanup()

    def add(self, row: CdrRow) -> None:
        """Add a record; one of the same place replaces it."""
        values = list(astuple(row))
        for place in _TIMES:
            values[place] = None if values[place] is None else values[place].timestamp()
        self._waiting.append(tuple(values))
        if len(self._waiting) >= BATCH:
            self._write()

    def _write(self) -> None:
        self._database.execute("begin")
        self._database.executemany(self._insert, self._waiting)
        self._database.execute("commit")
        self._waiting.clear()

    def channels(self, size: int) -> Iterator[list[ChannelCdr]]:
        """Yield the records joined by channel, ``size`` channels at a time."""
        self._write()
        rows = self._database.execute("select * from record order by uniqueid, place")
        joined = (join_rows([_row(each) for each in group]) for _, group in groupby(rows, itemgetter(1)))
        while chunk := list(islice(joined, size)):
            yield chunk

    def count_channels(self) -> int:
        """Return how many channels there are."""
        self._write()
        return int(self._database.execute("select count(distinct uniqueid) from record").fetchone()[0])

    def covered(self) -> tuple[datetime, datetime] | None:
        """Return the time that the records cover: from the first start to the last end."""
        self._write()
        first, last = self._database.execute("select min(started_at), max(ended_at) from record").fetchone()
        return None if first is None else (datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC))

    def unknown(self, uniqueids: Sequence[str]) -> set[str]:
        """Return those of these channels that have no record."""
        self._write()
        asked = "select 1 from record where uniqueid = ? limit 1"
        return {each for each in uniqueids if self._database.execute(asked, (each,)).fetchone() is None}


def _row(values: tuple[Any, ...]) -> CdrRow:
    facts = list(values)
    for place in _TIMES:
        facts[place] = None if facts[place] is None else datetime.fromtimestamp(facts[place], UTC)
    facts[-1] = bool(facts[-1])
    return CdrRow(*facts)
