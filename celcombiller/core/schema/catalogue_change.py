"""The number of changes of the catalogue: tariffs, groups, trunks, routes and offers. Billers watch it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

CHANNEL = "celcombiller_catalogue"
"""The channel on which PostgreSQL notifies billers at the commit of a change (LISTEN)."""

_change = tables.catalogue_change


def record_change(tx: Connection) -> None:
    """Count a change of the catalogue, so that all billers read it again within a second of the commit.

    The row stays locked until the commit, so call it last. What has a higher number was committed later.
    """
    tx.execute(sa.update(_change).values(number=_change.c.number + 1))
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_notify(CHANNEL, "")))


def last_change(tx: Connection) -> int:
    """Return the number of the last change."""
    number: int = tx.execute(sa.select(_change.c.number)).scalar_one()
    return number
