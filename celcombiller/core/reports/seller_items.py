"""What sellers sold lately and have to sell, for metrics. Read only.

The cost grows with the receipts of a day and the number of sellers, not with the history.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

PERIOD = timedelta(hours=24)
"""The time of the figures of sales."""

_seller, _receipt, _account, _subscriber = tables.seller, tables.receipt, tables.account, tables.subscriber


@dataclass(frozen=True, slots=True)
class SellerItems:
    """Sales of the last 24 hours that were not undone, as (number, credits) by class and origin; stocks by class.

    ``low``: sellers who have less left to sell than they sold in that time.
    """

    sales: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    stocks: Mapping[str, int] = field(default_factory=dict)
    low: int = 0


def count_seller_items(tx: Connection, now: datetime) -> SellerItems:
    """Count what sellers sold and have."""
    rows = tx.execute(sales_statement(now)).all()
    sales: dict[tuple[str, str], tuple[int, int]] = {}
    sold: dict[int, int] = {}
    for row in rows:
        count, amount = sales.get((row.seller_class, row.origin), (0, 0))
        sales[row.seller_class, row.origin] = (count + row.sales, amount + int(row.amount))
        sold[row.giver_id] = sold.get(row.giver_id, 0) + int(row.amount)
    stocks: dict[str, int] = {}
    low = 0
    for row in tx.execute(_STOCKS):
        stocks[row.seller_class] = stocks.get(row.seller_class, 0) + row.posted
        low += row.posted - row.held - row.floor < sold.get(row.subscriber_id, 0)
    return SellerItems(sales, stocks, low)


def sales_statement(now: datetime) -> sa.Select[Any]:
    """Return the query for the sales of each seller by each way in the last 24 hours."""
    return (
        sa.select(
            _receipt.c.giver_id,
            _seller.c.seller_class,
            _receipt.c.origin,
            sa.func.count().label("sales"),
            sa.func.sum(_receipt.c.amount).label("amount"),
        )
        .join(_seller, _seller.c.subscriber_id == _receipt.c.giver_id)
        .where(_receipt.c.kind == "sale", _receipt.c.at > now - PERIOD, _receipt.c.voided_at.is_(None))
        .group_by(_receipt.c.giver_id, _seller.c.seller_class, _receipt.c.origin)
    )


_MAY_SELL = sa.exists().where(
    _subscriber.c.id == _seller.c.subscriber_id, _subscriber.c.enabled, _subscriber.c.deleted_at.is_(None)
)

_STOCKS = (  # without a join to subscribers, of whom SQLite would read all
    sa.select(_seller.c.subscriber_id, _seller.c.seller_class, _account.c.posted, _account.c.held, _account.c.floor)
    .join(_account, _account.c.id == _seller.c.account_id)
    .where(_seller.c.enabled, _MAY_SELL)
)
