"""The one door to the database: engines, transactions, the writing thread, bounded retry, natural batching.

Everything that writes passes through one thread. What arrives while a transaction runs is done together in the next
one, so one commit (one sync of the disk) serves all; alone, a request waits for nobody. Nothing is answered before
its commit. A request may be done twice (a lost connection at the commit leaves its fate unknown), so whatever moves
credit carries an id made by its sender.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import exc
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from celcombiller.core.errors import BillerError, StoreUnavailable
from celcombiller.core.schema.driver import execute_raw
from celcombiller.database.transaction import means_not_now, retry_transient, unavailable
from celcombiller.runtime.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Connection, Engine
    from twisted.internet.interfaces import IDelayedCall

T = TypeVar("T")


BATCH_MAX = 1000
"""Requests in one transaction at most: enough to be limited by the work and not by the disk, short enough to wait."""


DEFERRED_BATCH_SECONDS = 0.03
"""So long what nobody waits for is gathered; not until the next request, which may be a call that is to be dialled."""


@dataclass(slots=True)
class _Task(Generic[T]):
    """One thing to do in the writing thread: a request of a batch, or a unit of work of its own."""

    work: Callable[[Connection], T] | None
    request: Any
    answer: Deferred[T]


class BatchWriter:
    """The door as the reactor sees it: `charge` for the requests of calls, `transact` for any other unit of work."""

    _log = Logger()

    def __init__(self, reactor: Any, engine: Engine, perform: Any, metrics: Metrics | None = None) -> None:
        self._reactor = reactor
        self._engine = engine
        self._perform = perform
        self._queue: queue.SimpleQueue[_Task[Any] | None] = queue.SimpleQueue()
        self._gathered: list[_Task[Any]] = []
        self._gathered_later: list[_Task[Any]] = []
        self._later: IDelayedCall | None = None
        self._thread: threading.Thread | None = None
        self._closed: Deferred[None] = Deferred()
        self._connection: Connection | None = None
        self._metrics = metrics or Metrics()
        self._metrics.waiting_requests.set_function(self._queue.qsize)

    def start(self) -> None:
        """Start the writing thread."""
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def close(self) -> Deferred[None]:
        """Finish what was asked, then end; fires when the last answer was given."""
        if self._later is not None and self._later.active():
            self._later.cancel()
        self._hand_over(self._gathered)
        self._hand_over(self._gathered_later)
        self._queue.put(None)
        return self._closed

    def charge(self, request: Any, *, soon: bool = True) -> Deferred[Any]:
        """Do a request in the next batch; fires with its answer, or fails with its `BillerError`, after the commit.

        One that is not wanted ``soon`` is done together with others that are not, in `DEFERRED_BATCH_SECONDS`.
        """
        asked: _Task[Any] = _Task(None, request, Deferred())
        if soon:
            return self._ask(asked)
        if not self._gathered_later:
            self._later = self._reactor.callLater(DEFERRED_BATCH_SECONDS, self._hand_over, self._gathered_later)
        self._gathered_later.append(asked)
        return asked.answer

    def transact(self, work: Callable[[Connection], T]) -> Deferred[T]:
        """Do ``work`` in a transaction of its own. It may run twice, so it must touch nothing but its transaction."""
        return self._ask(_Task(work, None, Deferred()))

    def _ask(self, asked: _Task[T]) -> Deferred[T]:
        if not self._gathered:
            self._reactor.callLater(0, self._hand_over, self._gathered)
        self._gathered.append(asked)
        return asked.answer

    def _hand_over(self, gathered: list[_Task[Any]]) -> None:
        """Let the writing thread have all that one turn of the reactor asked: one by one it would begin with one."""
        for each in gathered:
            self._queue.put(each)
        gathered.clear()

    # -- in the writing thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        last = False
        while not last:
            taken = [self._queue.get()]
            while len(taken) < BATCH_MAX:
                try:
                    taken.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            last = None in taken
            asked = [each for each in taken if each is not None]
            requests = [each for each in asked if each.work is None]
            if requests:
                self._metrics.batch_requests.observe(len(requests))
                self._deliver(requests, self._batch([each.request for each in requests]))
            for each in asked:
                if each.work is not None:
                    self._deliver([each], [self._guarded(each.work)])
        self._disconnect()
        self._reactor.callFromThread(self._closed.callback, None)

    def _batch(self, requests: list[Any]) -> Sequence[Any]:
        """Do a batch; if it fails as a whole, do its requests one at a time, so that none spoils another."""

        def work(tx: Connection) -> Sequence[Any]:
            answers: Sequence[Any] = self._perform(tx, requests, datetime.now(UTC))
            return answers

        result = self._guarded(work)
        if not isinstance(result, Failure):
            answers: Sequence[Any] = result
            return answers
        if len(requests) == 1 or result.check(StoreUnavailable):
            return [result] * len(requests)
        return [answer for request in requests for answer in self._batch([request])]

    def _guarded(self, work: Callable[[Connection], T]) -> T | Failure:
        try:
            return retry_transient(partial(self._once, work))
        except (BillerError, exc.IntegrityError, exc.DataError):
            return Failure()
        except Exception as error:  # noqa: BLE001  whatever it was belongs to who asked, not to this thread
            self._drop_connection()
            return Failure(unavailable(error)) if means_not_now(error) else Failure()

    def _once(self, work: Callable[[Connection], T]) -> T:
        if self._connection is None or self._connection.invalidated:
            self._disconnect()
            self._connection = self._connected()
        with self._connection.begin():
            done = work(self._connection)
            began = time.perf_counter()
        self._metrics.commit_seconds.observe(time.perf_counter() - began)
        return done

    def _connected(self) -> Connection:
        """Connect; PostgreSQL shall find by their indexes what calls ask for.

        It keeps the plan that it made for batches while the tables were small, which is to read them from end to end:
        until it next looked at how large they had become, a call cost it six times as much (measured).
        """
        made = self._engine.connect()
        if made.dialect.name == "postgresql":
            for way in ("seqscan", "hashjoin", "mergejoin"):
                execute_raw(made, f"set enable_{way} = off")
            made.commit()
        return made

    def _drop_connection(self) -> None:
        """Have the next request make a new connection: a session may stay read only when its server no longer is."""
        if self._connection is not None:
            self._connection.invalidate()
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _deliver(self, asked: Sequence[_Task[Any]], answers: Sequence[Any]) -> None:
        """Give a whole batch its answers in one hop to the reactor."""
        self._reactor.callFromThread(self._give, list(zip(asked, answers, strict=True)))

    @staticmethod
    def _give(answered: list[tuple[_Task[Any], Any]]) -> None:
        for each, answer in answered:
            if isinstance(answer, BillerError | Failure):
                each.answer.errback(answer)
            else:
                each.answer.callback(answer)
