"""Changes after which open calls must be looked at again. Billers watch them, and ask the call's record what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection


def record_live_change(tx: Connection, subscriber_id: int | None, now: datetime) -> None:
    """Record that the open calls of a subscriber, or of all (``None``), must be looked at again.

    It is written in the transaction of the change itself: of who may call, of what they may owe or spend, or of their
    group. A transfer needs no such row: billers see the transfer.
    """
    tx.execute(sa.insert(tables.live_change).values(subscriber_id=subscriber_id, at=now))
