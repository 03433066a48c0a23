"""One biller per SQLite file."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from celcombiller.core.errors import StoreUnavailable


def lock_database_file(url: str) -> Any:
    """Lock a SQLite file against a second biller: two processes that write it only wait for each other.

    The kernel holds the lock, so it ends with the process, also after a crash. The operator's command still works.
    Returns None for other databases. Raises `StoreUnavailable` when another biller has the lock.
    """
    database = sa.make_url(url)
    if database.get_backend_name() != "sqlite" or database.database in (None, "", ":memory:"):
        return None
    try:
        lock = Path(f"{database.database}.lock").open("w")  # noqa: SIM115  held for the life of the process
    except OSError as error:
        raise StoreUnavailable(f"{database.database}: cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StoreUnavailable(
            f"{database.database}: another biller runs on this SQLite file; several need PostgreSQL (database.url)"
        ) from None
    return lock
