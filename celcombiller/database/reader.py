"""Reads from the reactor: lists and look-ups, nothing that moves credit.

A single statement goes through alchimia; each of its steps is a hop to a thread, so what takes several statements
runs whole in one hop (`Reader.read`), beside the thread that writes. alchimia 0.8.1 fails to import on SQLAlchemy 2
only because a class it never uses there is gone; the stub below stands in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import exc
from sqlalchemy.engine import strategies

if not hasattr(strategies, "DefaultEngineStrategy"):
    strategies.DefaultEngineStrategy = type("DefaultEngineStrategy", (), {})  # type: ignore[attr-defined]

from alchimia.engine import TwistedEngine
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004  Twisted's own name
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from celcombiller.core.errors import StoreUnavailable, TooSlow
from celcombiller.database.transaction import means_not_now, transact, unavailable, was_too_slow
from celcombiller.runtime import cpu_affinity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import sqlalchemy as sa

T = TypeVar("T")

READING_THREADS = 2
"""More would get in each other's and the reactor's way: what reading costs is mostly Python, one thread at a time."""
READ_SECONDS_MAX = 5.0
"""What a read may take, on an engine that was opened with it: a `like` made to be slow must not keep a thread."""


class _PoolWorker:
    """A worker as alchimia wants one, on a thread pool that it shares instead of a thread for each connection."""

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool

    def do(self, work: Callable[[], object]) -> None:
        self._pool.callInThread(work)

    def quit(self) -> None:
        """Nothing of its own to end."""


class Reader:
    """Reads for the reactor: each sees what was committed when it began."""

    def __init__(self, reactor: Any, engine: sa.Engine) -> None:
        pool = reactor.getThreadPool()
        self.reactor = reactor
        self._reading = engine.execution_options(reading=True)
        if engine.dialect.name == "postgresql":
            # There each statement of a transaction sees what is committed when it begins itself, as one without does;
            # and a transaction costs two round trips.
            self._reading = self._reading.execution_options(isolation_level="AUTOCOMMIT")
        self._threads = ThreadPool(1, READING_THREADS, "reading")
        self._threads.threadFactory = cpu_affinity.UnpinnedThread
        self._engine = TwistedEngine.from_sqlalchemy_engine(
            reactor, self._reading, create_worker=lambda: _PoolWorker(pool)
        )

    def start(self) -> None:
        """Start the threads of `read`."""
        self._threads.start()

    def stop(self) -> None:
        """End them, after what they are at."""
        self._threads.stop()
        self._reading.dispose()

    async def read(self, work: Callable[[sa.Connection], T], *, within_seconds: float | None = None) -> T:
        """Do ``work`` in a transaction that only reads. Raises `TooSlow` when it takes the database too long.

        Past ``within_seconds`` it is not waited for any more, whatever the thread is waiting for.
        """
        doing: Deferred[T] = deferToThreadPool(self.reactor, self._threads, self._whole, work)
        if within_seconds is None:
            return await doing
        try:
            return await doing.addTimeout(within_seconds, self.reactor)
        except TimeoutError:
            raise TooSlow(f"the database did not answer in {within_seconds} s") from None

    def _whole(self, work: Callable[[sa.Connection], T]) -> T:
        try:
            return transact(self._reading, work)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, exc.DBAPIError) and was_too_slow(error.__cause__):
                raise TooSlow(f"this takes more than {READ_SECONDS_MAX} s: ask for less") from error
            raise

    async def fetch(self, statement: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        """Give the rows of one statement. Raises `StoreUnavailable`."""
        try:
            try:
                return await self._fetch(statement)
            except exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            return await self._fetch(statement)  # the pool was left with connections to a database that has gone
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
