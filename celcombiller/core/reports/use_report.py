"""What was sold by each seller, and called by each destination and trunk, in a span of days. Read only.

The rows of the span are read by the index of their time, so the cost grows with the span, not with the history.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.ledger.day_sums import span_of_day
from celcombiller.core.model.calls import CallState
from celcombiller.core.model.selling import ReceiptKind
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from sqlalchemy.engine import Connection

_call, _receipt, _subscriber, _trunk = tables.call, tables.receipt, tables.subscriber, tables.trunk


@dataclass(frozen=True, slots=True)
class SellerDay:
    """The sales of a seller on a day, without those that were undone since; ``undone`` counts these."""

    day: date
    username: str
    name: str
    sales: int
    sold: int
    commission: int
    undone: int


@dataclass(frozen=True, slots=True)
class CallSums:
    """Calls that went one way. ``trunk_cost`` and ``margin`` are of those of which both are known."""

    calls: int
    answered: int
    talk_seconds: int
    credits: int
    trunk_cost: int
    margin: int


@dataclass(frozen=True, slots=True)
class DestinationCalls(CallSums):
    """Calls to the numbers of one prefix of the price list."""

    prefix: str
    destination: str


@dataclass(frozen=True, slots=True)
class TrunkCalls(CallSums):
    """Calls by one trunk; ``None``: to subscribers, or in all ways that no trunk takes."""

    trunk: str | None


def sum_sales(tx: Connection, first: date, until: date, zone: ZoneInfo) -> list[SellerDay]:
    """Return the sales from a day to before another, by day and seller."""
    valid = _receipt.c.voided_at.is_(None)
    query = (
        sa.select(
            _subscriber.c.username,
            _subscriber.c.name,
            sa.func.count(sa.case((valid, 1))),
            _total(_receipt.c.amount, valid),
            _total(_receipt.c.commission, valid),
            sa.func.count(_receipt.c.voided_at),
        )
        .join(_subscriber, _subscriber.c.id == _receipt.c.giver_id)
        .where(_receipt.c.kind == ReceiptKind.SALE.value)
        .group_by(_subscriber.c.id, _subscriber.c.username, _subscriber.c.name)
        .order_by(_subscriber.c.username, _subscriber.c.id)
    )
    found = []
    for day in (first + timedelta(days=each) for each in range((until - first).days)):
        begin, end = span_of_day(day, zone)
        for username, name, *totals in tx.execute(query.where(_receipt.c.at >= begin, _receipt.c.at < end)):
            found.append(SellerDay(day, username, name, *map(int, totals)))
    return found


def sum_calls_by_destination(tx: Connection, first: date, until: date, zone: ZoneInfo) -> list[DestinationCalls]:
    """Return the calls from a day to before another by the prefix that priced them, those of most credits first."""
    rows = _sum_calls(tx, (_call.c.rate_prefix, _call.c.rate_name), first, until, zone)
    return [DestinationCalls(**sums, prefix=prefix, destination=name) for (prefix, name), sums in rows]


def sum_calls_by_trunk(tx: Connection, first: date, until: date, zone: ZoneInfo) -> list[TrunkCalls]:
    """Return the calls from a day to before another by the trunk that they went by last."""
    rows = _sum_calls(tx, (_call.c.trunk_id,), first, until, zone)
    names = {row.id: row.name for row in tx.execute(sa.select(_trunk.c.id, _trunk.c.name))}
    return [TrunkCalls(**sums, trunk=names.get(trunk_id)) for (trunk_id,), sums in rows]


def _sum_calls(
    tx: Connection, columns: tuple[sa.Column[Any], ...], first: date, until: date, zone: ZoneInfo
) -> list[tuple[tuple[Any, ...], dict[str, int]]]:
    begin, end = span_of_day(first, zone)[0], span_of_day(until - timedelta(days=1), zone)[1]
    settled = _call.c.state == CallState.SETTLED.value
    priced = sa.and_(settled, _call.c.trunk_cost.is_not(None))
    paid = _total(_call.c.cost, settled)
    sums = (
        sa.func.count(),
        sa.func.count(sa.case((settled, 1))),
        _total(_call.c.talk_ms, settled) / 1000,
        paid,
        _total(_call.c.trunk_cost, priced),
        _total(_call.c.cost - _call.c.trunk_cost, priced),
    )
    rows = tx.execute(
        sa.select(*columns, *sums)
        .where(_call.c.started_at >= begin, _call.c.started_at < end)
        .group_by(*columns)
        .order_by(paid.desc(), *columns)
    )
    names = [each.name for each in fields(CallSums)]
    size = len(columns)
    return [(tuple(row[:size]), dict(zip(names, map(int, row[size:]), strict=True))) for row in rows]


def _total(value: sa.ColumnElement[Any], condition: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, value), else_=0)), 0)
