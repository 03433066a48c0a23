"""Leases on the rows of a queue: an owner claims rows until a time, after which any other may claim them.

A table with leases has the columns ``claimed_by``, ``claimed_until`` and ``next_try_at``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection, Row

RELEASED: dict[str, Any] = {"claimed_by": None, "claimed_until": None}


def is_free(table: sa.Table, now: datetime) -> sa.ColumnElement[bool]:
    """Return the condition on rows that are not claimed, or whose lease is over."""
    return sa.or_(table.c.claimed_until.is_(None), table.c.claimed_until <= now)


def is_try_due(table: sa.Table, now: datetime) -> sa.ColumnElement[bool]:
    """Return the condition on rows whose back-off is over."""
    return sa.or_(table.c.next_try_at.is_(None), table.c.next_try_at <= now)


def lock_rows(tx: Connection, rows: sa.Select[Any], *, limit: int) -> Sequence[Row[Any]]:
    """Return the first rows that no other transaction has locked, and lock them (PostgreSQL)."""
    return tx.execute(rows.limit(limit).with_for_update(skip_locked=True)).all()
