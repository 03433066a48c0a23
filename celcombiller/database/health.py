"""Check that the database is reachable and has this version's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.schema import migrations
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import sqlalchemy as sa


def check_database(engine: sa.Engine) -> None:
    """Raise `StoreUnavailable` or `SchemaMismatch` unless the database answers and has this program's version."""
    transact(engine.execution_options(reading=True), migrations.check)
