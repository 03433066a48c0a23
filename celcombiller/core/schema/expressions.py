"""SQL expressions that steer index use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from enum import StrEnum


def inline_literal(state: StrEnum) -> sa.BindParameter[str]:
    """Write a state into the statement itself: the index of the few rows in it serves only where it is seen."""
    return sa.literal(state.value, sa.Text, literal_execute=True)


def without_index(column: sa.Column[str]) -> sa.ColumnElement[str]:
    """Look at a text row by row, not by its index: an index of fewer rows shall serve, and SQLite cannot count."""
    return column + ""
