"""Check that the database is reachable, can hold the ledger, and has this version's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from celcombiller.core.errors import BillerError, SchemaMismatch, StoreUnavailable
from celcombiller.core.schema import migrations
from celcombiller.database.instance_lock import BillerRuns
from celcombiller.database.ledger_file import check_ledger_file, path_of
from celcombiller.database.transaction import first_line, means_not_now, transact, unavailable
from celcombiller.runtime.database_url import show_url

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

UPGRADE_LOCK = 0x63656C63
"""The advisory lock ("celc") of an upgrade on PostgreSQL: shared while tables are checked, exclusive for the change."""

SERVICE_NAME = "celcombiller service"
"""The ``application_name`` of a running biller's connections, by which an upgrade sees that one runs."""


def check_database(engine: sa.Engine) -> None:
    """Raise `StoreUnavailable` or `SchemaMismatch` unless the database answers and has this program's version.

    It also has to keep one session for each connection.
    """
    inspect_database(engine, migrations.check)
    check_sessions(engine)


def check_sessions(engine: sa.Engine) -> None:
    """Raise `StoreUnavailable` if a pooler such as PgBouncer gives each transaction another session of the server.

    Limits of time, read-only sessions and prepared statements are of a session. Two connections of ours that have one
    session of the server show it: the first is idle, but not closed.
    """
    if engine.dialect.name != "postgresql":
        return
    session = sa.text("select pg_backend_pid()")
    try:
        with engine.connect() as first:
            number = first.execute(session).scalar_one()
            first.rollback()
            with engine.connect() as second:
                is_shared = second.execute(session).scalar_one() == number
    except exc.DBAPIError as error:
        raise (unavailable(error) if means_not_now(error) else not_a_ledger(engine, error)) from error
    if is_shared:
        raise StoreUnavailable(
            f"{show_url(engine.url)}: a connection pooler shares sessions between transactions: set pool_mode = session"
            " for this database in PgBouncer, or connect to PostgreSQL itself"
        )


def inspect_database(engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
    """Do ``work``, which only reads, on a database that may be anything; name the database in each refusal.

    Raises `StoreUnavailable` when it cannot be reached, and `SchemaMismatch` when it is no ledger.
    """
    path = path_of(engine.url)
    if path is not None:
        check_ledger_file(path)

    def checked(tx: sa.Connection) -> T:
        check_encoding(tx)
        if tx.dialect.name == "postgresql":  # wait for an upgrade that is under way
            tx.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(UPGRADE_LOCK)))
        return work(tx)

    name = show_url(engine.url)
    try:
        return transact(engine.execution_options(reading=True), checked)
    except BillerError as error:
        raise type(error)(f"{name}: {error}") from error.__cause__
    except exc.DBAPIError as error:
        raise not_a_ledger(engine, error) from None


def not_a_ledger(engine: sa.Engine, error: exc.DBAPIError) -> BillerError:
    """Return the refusal of a database that answered something else than a ledger does."""
    if getattr(error.orig, "sqlite_errorname", "") == "SQLITE_NOTADB":
        return SchemaMismatch(f"{show_url(engine.url)}: is not a SQLite database: correct database.url")
    return StoreUnavailable(f"{show_url(engine.url)}: {first_line(error)}")


def check_encoding(tx: sa.Connection) -> None:
    """Raise `SchemaMismatch` unless the database can hold every name: PostgreSQL with the encoding UTF8."""
    if tx.dialect.name != "postgresql":
        return
    encoding = tx.execute(sa.text("show server_encoding")).scalar()
    if isinstance(encoding, bytes):  # what the driver returns from SQL_ASCII
        encoding = encoding.decode("ascii", "replace")
    if encoding != "UTF8":
        raise SchemaMismatch(
            f"the database's encoding is {encoding}, which cannot hold every name; make it with the encoding UTF8:"
            " createdb --template=template0 --encoding=UTF8"
        )


def refuse_beside_billers(tx: sa.Connection) -> None:
    """Raise `BillerRuns` when a biller is connected to this PostgreSQL database; keep others out until the end.

    A biller that starts now waits in `check_database`. A SQLite file has an `InstanceLock` for this.
    """
    if tx.dialect.name != "postgresql":
        return
    tx.execute(sa.select(sa.func.pg_advisory_xact_lock(UPGRADE_LOCK)))
    running = sa.text(
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = :name"
    )
    number = tx.execute(running, {"name": SERVICE_NAME}).scalar_one()
    if number:
        raise BillerRuns(
            f"{number} connections of running billers are open to this database: stop them all, then run"
            " `celcombiller init`"
        )
