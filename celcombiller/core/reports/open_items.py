"""Open holds, calls, messages and data sessions, for metrics. Read only.

The cost grows with what is open, not with the history: the partial indexes have the open rows only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.charging.slices import HOLD_MARGIN
from celcombiller.core.payments.payment_records import count_unassigned
from celcombiller.core.provisioning import status
from celcombiller.core.reports.seller_items import SellerItems, count_seller_items
from celcombiller.core.schema import tables
from celcombiller.core.sms import message_queries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.provisioning.status import Backlog

hold, call = tables.hold, tables.call

# A literal, as in the partial indexes: with a parameter PostgreSQL's generic plans do not use them.
_OPEN = sa.text("state = 'open'")

# Not the bare column: SQLite would scan all calls by an index that has them in the order of servers.
_SERVER = sa.literal_column("server || ''", sa.Text)


@dataclass(frozen=True, slots=True)
class NetworkProgress:
    """The queue of a radio network: what waits and for how long, what fails, and totals."""

    up: bool
    waiting: int
    oldest_seconds: float
    failing: int
    done_total: int
    failed_total: int
    has_warning: bool = False


@dataclass(frozen=True, slots=True)
class OpenItems:
    """Open holds and their amount, open calls of each server, and what is overdue. Ages are in seconds.

    ``granted_seconds`` are those that answered calls may still talk, all together.
    """

    holds: int
    held: int
    oldest_seconds: float
    overdue: int
    overdue_seconds: float
    calls: Mapping[str, int]
    networks: Mapping[str, NetworkProgress] = field(default_factory=dict)
    queued_messages: int = 0
    oldest_message_seconds: float = 0.0
    data_sessions: int = 0
    granted_seconds: int = 0
    waiting_orders: int = 0
    oldest_order_seconds: float = 0.0
    unassigned_payments: int = 0
    sellers: SellerItems = field(default_factory=SellerItems)
    owed_fees: int = 0
    suspended: int = 0


def count_open_items(tx: Connection, now: datetime) -> OpenItems:
    """Count what is open. A hold outlives the limit of its call by `HOLD_MARGIN`; a call past its limit is overdue."""
    row = tx.execute(holds_statement(now)).one()
    queued, queued_since = message_queries.count_backlog(tx)
    orders = tx.execute(orders_statement()).one()
    fees = tx.execute(fees_statement()).one()
    return OpenItems(
        holds=row.holds,
        held=int(row.held),
        oldest_seconds=_seconds_since(row.opened_at, now),
        overdue=int(row.overdue),
        overdue_seconds=0.0 if row.expires_at is None else _seconds_since(row.expires_at - HOLD_MARGIN, now),
        calls={each.server: each.calls for each in tx.execute(calls_statement())},
        data_sessions=tx.execute(sa.select(sa.func.count()).select_from(tables.data_session).where(_OPEN)).scalar_one(),
        networks={each.network: _network(each, now) for each in status.backlog(tx)},
        queued_messages=queued,
        oldest_message_seconds=_seconds_since(queued_since, now),
        granted_seconds=max(0, round(tx.execute(granted_statement(now)).scalar_one())),
        waiting_orders=orders.waiting,
        oldest_order_seconds=_seconds_since(orders.made_at, now),
        unassigned_payments=count_unassigned(tx),
        sellers=count_seller_items(tx, now),
        owed_fees=fees.owed,
        suspended=fees.suspended,
    )


def _network(backlog: Backlog, now: datetime) -> NetworkProgress:
    return NetworkProgress(
        up=backlog.next_try_at is None,
        waiting=backlog.waiting,
        oldest_seconds=_seconds_since(backlog.oldest_at, now),
        failing=backlog.failing,
        done_total=backlog.done_total,
        failed_total=backlog.failed_total,
        has_warning=backlog.warning != "",
    )


def holds_statement(now: datetime) -> sa.Select[Any]:
    """Return the query for open holds."""
    late = sa.case((hold.c.expires_at < now + HOLD_MARGIN, 1), else_=0)
    return sa.select(
        sa.func.count().label("holds"),
        sa.func.coalesce(sa.func.sum(hold.c.amount), 0).label("held"),
        sa.func.min(hold.c.opened_at).label("opened_at"),
        sa.func.min(hold.c.expires_at).label("expires_at"),
        sa.func.coalesce(sa.func.sum(late), 0).label("overdue"),
    ).where(_OPEN)


def calls_statement() -> sa.Select[str, int]:
    """Return the query for the open calls of each server."""
    counted = sa.select(_SERVER.label("server"), sa.func.count().label("calls")).select_from(call)
    return counted.where(_OPEN).group_by(_SERVER)


def granted_statement(now: datetime) -> sa.Select[Any]:
    """Return the query for the seconds that answered calls may still talk."""
    ahead = call.c.granted_seconds + sa.extract("epoch", call.c.answered_at) - round(now.timestamp())
    return (
        sa.select(sa.func.coalesce(sa.func.sum(sa.case((ahead > 0, ahead), else_=0)), 0))
        .select_from(call)
        .where(_OPEN, call.c.answered_at.is_not(None))
    )


def orders_statement() -> sa.Select[Any]:
    """Return the query for the orders to live calls that wait for a biller."""
    order = tables.call_order
    columns: tuple[Any, ...] = (sa.func.count().label("waiting"), sa.func.min(order.c.made_at).label("made_at"))
    return sa.select(*columns).select_from(order).where(sa.text("done_at is null"))


def fees_statement() -> sa.Select[Any]:
    """Return the query for the fees that are owed, and the subscribers who are suspended for one."""
    period = tables.fee_period
    who = sa.func.count(sa.distinct(sa.case((period.c.suspended_at.is_not(None), period.c.subscriber_id), else_=None)))
    columns: tuple[Any, ...] = (sa.func.count().label("owed"), who.label("suspended"))
    return sa.select(*columns).select_from(period).where(sa.text("state = 'owed'"))


def _seconds_since(at: datetime | None, now: datetime) -> float:
    return 0.0 if at is None else max(0.0, (now - at).total_seconds())
