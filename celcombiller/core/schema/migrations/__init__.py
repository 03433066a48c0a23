"""The database's version: bring it to this program's, or say why it cannot be used (alembic).

``init`` upgrades; the service only compares, so a program never works on tables it does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from celcombiller.core.errors import SchemaMismatch

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "celcombiller.core.schema:migrations")
    return config


def upgrade(tx: Connection) -> None:
    """Make or upgrade the tables. Raises `SchemaMismatch` when the database is newer, or its rows are not whole after.

    On SQLite the connection must not enforce foreign keys where there are rows: some steps make a table anew.
    """
    before = _refuse_newer(tx)
    config = _config()
    config.attributes["connection"] = tx
    command.upgrade(config, "head")
    if tx.dialect.name == "sqlite" and before is not None:
        broken = tx.exec_driver_sql("pragma foreign_key_check").first()
        if broken is not None:
            raise SchemaMismatch(f"the upgrade would break rows of the table {broken[0]}; nothing was changed")


def check(tx: Connection) -> None:
    """Raise `SchemaMismatch` unless the database has exactly the tables this program knows."""
    version = _refuse_newer(tx)
    if version is None:
        raise SchemaMismatch("the database has no tables yet: run `celcombiller init`")
    if version != ScriptDirectory.from_config(_config()).get_current_head():
        raise SchemaMismatch(f"the database is of an older version ({version}): run `celcombiller init` to upgrade it")


def _refuse_newer(tx: Connection) -> str | None:
    version = MigrationContext.configure(tx).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if version is not None and version not in known:
        raise SchemaMismatch(f"the database ({version}) is newer than this program: install the newer program")
    return version
