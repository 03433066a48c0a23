"""One biller per SQLite file."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

from celcombiller.core.errors import StoreUnavailable
from celcombiller.database.ledger_file import OWNER_ONLY, check_ledger_file, path_of

if TYPE_CHECKING:
    from pathlib import Path


class BillerRuns(StoreUnavailable):
    """Another biller has the lock."""


class InstanceLock:
    """The lock of one process on one SQLite file.

    The kernel holds it, so it ends with the process, also after a crash. It is on the file itself: by whatever path,
    symbolic or hard link the file is reached, the lock is the same. SQLite's own locks are of another kind, so the
    operator's command works beside it. Programs before it locked ``FILE.lock`` alone; this locks that file as well.
    """

    def __init__(self, path: Path) -> None:
        self._handles: list[int] = []
        real = path.resolve()
        try:
            self._lock(real, os.open(real, os.O_RDONLY | os.O_CLOEXEC))
            beside = f"{real}.lock"
            self._lock(real, os.open(beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, OWNER_ONLY))
        except OSError as error:
            self.close()
            if error.errno == errno.ELOOP:
                raise StoreUnavailable(f"{real}.lock: is a symbolic link: remove it") from None
            raise StoreUnavailable(f"{error.filename or real}: cannot be locked: {error.strerror}") from None
        except StoreUnavailable:
            self.close()
            raise

    def _lock(self, path: Path, handle: int) -> None:
        self._handles.append(handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BillerRuns(
                f"{path}: another biller runs on this SQLite file; several need PostgreSQL (database.url)"
            ) from None

    def close(self) -> None:
        """Release the lock."""
        for handle in self._handles:
            os.close(handle)
        self._handles.clear()


def lock_database_file(url: str) -> InstanceLock | None:
    """Lock a SQLite file against a second biller: two processes that write it only wait for each other.

    Returns None for other databases. Raises `BillerRuns` when another biller has the lock, and `StoreUnavailable` for a
    file that cannot be used.
    """
    path = path_of(url)
    if path is None:
        return None
    check_ledger_file(path)
    return InstanceLock(path)


def check_hard_links(url: str) -> None:
    """Raise `StoreUnavailable` for a SQLite file with several names under a running biller.

    SQLite keeps its journal beside the name that a program opens. Two programs that use two names corrupt the file
    ("How To Corrupt An SQLite Database File", 2.5).
    """
    path = path_of(url)
    if path is None or not path.exists() or path.stat().st_nlink == 1:
        return
    try:
        InstanceLock(path).close()
    except BillerRuns:
        raise BillerRuns(f"{path}: has another name (a hard link), and a biller runs on it: remove the link") from None
