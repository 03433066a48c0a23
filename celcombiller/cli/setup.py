"""``celcombiller init`` and ``celcombiller check-config``: what an operator does before the first start."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from celcombiller.cli.common import read_password
from celcombiller.config import loader
from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import migrations
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from celcombiller.runtime.password_hash import hash_password

if TYPE_CHECKING:
    import argparse

    import sqlalchemy as sa

    from celcombiller.config.tables import Config


def configure_init(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``init``."""
    parser.set_defaults(run=_initialize)
    parser.add_argument("--admin", metavar="USERNAME", default="admin")
    parser.add_argument(
        "--password-file", type=Path, metavar="FILE", help="the administrator's password (default: a random one)"
    )


def configure_check_config(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``check-config``."""
    parser.set_defaults(run=_check_config)


def _initialize(arguments: argparse.Namespace, config: Config) -> int:
    """Make or upgrade the database, with a first administrator."""
    engine = open_engine(config.database.url, lock_seconds=config.database.lock_seconds, foreign_keys=False)
    _check_folder(config)
    password = read_password(arguments.password_file)
    generated = password is None
    password = password or secrets.token_urlsafe(12)

    def work(tx: sa.Connection) -> str | None:
        migrations.upgrade(tx)
        known = subscriber_records.any_administrator(tx)
        if known is None:
            subscriber_records.add(
                tx,
                username=arguments.admin,
                name="Administrator",
                clid="0",
                imsi="000000000000000",
                cpf=None,
                address="",
                level=Level.ADMINISTRATOR,
                password_hash=hash_password(password),
                now=datetime.now(UTC),
            )
        return known

    known = transact(engine, work)
    print(f"Database {_shown(engine)} is ready.")
    if known is not None:
        print(f"Administrator: {known}, as before.")
    elif generated:
        print(f"Administrator: {arguments.admin}, password {password} (shown this once; only its hash is kept).")
    else:
        print(f"Administrator: {arguments.admin}.")
    return 0


def _check_config(arguments: argparse.Namespace, config: Config) -> int:
    """Report that the settings are right; loading them has checked them."""
    where = arguments.config or loader.find_file() or "built-in defaults"
    print(f"{where}: right. Database {config.database.url}, REST {config.rest.listen}, FastAGI {config.agi.listen},")
    print(f"AMI of {', '.join(each.name for each in config.asterisk) or 'no server'}.")
    return 0


def _check_folder(config: Config) -> None:
    if config.database.url.startswith("sqlite:///"):
        folder = Path(config.database.url.removeprefix("sqlite:///")).parent
        if not folder.is_dir():
            raise InvalidValue(f"database.url: the folder {folder} does not exist")


def _shown(engine: sa.Engine) -> str:
    return engine.url.render_as_string(hide_password=True)
