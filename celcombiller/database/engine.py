"""Engines: SQLite pragmas, PostgreSQL options."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.schema.driver import execute_raw

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.pool import ConnectionPoolEntry

PROGRESS_STEPS = 100_000
"""SQLite looks at the clock after so many steps of a read: about every millisecond."""


CONNECT_SECONDS_LEAST = 2
"""The shortest wait for a connection that libpq knows; with several hosts each has it, so they wait no longer."""


CACHE_KIB = 32 * 1024
"""Of SQLite's pages in memory, for each connection. With a million subscribers its own 2 MiB cost a tenth more CPU."""


_TCP_KEEPALIVE_OPTIONS = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""A host that has not answered TCP for about ten seconds is given up (libpq, 34.1.2); the kernel itself takes hours."""


def open_engine(
    url: str, *, lock_seconds: float, foreign_keys: bool = True, read_seconds: float | None = None
) -> Engine:
    """Make the engine of a database; nothing is connected yet. ``lock_seconds``: how long to wait for another's lock.

    With ``read_seconds`` it only reads, and no transaction (SQLite) or statement (PostgreSQL) takes longer than that:
    see `was_too_slow`. An upgrade of the tables wants ``foreign_keys`` off on SQLite, which cannot change a table that
    others refer to.

    SQLite writes are ``BEGIN IMMEDIATE``: with the driver's own deferred transactions two could read the same
    balance and both spend it. WAL and ``synchronous=FULL`` make a commit outlive a power cut.

    `_TCP_KEEPALIVE_OPTIONS` detect a PostgreSQL that is gone silently (power, cable); where the URL names several
    hosts, the next connection goes to the one that has become the primary.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        options = f"-c lock_timeout={lock_seconds}s"
        how: dict[str, Any] = {}
        if read_seconds is not None:
            options += f" -c statement_timeout={int(read_seconds * 1000)} -c default_transaction_read_only=on"
            if parsed.query.get("target_session_attrs") == "read-write":  # our own sessions here are not
                parsed = parsed.update_query_dict({"target_session_attrs": "primary"})
            # A plan for any value takes the operator's account, on one side of every transfer, for one of a million:
            # so each is planned for its own, but what is told to be prepared.
            how["prepare_threshold"] = sys.maxsize  # None would also be for those
        several = "," in str(parsed.query.get("host", "")) or isinstance(parsed.query.get("host"), tuple)
        connect_seconds = CONNECT_SECONDS_LEAST if several else max(CONNECT_SECONDS_LEAST, int(lock_seconds))
        return sa.create_engine(
            parsed,
            pool_pre_ping=False,
            pool_recycle=1800,
            connect_args={"connect_timeout": connect_seconds, "options": options, **_TCP_KEEPALIVE_OPTIONS, **how},
        )
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
