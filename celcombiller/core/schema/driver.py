"""Raw driver execution: cursor reuse, error translation, prepared queries."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

Row = tuple[Any, ...]


class PreparedQuery:
    """A query of SQLAlchemy Core that every request asks, made into words once for each database.

    Its values are given by name. Its rows are as the driver has them: take whole numbers and text, and no moments.
    """

    def __init__(self, query: sa.Select[Any]) -> None:
        self._query = query
        self._words: dict[str, tuple[str, list[str]]] = {}

    def rows(self, tx: Connection, **values: Any) -> list[Row]:
        """Give the rows."""
        text, places = self._words.get(tx.dialect.name) or self._made(tx.dialect)
        if tx.dialect.name == "sqlite":
            given = [encode_timestamp(each) if isinstance(each, datetime) else each for each in map(values.get, places)]
            found = execute_raw(tx, text, given)
        else:
            found = execute_raw(tx, text, values, prepare=True)
        rows: list[Row] = found.fetchall()
        return rows

    def _made(self, dialect: sa.Dialect) -> tuple[str, list[str]]:
        made: Any = self._query.compile(dialect=dialect)
        self._words[dialect.name] = str(made), made.positiontup or []
        return self._words[dialect.name]


def parse_timestamp(value: Any) -> Any:
    """Read a time as a database writes it in JSON: SQLite as `Instant` does, in UTC and without saying so.

    None, and what SQLAlchemy has read, is given back as it is.
    """
    if not isinstance(value, str):
        return value
    read = datetime.fromisoformat(value)
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def execute_raw(tx: Connection, text: str, values: Sequence[Any] | Mapping[str, Any] = (), **how: Any) -> Any:
    """Tell the driver, and give the connection's one cursor; its errors come as SQLAlchemy's, which the store knows.

    SQLAlchemy's own way to do this makes a cursor, and a description of each result, anew, which costs more than the
    result.
    """
    kept = tx.info
    cursor = kept.get("cursor")
    if cursor is None:
        cursor = kept["cursor"] = tx.connection.cursor()
    try:
        cursor.execute(text, values, **how)
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
def encode_timestamp(value: datetime) -> str:
    """Return a timestamp as SQLite stores it: UTC, microseconds, no zone."""
    refuse_naive(value)
    return value.astimezone(UTC).isoformat(" ", "microseconds")[:26]


def refuse_naive(value: datetime | None) -> None:
    """Raise `ValueError` for a timestamp without a zone."""
    if value is not None and value.tzinfo is None:
        raise ValueError("a time without a zone cannot be stored")
