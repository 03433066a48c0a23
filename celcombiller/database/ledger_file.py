"""The file of a SQLite ledger: where it is, whether it can be one, who may read it, and its copies."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER_ONLY = 0o600
"""The mode of the ledger and of its copies. SQLite gives its ``-wal``, ``-shm`` and journal the same."""

_COPY_PAGES = 1000
"""Pages that a copy takes at once. A writer may work between two such steps."""


def path_of(url: str | sa.URL) -> Path | None:
    """Return the absolute path of the file of a SQLite URL; None for a database in memory and for other databases."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database)).absolute()


def check_ledger_file(path: Path) -> None:
    """Raise `StoreUnavailable` unless there is a file that this process may write. Only `create_ledger_file` makes one.

    What a program opens by mistake (a folder, a pipe, a device) is refused here: SQLite would wait for some of them.
    """
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        raise StoreUnavailable(
            f"there is no database file {path}: make it by `celcombiller init`, or correct database.url"
        ) from None
    except (OSError, ValueError) as error:
        raise StoreUnavailable(f"{path}: cannot be opened: {_reason(error)}") from None
    if not stat.S_ISREG(kind):
        raise StoreUnavailable(f"{path}: is not a file: correct database.url")
    if not os.access(path, os.R_OK | os.W_OK):
        raise StoreUnavailable(f"{path}: may not be read and written by this user: run this as its owner")


def create_ledger_file(path: Path) -> bool:
    """Create an empty file that only its owner may read, whatever the umask; return whether there was none.

    Raises `StoreUnavailable`.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, OWNER_ONLY))
    except FileExistsError:
        return False
    except FileNotFoundError:
        raise StoreUnavailable(f"database.url: the folder {path.parent} does not exist") from None
    except (OSError, ValueError) as error:
        raise StoreUnavailable(f"{path}: cannot be made: {_reason(error)}") from None
    return True


def files_of(path: Path) -> Iterator[Path]:
    """Yield the ledger's file and those beside it that hold a part of it, as far as they exist."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        each = path.with_name(path.name + suffix)
        if each.exists():
            yield each


def restrict_files(path: Path) -> list[Path]:
    """Let only the owner read the files of a ledger that everyone could read; return them.

    A mode that lets a group in was set by an operator, and stays.
    """
    changed = []
    for each in files_of(path):
        if each.stat().st_mode & stat.S_IRWXO:
            with suppress(PermissionError):  # another user's; `doctor` reports it
                each.chmod(OWNER_ONLY)
                changed.append(each)
    return changed


def copy_ledger_file(path: Path, target: Path) -> None:
    """Copy a ledger in use, as it is at one moment, to a new file for its owner only. Raises `StoreUnavailable`.

    The copy has its name only once it is whole and on the disk.
    """
    unfinished = target.with_name(f"{target.name}.unfinished")
    if target.exists() or not create_ledger_file(unfinished):
        raise StoreUnavailable(f"{target if target.exists() else unfinished}: exists already: name another file")
    try:
        with (
            closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(unfinished)) as copy,
        ):
            source.backup(copy, pages=_COPY_PAGES)
            copy.execute("pragma journal_mode=delete")  # one file, with nothing beside it
        _sync(unfinished)
        unfinished.rename(target)
        _sync(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{target}: the copy failed: {_reason(error)}") from None
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
