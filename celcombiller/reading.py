"""Reads of a single statement, from the reactor, through alchimia: lists and look-ups, nothing that moves credit.

alchimia 0.8.1 fails to import on SQLAlchemy 2 only because a class it never uses there is gone; the stub below stands
in its place. Each of its steps is a hop to a thread, so a unit of work goes through `celcombiller.store` instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import strategies

if not hasattr(strategies, "DefaultEngineStrategy"):
    strategies.DefaultEngineStrategy = type("DefaultEngineStrategy", (), {})  # type: ignore[attr-defined]

from alchimia.engine import TwistedEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import sqlalchemy as sa
    from twisted.python.threadpool import ThreadPool


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
        self._engine = TwistedEngine.from_sqlalchemy_engine(
            reactor, engine.execution_options(reading=True), create_worker=lambda: _PoolWorker(pool)
        )

    async def fetch(self, statement: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        """Give the rows of one statement."""
        connection = await self._engine.connect()
        try:
            rows: Sequence[sa.Row[Any]] = await (await connection.execute(statement)).fetchall()
            return rows
        finally:
            await connection.close()
