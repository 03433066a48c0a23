"""The engine of a SQLite file: pragmas, ``BEGIN IMMEDIATE``, and a time limit for reads."""

from __future__ import annotations

import math
import sqlite3
import time
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.schema.driver import execute_raw
from celcombiller.database.ledger_file import path_of

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.pool import ConnectionPoolEntry

PROGRESS_STEPS = 100_000
"""SQLite compares the clock with the limit of a read every so many steps: about every millisecond."""


CACHE_KIB = 32 * 1024
"""Page cache of each connection. With a million subscribers, SQLite's default of 2 MiB cost a tenth more CPU."""


def open_sqlite(url: sa.URL, *, lock_seconds: float, foreign_keys: bool, read_seconds: float | None) -> Engine:
    """Make the engine; parameters as of `open_engine`.

    Transactions that write are ``BEGIN IMMEDIATE``: with the driver's own deferred transactions, two could read the
    same balance and both spend it. WAL and ``synchronous=FULL`` make a commit outlive a power cut. A file that does not
    exist is never made here: a second, empty ledger would be sold into.
    """
    path = path_of(url)
    name = ":memory:" if path is None else f"{path.as_uri()}?mode=rw"
    enforced = "on" if foreign_keys else "off"

    def connect() -> sqlite3.Connection:
        made = sqlite3.connect(
            name, uri=path is not None, timeout=lock_seconds, check_same_thread=False, isolation_level=None
        )
        try:
            if made.execute("pragma journal_mode").fetchone() != ("wal",) and _is_empty_or_ledger(made):
                made.execute("pragma journal_mode=wal")
            for pragma in ("synchronous=full", f"foreign_keys={enforced}", f"cache_size=-{CACHE_KIB}"):
                made.execute(f"pragma {pragma}")
        except sqlite3.Error:  # the file is no database, or another program keeps it locked
            made.close()
            raise
        return made

    engine = sa.create_engine(url, creator=connect)

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        if read_seconds is not None:
            connection.execute("pragma query_only=on")
            info = record.info
            connection.set_progress_handler(lambda: time.monotonic() > info["ends_at"], PROGRESS_STEPS)

    @sa.event.listens_for(engine, "begin")
    def _began(connection: Connection) -> None:
        reading = read_seconds is not None or connection.get_execution_options().get("reading")
        connection.info["ends_at"] = time.monotonic() + (read_seconds or math.inf)
        if not connection.connection.in_transaction:  # `transaction.begin` has not
            execute_raw(connection, "BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _is_empty_or_ledger(connection: sqlite3.Connection) -> bool:
    """Return whether the journal mode, which stays in the file, may be set: not in a file of another program."""
    names = {name for (name,) in connection.execute("select name from sqlite_master")}
    return not names or {"subscriber", "transfer"} <= names
