"""The version of the database's tables: upgrade it, or check that it is this program's (alembic).

``init`` upgrades; the service only checks, so a program never works on tables that it does not know.
"""

from __future__ import annotations

from pkgutil import iter_modules
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.errors import SchemaMismatch
from celcombiller.core.schema import tables
from celcombiller.core.schema.migrations import versions

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy.engine import Connection

REVISIONS = sorted(each.name.partition("_")[0] for each in iter_modules(versions.__path__))
"""The versions this program knows, the oldest first: the numbers that the files of `versions` begin with."""

_VERSION = sa.table("alembic_version", sa.column("version_num"))


def alembic_config() -> Config:
    """Return what Alembic needs to find the migrations."""
    from alembic.config import Config  # noqa: PLC0415  only `init` needs it

    config = Config()
    config.set_main_option("script_location", "celcombiller.core.schema:migrations")
    return config


def upgrade(tx: Connection) -> None:
    """Create or upgrade the tables.

    On SQLite the connection must not enforce foreign keys where there are rows: some steps rebuild a table. Raises
    `SchemaMismatch` when the database is newer than this program or of another program, or the upgrade would break a
    foreign key.
    """
    from alembic import command  # noqa: PLC0415  a third of the time of a short command: only `init` needs it

    before = read_version(tx)
    config = alembic_config()
    config.attributes["connection"] = tx
    command.upgrade(config, "head")
    if tx.dialect.name == "sqlite" and before is not None:
        broken = tx.exec_driver_sql("pragma foreign_key_check").first()
        if broken is not None:
            raise SchemaMismatch(f"the upgrade would break rows of the table {broken[0]}; nothing was changed")


def check(tx: Connection) -> None:
    """Raise `SchemaMismatch` unless the database has exactly this program's tables."""
    version = read_version(tx)
    if version is None:
        raise SchemaMismatch("the database has no tables yet: run `celcombiller init`")
    if version != REVISIONS[-1]:
        raise SchemaMismatch(f"the database is of an older version ({version}): run `celcombiller init` to upgrade it")


def read_version(tx: Connection) -> str | None:
    """Return the version of the database's tables, or None for a database without tables.

    Raises `SchemaMismatch` for a database that is newer than this program, and for one of another program: a SQLite
    file with any other table, or a PostgreSQL schema with a table that has the name of one of ours.
    """
    names = set(sa.inspect(tx).get_table_names())
    is_ledger = {_VERSION.name, tables.subscriber.name, tables.transfer.name} <= names
    version = tx.execute(sa.select(_VERSION.c.version_num)).scalar() if is_ledger else None
    if version in REVISIONS:
        return str(version)
    if version is not None:
        raise SchemaMismatch(f"the database ({version}) is newer than this program: install the newer program")
    foreign = names if tx.dialect.name == "sqlite" else names & {_VERSION.name, *tables.metadata.tables}
    if foreign:
        shown = ", ".join(sorted(foreign)[:3])
        raise SchemaMismatch(f"the database is of another program (it has the tables {shown}): correct database.url")
    return None
