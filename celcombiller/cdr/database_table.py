"""A table of another database: cdr_pgsql, cdr_adaptive_odbc, cdr_odbc.

The modules' own tables need not have a key. Where there is a column of whole numbers that is one (or is filled by a
sequence), rows are read in its order. Else they are read in the order of their start, and what comes late is looked for
in the `OVERLAP` before.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import exc

from celcombiller.cdr.columns import CdrColumns, CdrError
from celcombiller.cdr.source import Reading, SourceRow
from celcombiller.core.errors import InvalidValue
from celcombiller.runtime.database_url import show_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import tzinfo

    from celcombiller.cdr.source import Place
    from celcombiller.core.reconciliation.cdr import CdrRow

CHUNK = 1000
OVERLAP = timedelta(hours=3)
"""How long before the last start that was read rows may still come: a row is written when its call ends."""
KEYS_BEHIND = 1000
"""Numbers of a sequence may be committed in another order: so many are looked at once more."""
CONNECT_SECONDS = 10


class DatabaseTable:
    """The records of a table, read in one transaction that changes nothing."""

    def __init__(self, url: str, table: str, zone: tzinfo) -> None:
        self.label = f"{show_url(url)} ({table})"
        self._zone = zone
        self._schema, _, self._name = table.rpartition(".")
        try:
            arguments = {"connect_timeout": CONNECT_SECONDS} if url.startswith("postgresql") else {}
            self._engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=arguments)
        except (exc.ArgumentError, ImportError) as error:
            raise InvalidValue(f"{self.label}: {error}") from None

    def read(self, after: Place, now: datetime, *, is_written: bool = False) -> Reading:  # noqa: ARG002  all are whole
        """Return the records that follow a place."""
        with self._connect() as connection:
            table = self._table(connection)
            total = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        reading = Reading(iter(()), dict(after), total=int(total))
        reading.rows = self._rows(reading, table, now)
        return reading

    def find_end(self) -> Place:
        """Return the place behind the last record of now."""
        with self._connect() as connection:
            table = self._table(connection)
            key = _find_key(table)
            last = connection.execute(sa.select(sa.func.max(_find_start(table) if key is None else key))).scalar_one()
        if last is None:
            return {}
        if key is not None:
            return {"key": int(last)}
        at = last if isinstance(last, datetime) else datetime.fromisoformat(str(last))
        at = at if at.tzinfo else at.replace(tzinfo=self._zone)
        return {"start": at.astimezone(UTC).isoformat()}

    def find(self, uniqueid: str, now: datetime) -> Sequence[CdrRow]:
        """Return the records of one channel."""
        with self._connect() as connection:
            table = self._table(connection)
            rows = connection.execute(sa.select(table).where(table.c.uniqueid == uniqueid)).all()
        columns = self._columns(table, now)
        found = (_read(columns, number, row) for number, row in enumerate(rows, 1))
        return [each.row for each in found if each.row is not None]

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except exc.NoSuchTableError:
            raise InvalidValue(f"{self.label}: there is no such table") from None
        except exc.DBAPIError as error:
            raise InvalidValue(f"{self.label} cannot be read: {str(error.orig).strip().splitlines()[0]}") from None

    def _table(self, connection: sa.Connection) -> sa.Table:
        return sa.Table(self._name, sa.MetaData(), schema=self._schema or None, autoload_with=connection)

    def _columns(self, table: sa.Table, now: datetime) -> CdrColumns:
        try:
            return CdrColumns(table.c.keys(), self._zone, now)
        except CdrError as error:
            raise InvalidValue(f"{self.label}: {error}") from None

    def _rows(self, reading: Reading, table: sa.Table, now: datetime) -> Iterator[SourceRow]:
        columns, key, start = self._columns(table, now), _find_key(table), _find_start(table)
        wanted = sa.select(table)
        last_key, last_start = reading.place.get("key"), reading.place.get("start")
        if key is not None:
            wanted = wanted.order_by(key)
            if last_key is not None:
                wanted = wanted.where(key > int(last_key) - KEYS_BEHIND)
        else:
            wanted = wanted.order_by(table.c.uniqueid)  # the records of a channel together, about as they began
            if last_start is not None:
                wanted = wanted.where(start >= self._local(datetime.fromisoformat(last_start) - OVERLAP, start))
        with self._connect() as connection:
            streaming = connection.execution_options(stream_results=True, yield_per=CHUNK)
            at_key = None if key is None else table.c.keys().index(key.name)
            for number, row in enumerate(streaming.execute(wanted), 1):
                place = number if at_key is None else int(row[at_key])
                found = _read(columns, place, row, number)
                if key is not None:
                    last_key = place if last_key is None else max(int(last_key), place)
                    reading.place = {"key": last_key}
                elif found.row is not None:
                    at = found.row.started_at.isoformat()
                    last_start = at if last_start is None else max(last_start, at)
                    reading.place = {"start": last_start}
                yield found

    def _local(self, at: datetime, start: sa.Column[Any]) -> Any:
        """Return a time as the column has it: with a zone, of the local clock, or as text."""
        if isinstance(start.type, sa.DateTime):
            return at if start.type.timezone else at.astimezone(self._zone).replace(tzinfo=None)
        return str(at.astimezone(self._zone).replace(tzinfo=None).isoformat(" ", "seconds"))


def _find_key(table: sa.Table) -> sa.Column[Any] | None:
    """Return a column of whole numbers that counts the rows."""
    for column in table.c:
        counts = bool(column.primary_key) or column.identity is not None or "nextval(" in _default(column)
        if isinstance(column.type, sa.Integer) and counts:
            return column
    return None


def _default(column: sa.Column[Any]) -> str:
    default = column.server_default
    return str(default.arg) if isinstance(default, sa.DefaultClause) else ""


def _find_start(table: sa.Table) -> sa.Column[Any]:
    return next(column for column in table.c if column.name.lower() in ("start", "calldate", "date"))


def _read(columns: CdrColumns, place: int, cells: Sequence[Any], progress: int = 0) -> SourceRow:
    try:
        return SourceRow(place, columns.read(place, cells), progress=progress)
    except CdrError as error:
        return SourceRow(place, None, str(error), progress)
