"""Passwords: hashed and checked by Argon2id (RFC 9106, the library's own parameters), in threads of their own.

A hash takes tens of milliseconds and 64 MiB by design; two at a time are enough for people, and leave the machine to
calls. Who waits for one stands in a line: logins before changes of passwords; those of RADIUS and of the API take
turns, and so do the principals who change passwords, with one change at a time each. No one holds others up by
asking often.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from argon2.exceptions import InvalidHashError, VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from celcombiller.core.errors import TooManyAttempts
from celcombiller.runtime.credentials.password_hash import HASHER
from celcombiller.runtime.process import cpu_affinity

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

T = TypeVar("T")

THREADS = 2
NICENESS_LAST = 10
"""Behind the reactor, but not so far that a thread waits long for a core while it holds the GIL."""
WAITING_MAX = 400
"""Logins that may wait for a thread: about half a minute's work. More are asked to come again."""
SHARE = 10
"""Of the changes that may wait, one principal's are one in so many at most."""
COME_AGAIN_SECONDS = 10


class FairQueue(Generic[T]):
    """What waits, by its key: the keys take turns, and each key's things keep their order."""

    def __init__(self) -> None:
        self._by_key: OrderedDict[str, deque[T]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def count(self, key: str) -> int:
        """Return how many things wait under this key."""
        return len(self._by_key.get(key, ()))

    def add(self, key: str, thing: T) -> None:
        """Put a thing at the end of its key's line."""
        self._by_key.setdefault(key, deque()).append(thing)
        self._count += 1

    def take(self, busy: Collection[str] = ()) -> tuple[str, T] | None:
        """Take the next thing, of no key that is busy; None: there is none."""
        key = next((each for each in self._by_key if each not in busy), None)
        if key is None:
            return None
        line = self._by_key.pop(key)
        thing = line.popleft()
        self._count -= 1
        if line:
            self._by_key[key] = line
        return key, thing

    def remove(self, key: str, thing: T) -> None:
        """Take out a thing that need not be done any more; one that was taken already is no error."""
        line = self._by_key.get(key)
        if line is None or thing not in line:
            return
        line.remove(thing)
        self._count -= 1
        if not line:
            del self._by_key[key]


class _Task:
    """One piece of work, and who waits for it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.done: Deferred[Any] | None = None


class Passwords:
    """Hash and check off the reactor's thread.

    ``waiting_max`` is how many logins may wait, and how many changes. ``on_full`` is called when one is refused.
    """

    def __init__(
        self, reactor: Any, waiting_max: int = WAITING_MAX, on_full: Callable[[], object] = lambda: None
    ) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(1, THREADS, "passwords")
        self._pool.threadFactory = cpu_affinity.UnpinnedThread
        self._absent_hash = ""
        self._waiting_max = waiting_max
        self._on_full = on_full
        self._logins: FairQueue[_Task] = FairQueue()
        self._changes: FairQueue[_Task] = FairQueue()
        self._changing: set[str] = set()
        self._running = 0

    def start(self) -> None:
        """Start the threads."""
        self._pool.start()

    def stop(self) -> None:
        """End them, after what they are at."""
        self._pool.stop()

    def count_waiting(self) -> int:
        """Return how many passwords wait for a thread."""
        return len(self._logins) + len(self._changes)

    async def hash(self, password: str, principal: str = "") -> str:
        """Return the hash to keep of a password that a principal sets. Raises `TooManyAttempts`."""
        hashed: str = await self._change(principal, lambda: HASHER.hash(password))
        return hashed

    async def verify_own(self, hashed: str | None, password: str, principal: str) -> bool:
        """Return whether this is the password of a principal who is logged in, and sets another one.

        It waits with their other changes, so that they hold no login back. Raises `TooManyAttempts`.
        """
        right: bool = await self._change(principal, lambda: self._verify(hashed, password))
        return right

    async def _change(self, principal: str, work: Callable[[], Any]) -> Any:
        own = self._changes.count(principal)
        is_full = len(self._changes) >= self._waiting_max or own * SHARE >= self._waiting_max
        return await self._wait(self._changes, principal, work, is_full=is_full)

    async def verify(self, hashed: str | None, password: str, source: str = "") -> bool:
        """Return whether this is the password; without a hash the answer is no, and takes as long.

        ``source`` is what asks: each has its own line. Raises `TooManyAttempts`.
        """
        is_full = self._logins.count(source) >= self._waiting_max
        right: bool = await self._wait(self._logins, source, lambda: self._verify(hashed, password), is_full=is_full)
        return right

    @staticmethod
    def is_outdated(hashed: str) -> bool:
        """Return whether the hash was made with weaker parameters than today's."""
        return HASHER.check_needs_rehash(hashed)

    def _verify(self, hashed: str | None, password: str) -> bool:
        if hashed is None:
            self._absent_hash = self._absent_hash or HASHER.hash("the password of no account")
        try:
            HASHER.verify(hashed or self._absent_hash, password)
        except (VerificationError, InvalidHashError):
            return False
        return hashed is not None

    async def _wait(self, queue: FairQueue[_Task], key: str, work: Callable[[], Any], *, is_full: bool) -> Any:
        if is_full:
            self._on_full()
            raise TooManyAttempts("too many passwords wait to be checked", COME_AGAIN_SECONDS)
        task = _Task(work)
        task.done = Deferred(lambda _cancelled: queue.remove(key, task))
        queue.add(key, task)
        self._dispatch()
        return await task.done

    def _dispatch(self) -> None:
        while self._running < THREADS:
            taken = self._logins.take()
            changing = None
            if taken is None:
                taken = self._changes.take(self._changing)
                if taken is None:
                    return
                changing = taken[0]
                self._changing.add(changing)
            self._running += 1
            working = deferToThreadPool(self._reactor, self._pool, _last_in_line, taken[1].work)
            working.addBoth(self._end, taken[1], changing)

    def _end(self, result: Any, task: _Task, changing: str | None) -> None:
        self._running -= 1
        self._changing.discard(changing or "")
        if task.done is not None and not task.done.called:
            task.done.callback(result)
        self._dispatch()


def _last_in_line(work: Callable[[], T]) -> T:
    """Work when no other thread wants the core: a hash keeps four at it, and the reactor would wait for its turn."""
    if sys.platform == "linux":  # where a thread has a priority of its own, and hands it on to those it starts
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS_LAST)
    return work()
