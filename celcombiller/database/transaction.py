"""One transaction with bounded retry."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import exc
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.schema.bulk import LedgerRace

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection, Engine

T = TypeVar("T")


ATTEMPTS = 5
"""How often a transaction is tried that lost a race, a deadlock or its connection."""


CONNECTION_ERRORS = (exc.OperationalError, exc.InterfaceError)
"""The database's own troubles; any other error of it is about what was asked."""


_TRANSIENT_SQLSTATES = {"40001", "40P01"}  # serialization_failure, deadlock_detected (PostgreSQL, appendix A)


def transact(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Do ``work`` in one transaction, here and now; retried when it lost a race. Raises `StoreUnavailable`."""

    def once() -> T:
        with engine.begin() as tx:
            return work(tx)

    try:
        return retry_transient(once)
    except CONNECTION_ERRORS as error:
        raise unavailable(error) from error


def retry_transient(once: Callable[[], T]) -> T:
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
