"""SQL expressions that steer index use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from enum import StrEnum


def inline_literal(state: StrEnum) -> sa.BindParameter[str]:
    """Return a state as a literal in the SQL: only then can the planner use the partial index of that state."""
    return sa.literal(state.value, sa.Text, literal_execute=True)


def without_index(column: sa.Column[str]) -> sa.ColumnElement[str]:
    """Return a text column so that its index is not used: a partial index has fewer rows, which SQLite cannot know."""
    return column + ""
