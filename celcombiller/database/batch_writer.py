"""The writing thread: every write of the service passes through it, in batches (group commit).

Requests that arrive while a transaction runs share the next transaction, so one commit (one sync of the disk) serves
all of them; a request that is alone does not wait for others. No request is answered before its commit. A request may
be processed twice (a connection lost at the commit leaves its outcome unknown), so whatever moves credit carries an id
made by its sender.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from sqlalchemy import exc
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from celcombiller.core.errors import BillerError, StoreUnavailable
from celcombiller.core.schema.driver import execute_raw
from celcombiller.database.transaction import begin, commit, means_not_now, retry_transient, roll_back, unavailable
from celcombiller.runtime.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Connection, Engine
    from twisted.internet.interfaces import IDelayedCall

    from celcombiller.core.charging.requests import (
        CallAnswered,
        Credit,
        Initiate,
        Outcome,
        Request,
        Result,
        TakeTrunk,
        Terminate,
        Update,
    )
    from celcombiller.core.data.accounting_reports import NasRestart, StaleSession, Usage
    from celcombiller.core.data.session import DataSession
    from celcombiller.core.model.accounts import Transfer
    from celcombiller.core.model.calls import Call, CallGrant, CallUpdate, Settlement
    from celcombiller.core.sms.charging import MessageOutcome, MessageResult, MessageSubmission

    ProcessBatch = Callable[[Connection, list[Request], datetime], Sequence[Result]]

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741


BATCH_MAX = 1000
"""Most requests in one transaction: enough that the work and not the disk is the limit, few enough to wait for."""


DEFERRED_BATCH_SECONDS = 0.03
"""How long deferrable requests are collected. They do not join the next batch, which may hold a call to be dialled."""


@dataclass(slots=True)
class _Task(Generic[T]):
    """One thing to do in the writing thread."""

    answer: Deferred[T]


@dataclass(slots=True)
class _Charge(_Task["Outcome"]):
    """A request of a batch; somebody waits for an urgent one."""

    request: Request
    is_urgent: bool


@dataclass(slots=True)
class _Work(_Task[T]):
    """A unit of work with a transaction of its own."""

    work: Callable[[Connection], T]


@dataclass(slots=True)
class _Share(_Task[T]):
    """A part of a unit of work that serves many at once."""

    work: Callable[[Connection, list[Any]], Sequence[T | BillerError]]
    item: Any


class BatchWriter:
    """The writing thread as the reactor sees it: `charge` for charging requests, `transact` for other units of work."""

    _log = Logger()

    def __init__(self, reactor: Any, engine: Engine, process: ProcessBatch, metrics: Metrics | None = None) -> None:
        self._reactor = reactor
        self._engine = engine
        self._process = process
        self._queue: queue.SimpleQueue[_Charge | _Work[Any] | _Share[Any] | None] = queue.SimpleQueue()
        self._pending: list[_Charge | _Work[Any] | _Share[Any]] = []
        self._deferred: list[_Charge | _Work[Any] | _Share[Any]] = []
        self._deferred_call: IDelayedCall | None = None
        self._thread: threading.Thread | None = None
        self._closed: Deferred[None] = Deferred()
        self._connection: Connection | None = None
        self._urgent = 0
        self._metrics = metrics or Metrics()
        self._metrics.database.waiting_requests.set_function(self._queue.qsize)

    @property
    def is_charging(self) -> bool:
        """Whether a call, or another request that is not deferrable, waits for its decision."""
        return self._urgent > 0

    def start(self) -> None:
        """Start the writing thread."""
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def close(self) -> Deferred[None]:
        """Finish every task so far, then end; fires after the last answer."""
        if self._deferred_call is not None and self._deferred_call.active():
            self._deferred_call.cancel()
        self._hand_over(self._pending)
        self._hand_over(self._deferred)
        self._queue.put(None)
        return self._closed

    @overload
    def charge(self, request: Initiate, *, deferrable: bool = ...) -> Deferred[CallGrant]: ...
    @overload
    def charge(self, request: Update, *, deferrable: bool = ...) -> Deferred[CallUpdate]: ...
    @overload
    def charge(self, request: CallAnswered, *, deferrable: bool = ...) -> Deferred[Call]: ...
    @overload
    def charge(self, request: TakeTrunk, *, deferrable: bool = ...) -> Deferred[Call]: ...
    @overload
    def charge(self, request: Terminate, *, deferrable: bool = ...) -> Deferred[Settlement]: ...
    @overload
    def charge(self, request: Credit, *, deferrable: bool = ...) -> Deferred[Transfer]: ...
    @overload
    def charge(
        self, request: MessageSubmission | MessageOutcome, *, deferrable: bool = ...
    ) -> Deferred[MessageResult]: ...
    @overload
    def charge(self, request: Usage, *, deferrable: bool = ...) -> Deferred[DataSession]: ...
    @overload
    def charge(self, request: NasRestart, *, deferrable: bool = ...) -> Deferred[list[DataSession]]: ...
    @overload
    def charge(self, request: StaleSession, *, deferrable: bool = ...) -> Deferred[DataSession | None]: ...
    # Any: only the overloads know which answer belongs to which request.
    def charge(self, request: Request, *, deferrable: bool = False) -> Deferred[Any]:
        """Process a request in the next batch; fires after the commit, with its answer or its `BillerError`.

        A ``deferrable`` request shares a batch with other deferrable ones, after `DEFERRED_BATCH_SECONDS`.
        """
        answer: Deferred[Outcome] = Deferred()
        task = _Charge(answer, request, not deferrable)
        if not deferrable:
            self._urgent += 1
            self._enqueue(task)
            return answer
        if not self._deferred:
            self._deferred_call = self._reactor.callLater(DEFERRED_BATCH_SECONDS, self._hand_over, self._deferred)
        self._deferred.append(task)
        return answer

    def transact(self, work: Callable[[Connection], T]) -> Deferred[T]:
        """Do ``work`` in a transaction of its own. It may run twice, so it must touch nothing but its transaction."""
        answer: Deferred[T] = Deferred()
        self._enqueue(_Work(answer, work))
        return answer

    def share(self, work: Callable[[Connection, list[I]], Sequence[T | BillerError]], item: I) -> Deferred[T]:
        """Do ``work`` for this item and those that wait for the same function, in one transaction.

        It returns a result for each item, in their order; a `BillerError` among them is raised here, and what the
        transaction wrote for it stays. It may run twice, so it must touch nothing but its transaction.
        """
        answer: Deferred[T] = Deferred()
        self._enqueue(_Share(answer, work, item))
        return answer

    def _enqueue(self, task: _Charge | _Work[Any] | _Share[Any]) -> None:
        if not self._pending:
            self._reactor.callLater(0, self._hand_over, self._pending)
        self._pending.append(task)

    def _hand_over(self, tasks: list[_Charge | _Work[Any] | _Share[Any]]) -> None:
        """Queue all tasks of one reactor turn at once; queued singly, the first would be a batch alone."""
        for each in tasks:
            self._queue.put(each)
        tasks.clear()

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
            charges = [each for each in taken if isinstance(each, _Charge)]
            if charges:
                self._metrics.database.batch_requests.observe(len(charges))
                self._deliver(charges, self._batch([each.request for each in charges]))
            shares: dict[Any, list[_Share[Any]]] = {}
            for each in taken:
                if isinstance(each, _Share):
                    shares.setdefault(each.work, []).append(each)
            for work, tasks in shares.items():
                self._deliver(tasks, self._shared(work, [each.item for each in tasks]))
            for each in taken:
                if isinstance(each, _Work):
                    self._deliver([each], [self._guarded(each.work)])
        self._disconnect()
        self._reactor.callFromThread(self._closed.callback, None)

    def _batch(self, requests: list[Request]) -> Sequence[Result | Failure]:
        """Process a batch; if it fails as a whole, process its requests singly, so that each fails for itself only."""
        results = self._guarded(lambda tx: self._process(tx, requests, datetime.now(UTC)))
        if not isinstance(results, Failure):
            return results
        if len(requests) == 1 or results.check(StoreUnavailable):
            return [results] * len(requests)
        return [result for request in requests for result in self._batch([request])]

    def _shared(
        self, work: Callable[[Connection, list[I]], Sequence[T | BillerError]], items: list[I]
    ) -> Sequence[T | BillerError | Failure]:
        """Do work for these items; if it fails as a whole, do it for each, so that each fails for itself only."""
        results = self._guarded(lambda tx: work(tx, items))
        if not isinstance(results, Failure):
            return results
        if len(items) == 1 or results.check(StoreUnavailable):
            return [results] * len(items)
        return [result for item in items for result in self._shared(work, [item])]

    def _guarded(self, work: Callable[[Connection], T]) -> T | Failure:
        try:
            return retry_transient(partial(self._once, work))
        except (BillerError, exc.IntegrityError, exc.DataError):
            return Failure()
        except Exception as error:  # noqa: BLE001  any error belongs to the request, it must not end this thread
            self._drop_connection()
            return Failure(unavailable(error)) if means_not_now(error) else Failure()

    def _once(self, work: Callable[[Connection], T]) -> T:
        if self._connection is None or self._connection.invalidated:
            self._disconnect()
            self._connection = self._connected()
        tx = self._connection
        begin(tx)
        try:
            done = work(tx)
            began = commit(tx)
        except BaseException:
            roll_back(tx)
            raise
        self._metrics.database.commit_seconds.observe(time.perf_counter() - began)
        return done

    def _connected(self) -> Connection:
        """Connect, out of the pool; on PostgreSQL, forbid the plans that do not use indexes.

        The pool would give a connection with these settings to others: to the audit, which reads tables whole.

        PostgreSQL keeps the sequential scans that it planned while the tables were small, until it next analyzes them:
        until then a call cost six times as much (measured).
        """
        made = self._engine.connect()
        made.detach()
        if made.dialect.name == "postgresql":
            for way in ("seqscan", "hashjoin", "mergejoin"):
                execute_raw(made, f"set enable_{way} = off")
            made.commit()
        return made

    def _drop_connection(self) -> None:
        """Make the next request connect again: a session may stay read-only after its server no longer is."""
        if self._connection is not None:
            self._connection.invalidate()
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _deliver(self, tasks: Sequence[_Task[T]], results: Sequence[T | BillerError | Failure]) -> None:
        """Answer a whole batch in one hop to the reactor."""
        self._reactor.callFromThread(self._answer, list(zip(tasks, results, strict=True)))

    def _answer(self, answered: list[tuple[_Task[T], T | BillerError | Failure]]) -> None:
        for task, result in answered:
            if isinstance(task, _Charge) and task.is_urgent:
                self._urgent -= 1
            if isinstance(result, BillerError | Failure):
                task.answer.errback(result)
            else:
                task.answer.callback(result)
