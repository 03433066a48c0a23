"""Statements over many rows at once, on the path of every call: each in the words its database is fastest with.

SQLite takes rows one by one in a prepared statement, PostgreSQL takes columns as arrays. SQLAlchemy's own statements
over many rows cost several times as much (a dict a row, a bind by name a value; measured), so these go to the driver
as text. All else is written with SQLAlchemy Core; the tables and their types are the schema's here too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from celcombiller.schema import Instant

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from sqlalchemy.engine import Connection

Row = tuple[Any, ...]

_ARRAYS: tuple[tuple[type[Any], str], ...] = (
    (sa.BigInteger, "bigint"),
    (sa.Integer, "integer"),
    (sa.Boolean, "boolean"),
    (Instant, "timestamptz"),
    (sa.Text, "text"),
)


class Writing:
    """A statement that writes rows of ``columns``: the same thing said to SQLite and to PostgreSQL."""

    def __init__(self, table: sa.Table, columns: Sequence[str], *, sqlite: str, postgresql: str) -> None:
        self.table = table
        self._sqlite = sqlite
        arrays = ", ".join(f"%s::{_array(table.c[name])}[]" for name in columns)
        self._postgresql = postgresql.format(given=f"unnest({arrays})")
        self._moments = [place for place, name in enumerate(columns) if isinstance(table.c[name].type, Instant)]

    def run(self, tx: Connection, rows: list[Row]) -> int:
        """Write the rows; give how many were written."""
        if not rows:
            return 0
        if tx.dialect.name == "sqlite":
            cursor = _told(tx, self._sqlite, [self._plain(row) for row in rows], many=True)
        else:
            cursor = _told(tx, self._postgresql, tuple(map(list, zip(*rows, strict=True))))
        written: int = cursor.rowcount
        return written

    def _plain(self, row: Row) -> Row:
        if not self._moments:
            return row
        values = list(row)
        for place in self._moments:
            if values[place] is not None:
                values[place] = _text_of(values[place])
        return tuple(values)


def insert(table: sa.Table, columns: Sequence[str], *, once: bool = False) -> Writing:
    """Insert rows; with ``once`` a row whose key is there stays as it is."""
    words = f"insert into {table.name} ({names(columns)}) {{rows}}{' on conflict do nothing' if once else ''}"
    return Writing(
        table,
        columns,
        sqlite=words.format(rows=f"values ({', '.join('?' * len(columns))})"),
        postgresql=words.format(rows="select * from {given}"),
    )


def update(table: sa.Table, columns: Sequence[str], *, key: str, unchanged: Sequence[str] = ()) -> Writing:
    """Set ``columns`` of the row of a ``key`` where it is still as it was read.

    A row given has the new values, the key, then what the ``unchanged`` columns were.
    """
    as_was = (key, *unchanged)
    given = [*columns, *(f"was_{name}" for name in as_was)]
    new = ", ".join(f'"{name}" = given."{name}"' for name in columns)
    same = " and ".join(f'{table.name}."{name}" = given."was_{name}"' for name in as_was)
    return Writing(
        table,
        (*columns, *as_was),
        sqlite=f"update {table.name} set {_places(columns, ', ')} where {_places(as_was, ' and ')}",  # noqa: S608  ours
        postgresql=f"update {table.name} set {new} from {{given}} as given ({names(given)}) where {same}",  # noqa: S608
    )


def _places(columns: Iterable[str], between: str) -> str:
    return between.join(f'"{name}" = ?' for name in columns)


def names(columns: Iterable[str]) -> str:
    """List columns for a statement, quoted: ``authorization`` means something to PostgreSQL."""
    return ", ".join(f'"{name}"' for name in columns)


class Reading:
    """A query whose ``{among}`` stands for *is one of these values*, once or more."""

    def __init__(self, query: str, *, of: sa.Column[Any], lock: bool = False) -> None:
        self._count = query.count("{among}")
        self._sqlite = query.format(among="in (select value from json_each(?))")
        self._postgresql = query.format(among=f"= any(%s::{_array(of)}[])") + (" for update" if lock else "")

    def run(self, tx: Connection, *values: Collection[Any]) -> Iterable[Row]:
        """Give the rows: a moment in them is read by `moment`. One collection of values, or one for each place."""
        if not any(values):
            return ()
        given = values * (self._count if len(values) == 1 else 1)
        if tx.dialect.name == "sqlite":
            texts = tuple(msgspec.json.encode(list(each)).decode() for each in given)
            cursor = _told(tx, self._sqlite, texts)
        else:
            cursor = _told(tx, self._postgresql, tuple(map(list, given)))
        rows: list[Row] = cursor.fetchall()
        return rows


def moment(value: Any) -> Any:
    """Read a time, or None, as the driver gives it: the text that `Instant` keeps in SQLite, or an aware datetime."""
    if value is None:
        return None
    return datetime.fromisoformat(value + "+00:00") if isinstance(value, str) else value.astimezone(UTC)


def _told(tx: Connection, text: str, values: Sequence[Any], *, many: bool = False) -> Any:
    """Tell the driver, and give its cursor; its errors come as SQLAlchemy's, which the store knows.

    SQLAlchemy's own way to do this makes a description of each result anew, which costs more than the result.
    """
    driver = tx.connection
    cursor = driver.cursor()
    try:
        (cursor.executemany if many else cursor.execute)(text, values)
    except tx.dialect.loaded_dbapi.Error as error:
        is_gone = tx.dialect.is_disconnect(error, driver.dbapi_connection, cursor)
        if is_gone:
            tx.invalidate(error)
        raise sa.exc.DBAPIError.instance(
            text,
            None,
            error,
            tx.dialect.loaded_dbapi.Error,
            connection_invalidated=is_gone,
            dialect=tx.dialect,
        ) from error
    return cursor


def _text_of(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError("a time without a zone cannot be stored")
    return value.astimezone(UTC).isoformat(" ", "microseconds")[:26]


def _array(column: sa.Column[Any]) -> str:
    return next(name for kind, name in _ARRAYS if isinstance(column.type, kind))
