"""What has happened that live calls must follow: credits, changed subscribers and groups, and orders of operators.

Rows are found by their ids. PostgreSQL gives out ids before the commit, so a row may become visible after one with a
higher id: what is newer than `Marks` is read again and again, and told apart by the ids that were seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.model.calls import CallState
from celcombiller.core.schema import tables
from celcombiller.core.schema.catalogue_change import last_change
from celcombiller.core.voice import call_orders

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.voice.call_orders import CallOrder

ROWS_MAX = 2000
"""So many transfers are looked at one by one; of more, all calls that could use credit are looked at."""

ORDERS_MAX = 100


@dataclass(frozen=True, slots=True)
class Marks:
    """The ids up to which everything was read, of transfers and of live changes."""

    transfer_id: int = 0
    change_id: int = 0


@dataclass(frozen=True, slots=True)
class LiveChanges:
    """The rows after the marks: by id, the subscriber whose account was credited, and who has changed (None: all).

    ``too_many``: there are more credits than were read. ``orders`` wait; the calls of those in ``over`` have ended.
    ``last`` are the highest ids that there are; ``catalogue_number``: the catalogue in which changed groups are.
    """

    credited: dict[int, int] = field(default_factory=dict)
    changed: dict[int, int | None] = field(default_factory=dict)
    orders: tuple[CallOrder, ...] = ()
    over: frozenset[str] = frozenset()
    last: Marks = Marks()
    too_many: bool = False
    catalogue_number: int = 0


def read_changes(tx: Connection, after: Marks | None = None) -> LiveChanges:
    """Return what came after these marks, and the orders that wait; without marks only those, and where to go on."""
    last = _read_last(tx)
    after = after or last
    credited: dict[int, int] = {}
    too_many = last.transfer_id - after.transfer_id > ROWS_MAX
    if last.transfer_id > after.transfer_id and not too_many:
        credited.update((row.id, row.subscriber_id) for row in tx.execute(_CREDITED, {"after": after.transfer_id}))
    changed: dict[int, int | None] = {}
    if last.change_id > after.change_id:
        changed.update((row.id, row.subscriber_id) for row in tx.execute(_CHANGED, {"after": after.change_id}))
    orders = tuple(call_orders.list_waiting(tx, limit=ORDERS_MAX))
    over = frozenset({each.reference for each in orders} - _list_open(tx, orders)) if orders else frozenset[str]()
    return LiveChanges(credited, changed, orders, over, last, too_many, last_change(tx) if changed else 0)


def _read_last(tx: Connection) -> Marks:
    """Return the highest ids that there are now."""
    transfers, changes = (sa.select(sa.func.max(each.c.id)).scalar_subquery() for each in (_TRANSFER, _CHANGE))
    row = tx.execute(sa.select(transfers, changes)).one()
    return Marks(row[0] or 0, row[1] or 0)


def _list_open(tx: Connection, orders: tuple[CallOrder, ...]) -> set[str]:
    references = {each.reference for each in orders}
    statement = sa.select(_CALL.c.reference).where(_CALL.c.reference.in_(references), _CALL.c.state == CallState.OPEN)
    return set(tx.execute(statement).scalars())


def forget_changes(tx: Connection, before: datetime) -> None:
    """Delete the rows of changes that every biller has read."""
    tx.execute(sa.delete(_CHANGE).where(_CHANGE.c.at < before))


_TRANSFER, _CHANGE, _CALL = tables.transfer, tables.live_change, tables.call

_CREDITED = (
    sa.select(_TRANSFER.c.id, tables.account.c.subscriber_id)
    .join(tables.account, tables.account.c.id == _TRANSFER.c.credit_account_id)
    .where(_TRANSFER.c.id > sa.bindparam("after"), tables.account.c.subscriber_id.is_not(None))
)

_CHANGED = sa.select(_CHANGE.c.id, _CHANGE.c.subscriber_id).where(_CHANGE.c.id > sa.bindparam("after"))
