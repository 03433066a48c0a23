"""Statements over many rows, on the path of every call: each in the form that its database executes fastest.

SQLite takes groups of rows in prepared statements, PostgreSQL takes all rows as one JSON text; both return what they
find as one value. SQLAlchemy's own statements over many rows cost several times as much (a dict for each row, a named
parameter for each value), and so do arrays, as psycopg formats each of their values in Python. So these statements go
to the driver as text; all others use SQLAlchemy Core.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from celcombiller.core.schema.driver import (
    Row,
    cursor_of,
    encode_timestamp,
    execute_on,
    execute_raw,
    fetch_row,
    is_reading,
    refuse_naive,
)
from celcombiller.core.schema.tables import Instant

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sqlalchemy.engine import Connection

GROUPS = (64, 32, 16, 8, 4, 2, 1)
"""Rows in one statement of SQLite. Each one releases the GIL and takes it again, in contention with the reactor."""


_TYPES: tuple[tuple[type[Any], str], ...] = (
    (sa.BigInteger, "bigint"),
    (sa.Integer, "integer"),
    (sa.Boolean, "boolean"),
    (Instant, "timestamptz"),
    (sa.Date, "date"),
    (sa.Text, "text"),
)


class LedgerRace(Exception):
    """A guarded statement found another row than was read. Never seen with the locks in place; `transact` retries."""


class BulkWrite:
    """A statement that writes rows of ``columns``, in SQLite's and in PostgreSQL's SQL.

    A ``guarded`` statement must find every row that it is given.
    """

    def __init__(
        self,
        table: sa.Table,
        columns: Sequence[str],
        *,
        sqlite: str,
        postgresql: str,
        sqlite_row: str | None = None,
        guarded: bool = False,
    ) -> None:
        self.table = table
        self.is_guarded = guarded
        places = f"({', '.join('?' * len(columns))})"
        self._sqlite = {count: sqlite.format(given=", ".join([places] * count)) for count in GROUPS}
        if sqlite_row is not None:
            self._sqlite[1] = sqlite_row
        values = ", ".join(
            f"(it ->> {place})::{_type(table.c[name])} as column{place + 1}" for place, name in enumerate(columns)
        )
        given = f"select {values} from jsonb_array_elements(%s::jsonb) as rows (it)"  # noqa: S608  ours
        self.postgresql = postgresql.format(given=given)
        self._timestamps = [place for place, name in enumerate(columns) if isinstance(table.c[name].type, Instant)]

    def execute_sqlite(self, tx: Connection, cursor: Any, rows: list[Row]) -> int:
        """Write the rows, and return how many were written."""
        if len(rows) == 1:
            written: int = execute_on(cursor, tx, self._sqlite[1], self._flat(rows)).rowcount
            return written
        return sum(
            execute_on(cursor, tx, self._sqlite[len(group)], self._flat(group)).rowcount for group in _groups(rows)
        )

    def encode_rows(self, rows: list[Row]) -> str:
        """Return the rows as the parameter of ``postgresql``."""
        for place in self._timestamps:
            for row in rows:
                refuse_naive(row[place])
        return _json(rows)

    def check(self, rows: list[Row], written: int) -> None:
        """Raise `LedgerRace` when the statement is guarded and a row was not as it was read."""
        if self.is_guarded and written != len(rows):
            raise LedgerRace(self.table)

    def _flat(self, rows: list[Row]) -> list[Any]:
        if not self._timestamps:
            return list(chain.from_iterable(rows))
        flat: list[Any] = []
        for row in rows:
            start = len(flat)
            flat += row
            for place in self._timestamps:
                if row[place] is not None:
                    flat[start + place] = encode_timestamp(row[place])
        return flat


def _groups(rows: list[Row]) -> Iterator[list[Row]]:
    """Return the rows in groups of the sizes that statements are prepared for."""
    start = 0
    for size in GROUPS:
        while start + size <= len(rows):
            yield rows[start : start + size]
            start += size


Writes = Iterable[tuple[BulkWrite, list[Row]]]


def write(tx: Connection, writes: Writes, *, commits: bool = False) -> None:
    """Write rows by each of these statements; PostgreSQL executes them as one, so none may depend on another.

    ``commits``: nothing else is to be done in the transaction, so PostgreSQL ends it in the same round trip. Raises
    `LedgerRace` when a row to be updated was not as it was read.
    """
    if tx.dialect.name == "sqlite":
        cursor = cursor_of(tx)
        for statement, rows in writes:
            if rows:
                statement.check(rows, statement.execute_sqlite(tx, cursor, rows))
        return
    some = [(statement, rows) for statement, rows in writes if rows]
    if not some:
        return
    values = [statement.encode_rows(rows) for statement, rows in some]
    values += [str(len(rows)) for statement, rows in some if statement.is_guarded]
    try:
        fetch_row(tx, _as_one_write(*(statement for statement, _ in some)), values, commits=commits)
    except sa.exc.DataError as error:
        if getattr(error.orig, "sqlstate", None) != _DIVISION_BY_ZERO:
            raise
        raise LedgerRace(*(statement.table for statement, _ in some if statement.is_guarded)) from error


_DIVISION_BY_ZERO = "22012"


@lru_cache
def _as_one_write(*statements: BulkWrite) -> str:
    """Return these statements as one, which fails where a guarded one finds fewer rows than it is given.

    It divides by zero then: the transaction must fail in PostgreSQL, where it may be committed before we could look.
    """
    parts = ", ".join(f"w{number} as ({each.postgresql} returning 1)" for number, each in enumerate(statements))
    same = " and ".join(
        f"(select count(*) from w{number}) = %s::bigint"  # noqa: S608  ours
        for number, each in enumerate(statements)
        if each.is_guarded
    )
    return f"with {parts} select 1 / case when {same or 'true'} then 1 else 0 end"


def insert(table: sa.Table, columns: Sequence[str], *, once: bool = False) -> BulkWrite:
    """Return an insert; with ``once`` a row whose key exists stays as it is."""
    text = f"insert into {table.name} ({names(columns)}) {{rows}}{' on conflict do nothing' if once else ''}"
    return BulkWrite(table, columns, sqlite=text.format(rows="values {given}"), postgresql=text.format(rows="{given}"))


def update(table: sa.Table, columns: Sequence[str], *, key: str, unchanged: Sequence[str] = ()) -> BulkWrite:
    """Return an update of ``columns`` of the row of a ``key``, where that row is still as it was read.

    A row for it has the new values, the key, then the values of the ``unchanged`` columns as they were read.
    """
    as_was = (key, *unchanged)
    given = [f"column{number}" for number in range(1, len(columns) + len(as_was) + 1)]  # as SQLite names them
    new = ", ".join(f'"{name}" = given.{value}' for name, value in zip(columns, given, strict=False))
    same = " and ".join(
        f'{table.name}."{name}" = given.{value}' for name, value in zip(as_was, given[len(columns) :], strict=True)
    )
    text = f"update {table.name} set {new} from ({{rows}}) as given where {same}"  # noqa: S608  ours
    return BulkWrite(
        table,
        (*columns, *as_was),
        sqlite=text.format(rows="values {given}"),
        sqlite_row=f"update {table.name} set {_places(columns, ', ')} where {_places(as_was, ' and ')}",  # noqa: S608
        postgresql=text.format(rows="{given}"),
        guarded=True,
    )


def _places(columns: Iterable[str], between: str) -> str:
    return between.join(f'"{name}" = ?' for name in columns)


def names(columns: Iterable[str]) -> str:
    """Return the columns as a list for a statement, quoted: ``authorization`` is a keyword of PostgreSQL."""
    return ", ".join(f'"{name}"' for name in columns)


class BulkQuery:
    """A query for `read`, in which each ``{among}`` stands for *is one of these values*.

    All its rows come as one value: SQLite releases the GIL for each row and takes it again, in contention with the
    reactor, and psycopg converts each value. PostgreSQL locks the rows in the order of the key ``lock``, so that
    transactions cannot deadlock.
    """

    def __init__(self, columns: str, rest: str, *, of: sa.Column[Any], lock: str = "") -> None:
        among = "in (select value from json_each(?))"
        self.sqlite = f"(select json_group_array(json_array({columns})) {rest.format(among=among)})"
        # An array: PostgreSQL would plan a subquery here as a join, sometimes a slow one.
        rest = rest.format(among=f"= any(array(select json_array_elements_text(%s::json)::{_type(of)}))")
        self.postgresql = self.unlocked = f"(select json_agg(json_build_array({columns}))::text {rest})"
        if lock:
            # Ordered by row(...): no index has that order, so a plan made for an empty table cannot scan one whole.
            rest = f"from (select {columns} {rest} order by row({lock}) for update) as locked"
            self.postgresql = f"(select json_agg(json_build_array({columns}))::text {rest})"

    def with_values(self, *values: Collection[Any]) -> BoundQuery:
        """Return the query of these values, a collection of them for each ``{among}``."""
        if not any(values):
            return self, []
        return self, [_json(list(each)) for each in values]


BoundQuery = tuple[BulkQuery, list[str]]


Rows = Sequence[Sequence[Any]]


def read(tx: Connection, *queries: BoundQuery) -> list[Rows]:
    """Return the rows of each query, in no order; `parse_timestamp` reads their timestamps, `bool` their truth values.

    All are one statement, and lock their rows in this order. Where a query must wait for a lock, those that lock
    nothing may return what was committed before the wait. On a connection that only reads nothing is locked.
    """
    asked: list[BulkQuery] = []
    values: list[str] = []
    for query, texts in queries:
        if texts:
            asked.append(query)
            values += texts
    found = iter(_fetch(tx, asked, values) if asked else ())
    return [_decoded(next(found)) if texts else () for _, texts in queries]


def _fetch(tx: Connection, queries: list[BulkQuery], values: list[str]) -> Sequence[str | bytes | None]:
    form = tx.dialect.name
    if form == "postgresql" and not is_reading(tx):
        return fetch_row(tx, _as_one_select(form, *queries), values)
    text = _as_one_select("unlocked" if form == "postgresql" else form, *queries)
    row: Sequence[str | None] = execute_raw(tx, text, values).fetchone()
    return row


@lru_cache
def _as_one_select(form: str, *queries: BulkQuery) -> str:
    """Return the statement in this form of the queries: ``sqlite``, ``postgresql`` or ``unlocked``."""
    return f"select {', '.join(getattr(each, form) for each in queries)}"


def _decoded(text: str | bytes | None) -> Rows:
    rows: Rows = () if text is None else msgspec.json.decode(text)
    return rows


_ENCODER = msgspec.json.Encoder()


def _json(values: list[Any]) -> str:
    return _ENCODER.encode(values).decode()


def _type(column: sa.Column[Any]) -> str:
    return next(name for kind, name in _TYPES if isinstance(column.type, kind))
