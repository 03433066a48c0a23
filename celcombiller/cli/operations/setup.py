"""``celcombiller init`` and ``celcombiller check-config``: what an operator does before the first start."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from celcombiller.cli.common import read_password
from celcombiller.cli.terminal import echo, print_error
from celcombiller.config import loader
from celcombiller.config.exposed_secrets import list_exposed_secrets
from celcombiller.core.errors import BillerError, InvalidValue, StoreUnavailable
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import migrations
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine
from celcombiller.database.health import inspect_database, refuse_beside_billers
from celcombiller.database.instance_lock import BillerRuns, InstanceLock
from celcombiller.database.ledger_file import (
    OWNER_ONLY,
    copy_ledger_file,
    create_ledger_file,
    files_of,
    path_of,
    restrict_files,
)
from celcombiller.database.transaction import transact
from celcombiller.runtime.credentials.password_hash import hash_password
from celcombiller.runtime.database_url import show_url

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import sqlalchemy as sa

    from celcombiller.config.tables import Config

NEWEST = migrations.REVISIONS[-1]

SYSTEM_FOLDER = Path("/var/lib/celcombiller")
"""Where the system's service runs, and where its ledger is."""

FIRST_PASSWORD = "celcombiller.first-password"  # noqa: S105  a file's name
"""The file of the first administrator's password, beside the SQLite file, else in the current folder."""


def configure_init(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``init``."""
    parser.set_defaults(run=_initialize)
    parser.add_argument("--admin", metavar="USERNAME", default="admin", help="the first administrator")
    parser.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help=f"the administrator's password (default: a random one, left in the file {FIRST_PASSWORD})",
    )


def configure_check_config(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``check-config``."""
    parser.set_defaults(run=_check_config)
    parser.add_argument("--try", dest="tries", action="store_true", help="also try what they name: see `doctor`")
    parser.add_argument("--json", action="store_true", help="with --try: one JSON document")


def _initialize(arguments: argparse.Namespace, config: Config) -> int:
    """Make or upgrade the database, with a first administrator."""
    password = _FirstPassword(config, read_password(arguments.password_file))
    path = path_of(config.database.url)
    is_new = path is not None and _create(path)
    engine = open_engine(config.database.url, lock_seconds=config.database.lock_seconds, foreign_keys=False)
    try:
        before = inspect_database(engine, migrations.read_version)
        known = inspect_database(engine, subscriber_records.any_administrator) if before == NEWEST else None
        if known is None:
            with _lock(path, engine):
                _keep_copy(path, before)
                known = _upgrade(engine, before, arguments.admin, password)
    except BaseException:
        if is_new and path is not None:
            _remove_unused(path, engine)
        raise
    for each in restrict_files(path) if path is not None else ():
        echo(f"{each} could be read by everyone; now only by its owner.")
    if before not in (None, NEWEST):
        echo(f"Upgraded the tables from version {before} to {NEWEST}.")
    echo(f"Database {show_url(config.database.url)} is ready, version {NEWEST}.")
    if known is not None:
        echo(f"Administrator: {known}, as before.")
    elif password.file is not None:
        echo(f"Administrator: {arguments.admin}. The password is in {password.file}: read it, then delete the file.")
    else:
        echo(f"Administrator: {arguments.admin}.")
    return 0


def _create(path: Path) -> bool:
    """Make the file of a new ledger, unless there is one where a relative path meant it before."""
    before = (folder / path.name for folder in (Path.cwd(), SYSTEM_FOLDER))
    stray = None if path.exists() else next((each for each in before if each.is_file()), None)
    if stray is not None:
        raise InvalidValue(
            f"database.url is {path}, which does not exist, but there is {stray}: paths are relative to the settings"
            f" file; write sqlite:///{stray} to use that one, or move it"
        )
    return create_ledger_file(path)


def _remove_unused(path: Path, engine: sa.Engine) -> None:
    """Remove the new file of a ledger that was not made after all."""
    with suppress(BillerError):
        if inspect_database(engine, migrations.read_version) is None:
            engine.dispose()
            for each in list(files_of(path)):
                each.unlink()


@contextmanager
def _lock(path: Path | None, engine: sa.Engine) -> Iterator[None]:
    """Keep billers from a SQLite file meanwhile, and close it at the end. Raises `BillerRuns`."""
    try:
        lock = None if path is None else InstanceLock(path)
    except BillerRuns:
        raise BillerRuns(f"{path}: a biller runs on this database: stop it, then run `celcombiller init`") from None
    try:
        yield
    finally:
        engine.dispose()  # first: a process that closes one handle of a file loses SQLite's locks on it
        if lock is not None:
            lock.close()


def _keep_copy(path: Path | None, version: str | None) -> None:
    """Copy a SQLite file before its tables are changed."""
    if path is not None and version not in (None, NEWEST):
        copy = path.with_name(f"{path.name}.{version}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        copy_ledger_file(path, copy)
        echo(f"The database as it was, version {version}, is kept in {copy}.")


def _upgrade(engine: sa.Engine, before: str | None, admin: str, password: _FirstPassword) -> str | None:
    """Bring the tables to this program's version; return the first administrator, or None when one was added."""

    def work(tx: sa.Connection) -> str | None:
        if before != NEWEST:
            refuse_beside_billers(tx)
            migrations.upgrade(tx)
        known = subscriber_records.any_administrator(tx)
        if known is None:
            _add_administrator(tx, admin, password.take())
        return known

    try:
        return transact(engine, work)
    except BaseException:
        password.discard()
        raise


def _add_administrator(tx: sa.Connection, username: str, password: str) -> None:
    subscriber_records.add(
        tx,
        username=username,
        name="Administrator",
        clid="0",
        imsi="000000000000000",
        cpf=None,
        address="",
        level=Level.ADMINISTRATOR,
        password_hash=hash_password(password),
        now=datetime.now(UTC),
    )


class _FirstPassword:
    """The first administrator's password: the given one, or a random one in a file that only this user can read.

    A printed one would stay in the system's journal.
    """

    def __init__(self, config: Config, given: str | None) -> None:
        self._given = given
        path = path_of(config.database.url)
        self._place = (Path.cwd() if path is None else path.parent) / FIRST_PASSWORD
        self.file: Path | None = None

    def take(self) -> str:
        """Return it; at the first time, write the file. Raises `StoreUnavailable`."""
        if self._given is None:
            self._given = secrets.token_urlsafe(12)
            self._write(self._given)
        return self._given

    def discard(self) -> None:
        """Remove the file that was written."""
        if self.file is not None:
            self.file.unlink()

    def _write(self, password: str) -> None:
        try:
            handle = os.open(self._place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, OWNER_ONLY)
        except FileExistsError:
            raise StoreUnavailable(f"{self._place}: exists already, from another database: move it away") from None
        except OSError as error:
            raise StoreUnavailable(f"{self._place}: cannot be made: {error.strerror}; use --password-file") from None
        self.file = self._place
        with os.fdopen(handle, "w") as made:
            os.fchmod(handle, OWNER_ONLY)
            made.write(f"{password}\n")


def _check_config(arguments: argparse.Namespace, config: Config) -> int:
    """Report that the settings are right; loading them has checked them."""
    if arguments.tries:
        from celcombiller.cli.operations.doctor import examine  # noqa: PLC0415  loads AMI, and the reactor with it

        return examine(arguments, config)
    file = arguments.config or loader.find_file()
    where = file.resolve() if file is not None else "built-in defaults"
    database = show_url(config.database.url)
    echo(f"{where}: right. Database {database}, REST {config.rest.listen}, FastAGI {config.agi.listen},")
    echo(f"AMI of {', '.join(each.name for each in config.asterisk) or 'no server'}.")
    for each in list_exposed_secrets(file, os.environ):
        print_error(f"celcombiller: warning: {each.resolve()} holds a secret and can be read by every user")
    return 0
