"""Reads from the reactor: lists and look-ups that never move credit.

A single statement goes through alchimia. Each of its steps is a hop to a thread, so work of several statements runs
whole in one hop (`Reader.read`), beside the writing thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import exc
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004  Twisted's own name
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from celcombiller.core.errors import StoreUnavailable, TooSlow
from celcombiller.database.alchimia_compat import TwistedEngine
from celcombiller.database.transaction import (
    means_not_now,
    reading_one_snapshot,
    transact,
    unavailable,
    was_too_slow,
)
from celcombiller.runtime.process import cpu_affinity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import sqlalchemy as sa

T = TypeVar("T")

READING_THREADS = 2
"""More threads would only add GIL contention: most of the cost of a read is Python."""
READ_SECONDS_MAX = 5.0
"""Time limit of a read, on an engine opened with it: a `like` that is slow on purpose must not keep a thread."""


class _PoolWorker:
    """alchimia's interface of a worker, on a shared thread pool in place of one thread a connection."""

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool

    def do(self, work: Callable[[], object]) -> None:
        self._pool.callInThread(work)

    def quit(self) -> None:
        """Do nothing: the pool is not this worker's."""


def only_reading(engine: sa.Engine) -> sa.Engine:
    """Return the engine for transactions that only read."""
    reading = engine.execution_options(reading=True)
    if engine.dialect.name == "postgresql":
        # At read committed a statement sees the same with and without a transaction, which costs two round trips.
        return reading.execution_options(isolation_level="AUTOCOMMIT")
    return reading


def read_whole(engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
    """Do ``work`` in a transaction of this thread. Raises `TooSlow` when the database takes too long."""
    try:
        return transact(engine, work)
    except StoreUnavailable as error:
        if isinstance(error.__cause__, exc.DBAPIError) and was_too_slow(error.__cause__):
            raise TooSlow(f"this takes more than {READ_SECONDS_MAX} s: ask for less") from error
        raise


class Reader:
    """Reads for the reactor; each sees what was committed before it began."""

    def __init__(self, reactor: Any, engine: sa.Engine) -> None:
        pool = reactor.getThreadPool()
        self.reactor = reactor
        self._reading = only_reading(engine)
        self._threads = ThreadPool(1, READING_THREADS, "reading")
        self._threads.threadFactory = cpu_affinity.UnpinnedThread
        self._engine = TwistedEngine.from_sqlalchemy_engine(
            reactor, self._reading, create_worker=lambda: _PoolWorker(pool)
        )

    def start(self) -> None:
        """Start the threads of `read`."""
        self._threads.start()

    def stop(self) -> None:
        """Stop the threads after the reads they are doing."""
        self._threads.stop()
        self._reading.dispose()

    async def read(self, work: Callable[[sa.Connection], T], *, within_seconds: float | None = None) -> T:
        """Do ``work`` in a transaction that only reads. Raises `TooSlow` when the database takes too long.

        After ``within_seconds`` the caller stops waiting, whatever the thread still waits for.
        """
        result: Deferred[T] = deferToThreadPool(self.reactor, self._threads, read_whole, self._reading, work)
        if within_seconds is None:
            return await result
        try:
            return await result.addTimeout(within_seconds, self.reactor)
        except TimeoutError:
            raise TooSlow(f"the database did not answer in {within_seconds} s") from None

    async def read_snapshot(self, work: Callable[[sa.Connection], T]) -> T:
        """Do ``work`` as `read` does, with all its statements on the database as it is at the first of them."""
        engine = reading_one_snapshot(self._reading)
        return await deferToThreadPool(self.reactor, self._threads, read_whole, engine, work)

    async def fetch(self, statement: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        """Return the rows of one statement. Raises `StoreUnavailable`."""
        try:
            try:
                return await self._fetch(statement)
            except exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            return await self._fetch(statement)  # the pool still had connections to a database that is gone
        except exc.DBAPIError as error:
            if not means_not_now(error):
                raise
            raise unavailable(error) from error

    async def _fetch(self, statement: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        connection = await self._engine.connect()
        try:
            rows: Sequence[sa.Row[Any]] = await (await connection.execute(statement)).fetchall()
            return rows
        finally:
            await connection.close()
