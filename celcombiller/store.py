"""The one door to the database: engines, transactions, the writing thread, bounded retry, natural batching.

Everything that writes passes through one thread. What arrives while a transaction runs is done together in the next
one, so one commit (one sync of the disk) serves all; alone, a request waits for nobody. Nothing is answered before
its commit. A request may be done twice (a lost connection at the commit leaves its fate unknown), so whatever moves
credit carries an id made by its sender.
"""

from __future__ import annotations

import math
import queue
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from celcombiller.errors import BillerError, StoreUnavailable
from celcombiller.metrics import Metrics
from celcombiller.setwise import LedgerRace, tell

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.pool import ConnectionPoolEntry
    from twisted.internet.interfaces import IDelayedCall

T = TypeVar("T")

BATCH_MAX = 1000
"""Requests in one transaction at most: enough to be limited by the work and not by the disk, short enough to wait."""

PROGRESS_STEPS = 100_000
"""SQLite looks at the clock after so many steps of a read: about every millisecond."""

LATER_SECONDS = 0.03
"""So long what nobody waits for is gathered; not until the next request, which may be a call that is to be dialled."""

ATTEMPTS = 5
"""How often a transaction is tried that lost a race, a deadlock or its connection."""

AWAY = (exc.OperationalError, exc.InterfaceError)
"""The database's own troubles; any other error of it is about what was asked."""

CONNECT_SECONDS_LEAST = 2
"""The shortest wait for a connection that libpq knows; with several hosts each has it, so they wait no longer."""

CACHE_KIB = 32 * 1024
"""Of SQLite's pages in memory, for each connection. With a million subscribers its own 2 MiB cost a tenth more CPU."""

_LIVELINESS = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""A host that has not answered TCP for about ten seconds is given up (libpq, 34.1.2); the kernel itself takes hours."""

_TRANSIENT_SQLSTATES = {"40001", "40P01"}  # serialization_failure, deadlock_detected (PostgreSQL, appendix A)


def open_engine(
    url: str, *, lock_seconds: float, foreign_keys: bool = True, read_seconds: float | None = None
) -> Engine:
    """Make the engine of a database; nothing is connected yet. ``lock_seconds``: how long to wait for another's lock.

    With ``read_seconds`` it only reads, and no transaction (SQLite) or statement (PostgreSQL) takes longer than that:
    see `was_too_slow`. An upgrade of the tables wants ``foreign_keys`` off on SQLite, which cannot change a table that
    others refer to.

    SQLite writes are ``BEGIN IMMEDIATE``: with the driver's own deferred transactions two could read the same
    balance and both spend it. WAL and ``synchronous=FULL`` make a commit outlive a power cut.

    A PostgreSQL that is gone without a word (power, cable) is noticed by `_LIVELINESS`; where the URL names several
    hosts, the next connection goes to the one that has become the primary.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        options = f"-c lock_timeout={lock_seconds}s"
        how: dict[str, Any] = {}
        if read_seconds is not None:
            options += f" -c statement_timeout={int(read_seconds * 1000)} -c default_transaction_read_only=on"
            if parsed.query.get("target_session_attrs") == "read-write":  # our own sessions here are not
                parsed = parsed.update_query_dict({"target_session_attrs": "primary"})
            # A plan for any value takes the operator's account, on one side of every transfer, for one of a million:
            # so each is planned for its own, but what is told to be prepared.
            how["prepare_threshold"] = sys.maxsize  # None would also be for those
        several = "," in str(parsed.query.get("host", "")) or isinstance(parsed.query.get("host"), tuple)
        connect_seconds = CONNECT_SECONDS_LEAST if several else max(CONNECT_SECONDS_LEAST, int(lock_seconds))
        return sa.create_engine(
            parsed,
            pool_pre_ping=False,
            pool_recycle=1800,
            connect_args={"connect_timeout": connect_seconds, "options": options, **_LIVELINESS, **how},
        )
    engine = sa.create_engine(url, connect_args={"timeout": lock_seconds, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        enforced = "on" if foreign_keys else "off"
        for pragma in ("journal_mode=wal", "synchronous=full", f"foreign_keys={enforced}", f"cache_size=-{CACHE_KIB}"):
            connection.execute(f"pragma {pragma}")
        if read_seconds is not None:
            connection.execute("pragma query_only=on")
            info = record.info
            connection.set_progress_handler(lambda: time.monotonic() > info["ends_at"], PROGRESS_STEPS)

    @sa.event.listens_for(engine, "begin")
    def _began(connection: Connection) -> None:
        reading = read_seconds is not None or connection.get_execution_options().get("reading")
        connection.info["ends_at"] = time.monotonic() + (read_seconds or math.inf)
        tell(connection, "BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def transact(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Do ``work`` in one transaction, here and now; retried when it lost a race. Raises `StoreUnavailable`."""

    def once() -> T:
        with engine.begin() as tx:
            return work(tx)

    try:
        return _tried(once)
    except AWAY as error:
        raise unavailable(error) from error


def _tried(once: Callable[[], T]) -> T:
    """Do ``once``, and again when it lost a race; the first time without tenacity, which costs half a transaction."""
    try:
        return once()
    except Exception as error:
        if not _is_transient(error):
            raise
    again = Retrying(
        stop=stop_after_attempt(ATTEMPTS - 1),
        wait=wait_random_exponential(multiplier=0.02, max=0.5),
        retry=retry_if_exception(_is_transient),
        reraise=True,
    )
    return again(once)


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, LedgerRace | exc.IntegrityError):
        return True  # another node made the same row between our look and our insert: look again
    if not isinstance(error, exc.DBAPIError):
        return False
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _TRANSIENT_SQLSTATES


def was_too_slow(error: exc.DBAPIError) -> bool:
    """Tell whether a statement ended because of its limit."""
    return getattr(error.orig, "sqlstate", None) == "57014" or str(error.orig) == "interrupted"


def unavailable(error: exc.DBAPIError) -> StoreUnavailable:
    """Say of a database's own trouble that it does not answer, in its words."""
    return StoreUnavailable(f"the database does not answer: {str(error.orig).strip().splitlines()[0]}")


@dataclass(slots=True)
class _Asked(Generic[T]):
    """One thing to do in the writing thread: a request of a batch, or a unit of work of its own."""

    work: Callable[[Connection], T] | None
    request: Any
    answer: Deferred[T]


class Store:
    """The door as the reactor sees it: `charge` for the requests of calls, `transact` for any other unit of work."""

    _log = Logger()

    def __init__(self, reactor: Any, engine: Engine, perform: Any, metrics: Metrics | None = None) -> None:
        self._reactor = reactor
        self._engine = engine
        self._perform = perform
        self._queue: queue.SimpleQueue[_Asked[Any] | None] = queue.SimpleQueue()
        self._gathered: list[_Asked[Any]] = []
        self._gathered_later: list[_Asked[Any]] = []
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

        One that is not wanted ``soon`` is done together with others that are not, in `LATER_SECONDS`.
        """
        asked: _Asked[Any] = _Asked(None, request, Deferred())
        if soon:
            return self._ask(asked)
        if not self._gathered_later:
            self._later = self._reactor.callLater(LATER_SECONDS, self._hand_over, self._gathered_later)
        self._gathered_later.append(asked)
        return asked.answer

    def transact(self, work: Callable[[Connection], T]) -> Deferred[T]:
        """Do ``work`` in a transaction of its own. It may run twice, so it must touch nothing but its transaction."""
        return self._ask(_Asked(work, None, Deferred()))

    def _ask(self, asked: _Asked[T]) -> Deferred[T]:
        if not self._gathered:
            self._reactor.callLater(0, self._hand_over, self._gathered)
        self._gathered.append(asked)
        return asked.answer

    def _hand_over(self, gathered: list[_Asked[Any]]) -> None:
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
            return _tried(partial(self._once, work))
        except AWAY as error:
            self._disconnect()
            return Failure(unavailable(error))
        except Exception:  # noqa: BLE001  whatever it was belongs to who asked, not to this thread
            return Failure()

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
                tell(made, f"set enable_{way} = off")
            made.commit()
        return made

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _deliver(self, asked: Sequence[_Asked[Any]], answers: Sequence[Any]) -> None:
        """Give a whole batch its answers in one hop to the reactor."""
        self._reactor.callFromThread(self._give, list(zip(asked, answers, strict=True)))

    @staticmethod
    def _give(answered: list[tuple[_Asked[Any], Any]]) -> None:
        for each, answer in answered:
            if isinstance(answer, BillerError | Failure):
                each.answer.errback(answer)
            else:
                each.answer.callback(answer)
