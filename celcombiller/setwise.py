"""Statements over many rows at once, on the path of every call: each in the words its database is fastest with.

SQLite takes groups of rows in prepared statements, PostgreSQL takes columns as arrays. SQLAlchemy's own statements
over many rows cost several times as much (a dict a row, a bind by name a value; measured), so these go to the driver
as text. All else is written with SQLAlchemy Core; the tables and their types are the schema's here too.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from celcombiller.schema import Instant

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from sqlalchemy.engine import Connection

Row = tuple[Any, ...]

GROUPS = (64, 32, 16, 8, 4, 2, 1)
"""Rows in one statement of SQLite. Each statement lets Python's lock go and asks for it again, against the reactor."""

_ARRAYS: tuple[tuple[type[Any], str], ...] = (
    (sa.BigInteger, "bigint"),
    (sa.Integer, "integer"),
    (sa.Boolean, "boolean"),
    (Instant, "timestamptz"),
    (sa.Text, "text"),
)


class Writing:
    """A statement that writes rows of ``columns``: the same thing said to SQLite and to PostgreSQL."""

    def __init__(
        self, table: sa.Table, columns: Sequence[str], *, sqlite: str, postgresql: str, sqlite_row: str | None = None
    ) -> None:
        self.table = table
        places = f"({', '.join('?' * len(columns))})"
        self._sqlite = {count: sqlite.format(given=", ".join([places] * count)) for count in GROUPS}
        if sqlite_row is not None:
            self._sqlite[1] = sqlite_row
        arrays = ", ".join(f"%s::{_array(table.c[name])}[]" for name in columns)
        self._postgresql = postgresql.format(given=f"unnest({arrays})")
        self._moments = [place for place, name in enumerate(columns) if isinstance(table.c[name].type, Instant)]

    def told(self, tx: Connection, rows: list[Row]) -> list[Any]:
        """Tell the driver to write the rows; give its cursors, which count them."""
        if tx.dialect.name == "sqlite":
            return [tell(tx, self._sqlite[len(group)], self._flat(group)) for group in _groups(rows)]
        for place in self._moments:
            for row in rows:
                _refuse_naive(row[place])
        return [tell(tx, self._postgresql, tuple(map(list, zip(*rows, strict=True))))]

    def _flat(self, rows: list[Row]) -> list[Any]:
        if not self._moments:
            return list(chain.from_iterable(rows))
        flat: list[Any] = []
        for row in rows:
            start = len(flat)
            flat += row
            for place in self._moments:
                if row[place] is not None:
                    flat[start + place] = _text_of(row[place])
        return flat


def _groups(rows: list[Row]) -> Iterator[list[Row]]:
    """Share rows out into groups of the sizes that statements are prepared for."""
    start = 0
    for size in GROUPS:
        while start + size <= len(rows):
            yield rows[start : start + size]
            start += size


class LedgerRace(Exception):
    """A guarded statement found another row than was locked. Never seen with the locks in place; the door retries."""


class Writes:
    """What one transaction writes at its end: see `writes`."""

    def __init__(self, tx: Connection) -> None:
        self._tx = tx
        self._guarded: list[tuple[list[Any], int, sa.Table]] = []

    def insert(self, statement: Writing, rows: list[Row]) -> None:
        """Insert these rows."""
        if rows:
            statement.told(self._tx, rows)

    def update(self, statement: Writing, rows: list[Row]) -> None:
        """Update these rows; every one must be found as it was read."""
        if rows:
            self._guarded.append((statement.told(self._tx, rows), len(rows), statement.table))

    def check(self) -> None:
        """Raise `LedgerRace` unless every row that was to be updated was there."""
        for cursors, count, table in self._guarded:
            if sum(each.rowcount for each in cursors) != count:
                raise LedgerRace(table)


@contextmanager
def writes(tx: Connection) -> Iterator[Writes]:
    """Write in here what depends on no answer: PostgreSQL is told all of it before its first answer is waited for."""
    made = Writes(tx)
    if tx.dialect.name == "sqlite":
        yield made
    else:
        driver: Any = tx.connection.driver_connection
        try:
            with driver.pipeline():
                yield made
        except tx.dialect.loaded_dbapi.Error as error:
            raise _translated(tx, "", error) from error
    made.check()


def insert(table: sa.Table, columns: Sequence[str], *, once: bool = False) -> Writing:
    """Insert rows; with ``once`` a row whose key is there stays as it is."""
    words = f"insert into {table.name} ({names(columns)}) {{rows}}{' on conflict do nothing' if once else ''}"
    return Writing(
        table,
        columns,
        sqlite=words.format(rows="values {given}"),
        postgresql=words.format(rows="select * from {given}"),
    )


def update(table: sa.Table, columns: Sequence[str], *, key: str, unchanged: Sequence[str] = ()) -> Writing:
    """Set ``columns`` of the row of a ``key`` where it is still as it was read.

    A row given has the new values, the key, then what the ``unchanged`` columns were.
    """
    as_was = (key, *unchanged)
    given = [f"column{number}" for number in range(1, len(columns) + len(as_was) + 1)]  # as SQLite names them
    new = ", ".join(f'"{name}" = given.{value}' for name, value in zip(columns, given, strict=False))
    same = " and ".join(
        f'{table.name}."{name}" = given.{value}' for name, value in zip(as_was, given[len(columns) :], strict=True)
    )
    words = f"update {table.name} set {new} from {{rows}} where {same}"  # noqa: S608  ours
    return Writing(
        table,
        (*columns, *as_was),
        sqlite=words.format(rows="(values {given}) as given"),
        sqlite_row=f"update {table.name} set {_places(columns, ', ')} where {_places(as_was, ' and ')}",  # noqa: S608
        postgresql=words.format(rows=f"{{given}} as given ({names(given)})"),
    )


def _places(columns: Iterable[str], between: str) -> str:
    return between.join(f'"{name}" = ?' for name in columns)


def names(columns: Iterable[str]) -> str:
    """List columns for a statement, quoted: ``authorization`` means something to PostgreSQL."""
    return ", ".join(f'"{name}"' for name in columns)


class Reading:
    """A query whose ``{among}`` stands for *is one of these values*, once or more.

    SQLite gives all rows as one: it lets Python's lock go for each row, and then asks for it against the reactor.
    PostgreSQL locks them in the order of the key ``lock``, so that no two transactions wait for each other in a ring.
    """

    def __init__(self, columns: str, rest: str, *, of: sa.Column[Any], lock: str = "") -> None:
        self._count = rest.count("{among}")
        among = "in (select value from json_each(?))"
        self._sqlite = f"select json_group_array(json_array({columns})) {rest.format(among=among)}"
        self._postgresql = f"select {columns} {rest.format(among=f'= any(%s::{_array(of)}[])')}"
        if lock:
            self._postgresql += f" order by {lock} for update"

    def run(self, tx: Connection, *values: Collection[Any]) -> Iterable[Sequence[Any]]:
        """Give the rows, in no order: a moment in them is read by `moment`, a truth value by `bool`.

        One collection of values, or one for each place.
        """
        if not any(values):
            return ()
        given = values * (self._count if len(values) == 1 else 1)
        if tx.dialect.name == "sqlite":
            texts = tuple(msgspec.json.encode(list(each)).decode() for each in given)
            rows: list[Sequence[Any]] = msgspec.json.decode(tell(tx, self._sqlite, texts).fetchone()[0])
        else:
            rows = tell(tx, self._postgresql, tuple(map(list, given))).fetchall()
        return rows


def moment(value: Any) -> Any:
    """Read a time, or None, as the driver gives it: the text that `Instant` keeps in SQLite, or an aware datetime."""
    if value is None:
        return None
    return datetime.fromisoformat(value + "+00:00") if isinstance(value, str) else value.astimezone(UTC)


def tell(tx: Connection, text: str, values: Sequence[Any] = ()) -> Any:
    """Tell the driver, and give its cursor; its errors come as SQLAlchemy's, which the store knows.

    SQLAlchemy's own way to do this makes a description of each result anew, which costs more than the result.
    """
    driver = tx.connection
    cursor = driver.cursor()
    try:
        cursor.execute(text, values)
    except tx.dialect.loaded_dbapi.Error as error:
        raise _translated(tx, text, error) from error
    return cursor


def _translated(tx: Connection, text: str, error: Exception) -> BaseException:
    """Give SQLAlchemy's error for the driver's."""
    is_gone = tx.dialect.is_disconnect(error, tx.connection.dbapi_connection, None)  # type: ignore[arg-type]
    if is_gone:
        tx.invalidate(error)
    base = tx.dialect.loaded_dbapi.Error
    return sa.exc.DBAPIError.instance(text, None, error, base, connection_invalidated=is_gone, dialect=tx.dialect)


@lru_cache(maxsize=256)  # a batch has few moments in many rows
def _text_of(value: datetime) -> str:
    _refuse_naive(value)
    return value.astimezone(UTC).isoformat(" ", "microseconds")[:26]


def _refuse_naive(value: datetime | None) -> None:
    if value is not None and value.tzinfo is None:
        raise ValueError("a time without a zone cannot be stored")


def _array(column: sa.Column[Any]) -> str:
    return next(name for kind, name in _ARRAYS if isinstance(column.type, kind))
