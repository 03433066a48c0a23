"""One transaction with bounded retry."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from sqlalchemy import exc

from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.schema.bulk import LedgerRace
from celcombiller.core.schema.driver import ROUND_TRIPS, execute_raw, translate_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.engine import Connection, Engine

T = TypeVar("T")


ATTEMPTS = 5
"""How often a transaction is tried when it loses a race, a deadlock or its connection."""


NOT_NOW = (
    # PostgreSQL, appendix A: a class, or one condition of a class that has others
    "08",  # connection exception
    "25006",  # read_only_sql_transaction: a standby, or a primary that is handing over
    "25P03",  # idle_in_transaction_session_timeout
    "25P04",  # transaction_timeout
    "26",  # the session behind a connection pooler is another than the one that has the prepared statement
    "40",  # transaction rollback: serialization failure, deadlock
    "53",  # insufficient resources: disk, memory, connections
    "55006",  # object_in_use
    "55P03",  # lock_not_available
    "57",  # operator intervention: cancelled, shutting down, starting up
    "58",  # system error: input and output
    # SQLite, "Result and Error Codes"; the extended codes begin with the name of their primary one
    "SQLITE_BUSY",
    "SQLITE_CANTOPEN",
    "SQLITE_FULL",
    "SQLITE_INTERRUPT",
    "SQLITE_IOERR",
    "SQLITE_LOCKED",
    "SQLITE_NOMEM",
    "SQLITE_PERM",
    "SQLITE_PROTOCOL",
    "SQLITE_READONLY",
)
"""Prefixes of the error codes that mean "not now"; every other database error is about the request itself."""


_TRANSIENT_SQLSTATES = {"40001", "40P01"}  # serialization_failure, deadlock_detected (PostgreSQL, appendix A)


def reading_one_snapshot(engine: Engine) -> Engine:
    """Return the engine for transactions that only read, all of whose statements see one moment of the database.

    On PostgreSQL each statement of an ordinary transaction sees what was committed before it (13.2.1): sums of one
    would not be those of the next while calls are charged.
    """
    isolation = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
    return engine.execution_options(reading=True, **isolation)


def transact(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Do ``work`` in one transaction in this thread; retry it when it loses a race. Raises `StoreUnavailable`."""

    def once() -> T:
        with engine.begin() as tx:
            return work(tx)

    try:
        return retry_transient(once)
    except exc.DBAPIError as error:
        if not means_not_now(error):
            raise
        raise unavailable(error) from error


def begin(tx: Connection) -> None:
    """Begin a transaction that writes, without SQLAlchemy's own, which costs forty function calls.

    On PostgreSQL it begins with the first statement. Where SQLAlchemy executes a statement, it takes part.
    """
    if tx.dialect.name == "sqlite":
        execute_raw(tx, "begin immediate")


def commit(tx: Connection) -> float:
    """Commit what `begin` began, where its last statement has not; return when that began, by ``time.perf_counter``.

    Raises SQLAlchemy's errors.
    """
    trips, committed = tx.info.get(ROUND_TRIPS), None
    if trips is not None:
        committed, trips.commit_began = trips.commit_began, None
    began: float = committed or time.perf_counter()
    if tx.in_transaction():
        tx.commit()
    elif committed is None:
        try:
            tx.connection.commit()
        except tx.dialect.loaded_dbapi.Error as error:
            raise translate_error(tx, "commit", error) from error
    return began


def roll_back(tx: Connection) -> None:
    """Roll back what `begin` began; a connection that cannot is of no more use."""
    if tx.invalidated or tx.in_transaction():
        tx.rollback()
        return
    doubt_names(tx.info)
    try:
        tx.connection.rollback()
    except tx.dialect.loaded_dbapi.Error as error:
        tx.invalidate(error)


def doubt_names(kept: Mapping[Any, Any]) -> None:
    """Let a connection, whose ``info`` this is, ask what is still prepared, after a rollback."""
    trips = kept.get(ROUND_TRIPS)
    if trips is not None:
        trips.doubt_names()


def retry_transient(once: Callable[[], T]) -> T:
    """Do ``once``, again when it loses a race; the first time without tenacity, which costs half a transaction."""
    try:
        return once()
    except Exception as error:
        if not _is_transient(error):
            raise
    import tenacity  # noqa: PLC0415  it is rarely needed and takes 20 ms to load

    again = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS - 1),
        wait=tenacity.wait_random_exponential(multiplier=0.02, max=0.5),
        retry=tenacity.retry_if_exception(_is_transient),
        reraise=True,
    )
    return again(once)


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, LedgerRace | exc.IntegrityError):
        return True  # another node inserted the same row between our read and our insert: read again
    if not isinstance(error, exc.DBAPIError):
        return False
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _TRANSIENT_SQLSTATES


def means_not_now(error: BaseException | None) -> TypeGuard[exc.DBAPIError]:
    """Return whether the same request may succeed later: the database is away, busy, full, or refuses writes."""
    if not isinstance(error, exc.DBAPIError):
        return False
    code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "sqlite_errorname", None)
    if error.connection_invalidated or code is None:  # without a code: the driver's own, it could not connect
        return error.connection_invalidated or isinstance(error, exc.OperationalError | exc.InterfaceError)
    return str(code).startswith(NOT_NOW)


def was_too_slow(error: exc.DBAPIError) -> bool:
    """Return whether a statement ended because of its time limit."""
    return getattr(error.orig, "sqlstate", None) == "57014" or str(error.orig) == "interrupted"


def unavailable(error: exc.DBAPIError) -> StoreUnavailable:
    """Return the refusal for a database that is away, with the first line of the database's message."""
    return StoreUnavailable(f"the database does not answer: {first_line(error)}")


def first_line(error: exc.DBAPIError) -> str:
    """Return the first line of the database's message."""
    return str(error.orig).strip().partition("\n")[0] or type(error.orig).__name__


def explain_database_error(error: BaseException) -> str | None:
    """Return a line about an error of the database that is the request's or the data's fault, None for other errors."""
    if not isinstance(error, exc.DBAPIError):
        return None
    return f"the database refused it: {first_line(error)}"
