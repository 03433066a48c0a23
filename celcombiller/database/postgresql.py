"""The engine of a PostgreSQL server: time limits, and the detection of a server that is gone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.schema.driver import ROUND_TRIPS
from celcombiller.database.transaction import doubt_names

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import ConnectionPoolEntry

CONNECT_SECONDS_MIN = 2
"""The shortest connection timeout that libpq knows. It is for each host of a URL, so several hosts get no more."""


_TCP_KEEPALIVE_OPTIONS = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""A host that does not answer TCP for about ten seconds is given up (libpq, 34.1.2); the kernel alone takes hours."""


def open_postgresql(url: sa.URL, *, lock_seconds: float, read_seconds: float | None, application_name: str) -> Engine:
    """Make the engine; parameters as of `open_engine`.

    `_TCP_KEEPALIVE_OPTIONS` detect a server that is gone silently (power, cable). Where the URL names several hosts,
    the next connection goes to the one that has become the primary.
    """
    from celcombiller.database.round_trip import RoundTrips  # noqa: PLC0415  SQLite needs no psycopg

    # A statement whose rows the planner overrates is compiled first (30.1): 0.7 s for one that then takes 1 ms.
    limits = [f"set lock_timeout = '{lock_seconds}s'", "set jit = off"]
    # Names are Unicode, whatever PGCLIENTENCODING says.
    arguments: dict[str, Any] = {"application_name": application_name, "client_encoding": "utf8"}
    if read_seconds is not None:
        limits += [f"set statement_timeout = {int(read_seconds * 1000)}", "set default_transaction_read_only = on"]
        if url.query.get("target_session_attrs") == "read-write":  # these sessions are read-only everywhere
            url = url.update_query_dict({"target_session_attrs": "primary"})
        # A generic plan takes the operator's account, one side of every transfer, for one account of a million. So each
        # statement is planned for its values, except where the code asks to prepare it (None would forbid that too).
        arguments["prepare_threshold"] = sys.maxsize
    has_several_hosts = "," in str(url.query.get("host", "")) or isinstance(url.query.get("host"), tuple)
    connect_seconds = CONNECT_SECONDS_MIN if has_several_hosts else max(CONNECT_SECONDS_MIN, int(lock_seconds))
    engine = sa.create_engine(
        url,
        pool_pre_ping=False,
        pool_recycle=1800,
        connect_args={"connect_timeout": connect_seconds, **_TCP_KEEPALIVE_OPTIONS, **arguments},
    )

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: psycopg.Connection, record: ConnectionPoolEntry) -> None:
        """Set the limits of the session. As parameters of the start, PgBouncer would refuse or ignore them."""
        connection.autocommit = True
        connection.execute("; ".join(limits), prepare=False)
        connection.autocommit = False
        record.info[ROUND_TRIPS] = RoundTrips(connection)

    # psycopg may deallocate all that is prepared when it rolls back, to a savepoint too.
    @sa.event.listens_for(engine, "rollback")
    @sa.event.listens_for(engine, "rollback_savepoint")
    def _rolled_back(connection: sa.Connection, *_savepoint: object) -> None:
        if not connection.invalidated:
            doubt_names(connection.info)

    @sa.event.listens_for(engine, "reset")
    def _reset(_connection: psycopg.Connection, record: ConnectionPoolEntry | None, _state: object) -> None:
        if record is not None:  # else it is closed now, outside the pool
            doubt_names(record.info)

    return engine
