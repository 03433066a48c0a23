"""The engine of a SQLite file: pragmas, ``BEGIN IMMEDIATE``, and a time limit for reads."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.schema.driver import execute_raw

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.pool import ConnectionPoolEntry

PROGRESS_STEPS = 100_000
"""SQLite compares the clock with the limit of a read every so many steps: about every millisecond."""


CACHE_KIB = 32 * 1024
"""Page cache of each connection. With a million subscribers, SQLite's default of 2 MiB cost a tenth more CPU."""


def open_sqlite(url: sa.URL, *, lock_seconds: float, foreign_keys: bool, read_seconds: float | None) -> Engine:
    """Make the engine; parameters as of `open_engine`.

    Transactions that write are ``BEGIN IMMEDIATE``: with the driver's own deferred transactions, two could read the
    same balance and both spend it. WAL and ``synchronous=FULL`` make a commit outlive a power cut.
    """
    engine = sa.create_engine(url, connect_args={"timeout": lock_seconds, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        enforced = "on" if foreign_keys else "off"
        for pragma in ("journal_mode=wal", "synchronous=full", f"foreign_keys={enforced}", f"cache_size=-{CACHE_KIB}"):
            connection.execute(f"pragma {pragma}")
        if read_seconds is not None:
            connection.execute("pragma query_only=on")
            info = record.info
            connection.set_progress_handler(lambda: time.monotonic() > info["ends_at"], PROGRESS_STEPS)

    @sa.event.listens_for(engine, "begin")
    def _began(connection: Connection) -> None:
        reading = read_seconds is not None or connection.get_execution_options().get("reading")
        connection.info["ends_at"] = time.monotonic() + (read_seconds or math.inf)
        execute_raw(connection, "BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine
