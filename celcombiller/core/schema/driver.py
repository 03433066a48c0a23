"""Execute SQL on the driver itself: one cursor a connection, errors translated, prepared queries."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

Row = tuple[Any, ...]

_SQLITE_CHARACTERS = len("2026-11-28 12:00:00.000000")
"""Of a timestamp that `encode_timestamp` wrote; one with a zone never has so many."""


ROUND_TRIPS = "round_trips"
"""The key, in the ``info`` of a connection to PostgreSQL, of its `celcombiller.database.round_trip.RoundTrips`."""


class PreparedQuery:
    """A query of SQLAlchemy Core for the path of every request, compiled once for each database.

    Its parameters are given by name. Its rows are the driver's: select integers and text only, no timestamps.
    """

    def __init__(self, query: sa.Select[Any]) -> None:
        self._query = query
        self._compiled: dict[str, tuple[str, list[str]]] = {}

    def rows(self, tx: Connection, **values: Any) -> list[Row]:
        """Return the rows."""
        text, places = self._compiled.get(tx.dialect.name) or self._compile(tx.dialect)
        if tx.dialect.name == "sqlite":
            given = [encode_timestamp(each) if isinstance(each, datetime) else each for each in map(values.get, places)]
            found = execute_raw(tx, text, given)
        else:
            found = execute_raw(tx, text, values, prepare=True)
        rows: list[Row] = found.fetchall()
        return rows

    def _compile(self, dialect: sa.Dialect) -> tuple[str, list[str]]:
        made: Any = self._query.compile(dialect=dialect)
        self._compiled[dialect.name] = str(made), made.positiontup or []
        return self._compiled[dialect.name]


def is_reading(tx: Connection) -> bool:
    """Return whether the connection only reads, and so may not lock rows either."""
    return bool(tx.get_execution_options().get("reading"))


def parse_timestamp(value: Any) -> Any:
    """Return the timestamp of a database's JSON; SQLite writes UTC without a zone, as `Instant` stores it.

    ``None``, and a timestamp that SQLAlchemy has read, are returned as they are.
    """
    if not isinstance(value, str):
        return value
    read = datetime.fromisoformat(f"{value}+00:00" if len(value) == _SQLITE_CHARACTERS else value)
    if read.tzinfo is UTC:
        return read
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def execute_raw(tx: Connection, text: str, values: Sequence[Any] | Mapping[str, Any] = (), **how: Any) -> Any:
    """Execute a statement on the driver, and return the connection's one cursor. Raises SQLAlchemy's errors.

    SQLAlchemy's `exec_driver_sql` makes a cursor and a result description each time, which costs more than the result.
    """
    return execute_on(cursor_of(tx), tx, text, values, **how)


def cursor_of(tx: Connection) -> Any:
    """Return the connection's one cursor."""
    kept = tx.info
    cursor = kept.get("cursor")
    if cursor is None:
        cursor = kept["cursor"] = tx.connection.cursor()
    return cursor


def execute_on(
    cursor: Any, tx: Connection, text: str, values: Sequence[Any] | Mapping[str, Any] = (), **how: Any
) -> Any:
    """Execute a statement on the cursor that `cursor_of` found, and return it. Raises SQLAlchemy's errors."""
    try:
        cursor.execute(text, values, **how)
    except tx.dialect.loaded_dbapi.Error as error:
        raise translate_error(tx, text, error) from error
    return cursor


def fetch_row(
    tx: Connection, text: str, values: Sequence[str], *, commits: bool = False
) -> Sequence[str | bytes | None]:
    """Return the first row of a statement on PostgreSQL, its values as text.

    It goes by the connection's `RoundTrips`, which may ``commits`` the transaction with it. Raises SQLAlchemy's errors.
    """
    trips = tx.info.get(ROUND_TRIPS)
    if trips is None:  # no engine of `open_engine`
        row: Sequence[str | bytes | None] = execute_raw(tx, text, values).fetchone()
        return row
    try:
        row = trips.execute(text, values, commits=commits)
    except tx.dialect.loaded_dbapi.Error as error:
        raise translate_error(tx, text, error) from error
    return row


def translate_error(tx: Connection, text: str, error: Exception) -> BaseException:
    """Return SQLAlchemy's error for the driver's."""
    is_gone = tx.dialect.is_disconnect(error, tx.connection.dbapi_connection, None)  # type: ignore[arg-type]
    if is_gone:
        tx.invalidate(error)
    base = tx.dialect.loaded_dbapi.Error
    return sa.exc.DBAPIError.instance(text, None, error, base, connection_invalidated=is_gone, dialect=tx.dialect)


@lru_cache(maxsize=256)  # a batch has few timestamps in many rows
def encode_timestamp(value: datetime) -> str:
    """Return a timestamp as SQLite stores it: UTC, microseconds, no zone."""
    refuse_naive(value)
    return value.astimezone(UTC).isoformat(" ", "microseconds")[:26]


def refuse_naive(value: datetime | None) -> None:
    """Raise `ValueError` for a timestamp without a zone."""
    if value is not None and value.tzinfo is None:
        raise ValueError("a time without a zone cannot be stored")
