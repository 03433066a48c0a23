"""SQL expressions that steer index use, and inserts that may find their row there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from enum import StrEnum

    from sqlalchemy.engine import Connection


def upsert(tx: Connection, table: sa.Table) -> Any:
    """Return an insert that can have an ``on conflict`` clause, in the words of this database."""
    return postgresql.insert(table) if tx.dialect.name == "postgresql" else sqlite.insert(table)


def inline_literal(state: StrEnum) -> sa.BindParameter[str]:
    """Return a state as a literal in the SQL: only then can the planner use the partial index of that state."""
    return sa.literal(state.value, sa.Text, literal_execute=True)


def without_index(column: sa.Column[str]) -> sa.ColumnElement[str]:
    """Return a text column so that its index is not used: a partial index has fewer rows, which SQLite cannot know."""
    return column + ""
