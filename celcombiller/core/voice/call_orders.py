"""Orders to live calls, on an open transaction: an operator makes them, the biller that has the call carries them out.

A biller with a link to the server of a call reads the waiting orders, and writes what became of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  `value_from_row` reads the types of the fields
from enum import StrEnum
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.schema import tables
from celcombiller.core.schema.rows import value_from_row

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.engine import Connection

DONE = "done"
"""The result of an order that was carried out. Any other says why it was not."""

_order = tables.call_order
_IS_WAITING = sa.text("done_at is null")  # as the partial index has it


class OrderKind(StrEnum):
    """What a live call is ordered to do: to end, or to say something to its caller."""

    HANGUP = "hangup"
    SAY = "say"


@dataclass(frozen=True, slots=True)
class CallOrder:
    """An order to a live call. ``reason`` is in the operator's words; ``result`` is empty while it waits."""

    id: int
    reference: str
    kind: OrderKind
    reason: str
    actor: str
    made_at: datetime
    done_at: datetime | None = None
    result: str = ""

    @property
    def waits(self) -> bool:
        """Whether no biller has carried it out yet."""
        return self.done_at is None


def add(tx: Connection, *, reference: str, kind: OrderKind, reason: str, actor: str, now: datetime) -> CallOrder:
    """Make an order to the call of this reference."""
    values = {"reference": reference, "kind": kind, "reason": reason, "actor": actor, "made_at": now}
    order_id = tx.execute(sa.insert(_order).values(**values).returning(_order.c.id)).scalar_one()
    return CallOrder(order_id, reference, kind, reason, actor, now)


def find(tx: Connection, order_id: int) -> CallOrder | None:
    """Return an order; ``None``: there is none of this id."""
    row = tx.execute(sa.select(_order).where(_order.c.id == order_id)).first()
    return None if row is None else value_from_row(row, CallOrder)


def find_last(tx: Connection, references: Collection[str]) -> dict[str, CallOrder]:
    """Return the last order to each of these calls; a call without an order is left out."""
    rows = tx.execute(sa.select(_order).where(_order.c.reference.in_(references)).order_by(_order.c.id))
    return {row.reference: value_from_row(row, CallOrder) for row in rows}


def list_waiting(tx: Connection, *, limit: int) -> list[CallOrder]:
    """Return the oldest orders that wait."""
    rows = tx.execute(sa.select(_order).where(_IS_WAITING).order_by(_order.c.id).limit(limit))
    return [value_from_row(row, CallOrder) for row in rows]


def finish(tx: Connection, order_id: int, result: str, now: datetime) -> bool:
    """Record what became of an order, once: `DONE`, or why it was not done. Return whether it was waiting."""
    which = (_order.c.id == order_id, _order.c.done_at.is_(None))
    return tx.execute(sa.update(_order).where(*which).values(done_at=now, result=result)).rowcount == 1
