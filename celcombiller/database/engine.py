"""The engine of a database URL: SQLite or PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.database.postgresql import open_postgresql
from celcombiller.database.sqlite import open_sqlite

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


def open_engine(
    url: str,
    *,
    lock_seconds: float,
    foreign_keys: bool = True,
    read_seconds: float | None = None,
    application_name: str = "celcombiller",
) -> Engine:
    """Make the engine of a database; it does not connect yet, and never makes a SQLite file.

    ``lock_seconds``: how long to wait for a lock of another connection. With ``read_seconds`` the engine only reads,
    and no transaction (SQLite) or statement (PostgreSQL) takes longer: see `was_too_slow`. An upgrade of the tables
    needs ``foreign_keys`` off on SQLite, which cannot change a table that others refer to. PostgreSQL shows who is
    connected by ``application_name``.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return open_sqlite(parsed, lock_seconds=lock_seconds, foreign_keys=foreign_keys, read_seconds=read_seconds)
    return open_postgresql(
        parsed, lock_seconds=lock_seconds, read_seconds=read_seconds, application_name=application_name
    )
