"""One biller per SQLite file."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from celcombiller.core.errors import StoreUnavailable


def lock_database_file(url: str) -> Any:
    """Keep a second biller off a SQLite file: one process writes it well, two only wait for each other.

    The lock is the kernel's, so it ends with the process however that ends. The operator's command works meanwhile.
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
