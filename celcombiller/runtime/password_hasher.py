"""Passwords: hashed and checked by Argon2id (RFC 9106, the library's own parameters), in threads of their own.

A hash takes tens of milliseconds and 64 MiB by design; two at a time are enough for people, and leave the machine to
calls.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from argon2.exceptions import InvalidHashError, VerificationError
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from celcombiller.core.errors import TooManyAttempts
from celcombiller.runtime import cpu_affinity
from celcombiller.runtime.password_hash import HASHER

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

THREADS = 2
NICENESS_LAST = 10
"""Behind the reactor, but not so far that a thread waits long for a core while it holds Python's lock."""
WAITING_MAX = 400
"""Logins that may wait for a thread: about half a minute's work. More are told to come again."""


class Passwords:
    """Hash and check off the reactor's thread."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(1, THREADS, "passwords")
        self._pool.threadFactory = cpu_affinity.UnpinnedThread
        self._nobodys = ""
        self._waiting = 0

    def start(self) -> None:
        """Start the threads."""
        self._pool.start()

    def stop(self) -> None:
        """End them, after what they are at."""
        self._pool.stop()

    async def hash(self, password: str) -> str:
        """Return the hash to keep."""
        return await self._off(lambda: HASHER.hash(password))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Return whether this is the password; without a hash the answer is no, and takes as long."""
        return await self._off(lambda: self._verify(hashed, password))

    @staticmethod
    def is_outdated(hashed: str) -> bool:
        """Return whether the hash was made with weaker parameters than today's."""
        return HASHER.check_needs_rehash(hashed)

    def _verify(self, hashed: str | None, password: str) -> bool:
        if hashed is None:
            self._nobodys = self._nobodys or HASHER.hash("nobody has this password")
        try:
            HASHER.verify(hashed or self._nobodys, password)
        except (VerificationError, InvalidHashError):
            return False
        return hashed is not None

    async def _off(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING_MAX:
            raise TooManyAttempts("too many logins at once", 10)
        self._waiting += 1
        try:
            done: T = await deferToThreadPool(self._reactor, self._pool, _last_in_line, work)
        finally:
            self._waiting -= 1
        return done


def _last_in_line(work: Callable[[], T]) -> T:
    """Work when no other thread wants the core: a hash keeps four at it, and the reactor would wait for its turn."""
    if sys.platform == "linux":  # where a thread has a priority of its own, and hands it on to those it starts
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS_LAST)
    return work()
