"""Read accounts, and set a credit limit."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, time
from typing import TYPE_CHECKING

import sqlalchemy as sa
from msgspec import structs

from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.book import Book
from celcombiller.core.ledger.rows import ACCOUNT_COLUMNS, AMOUNT_MAX, SPENDING_COLUMNS, account_from_columns
from celcombiller.core.ledger.spending import SPENDING, Spending, on_day, undo_reference
from celcombiller.core.model.accounts import Account, Kind
from celcombiller.core.schema import driver, tables
from celcombiller.core.schema.live_change import record_live_change

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import date, tzinfo

    from sqlalchemy.engine import Connection


def set_credit_limit(tx: Connection, account_id: int, floor: int, now: datetime) -> Account:
    """Set down to which balance an account may be used: 0 for prepaid, less for a credit limit.

    It applies to what is granted from now on, open calls included. Raises `InvalidValue`.
    """
    if not -AMOUNT_MAX <= floor <= 0:
        raise InvalidValue(f"a floor is a whole number from -{AMOUNT_MAX} to 0")
    book = Book()
    book.load(tx, [account_id])
    tx.execute(sa.update(tables.account).where(tables.account.c.id == account_id).values(floor=floor))
    record_live_change(tx, book.accounts[account_id].subscriber_id, now)
    return structs.replace(book.accounts[account_id], floor=floor)


def set_spending_limits(
    tx: Connection, account_id: int, day_limit: int | None, month_limit: int | None, *, zone: tzinfo, now: datetime
) -> Spending:
    """Set what an account may spend in a day and in a month (``None``: no limit); return it with what it has spent.

    Spent is what it was charged on this day and in its month, in the operator's time zone. It applies to what is
    granted from now on, open calls included. Raises `InvalidValue`.
    """
    for name, limit in (("day_limit", day_limit), ("month_limit", month_limit)):
        if limit is not None and not 0 <= limit <= AMOUNT_MAX:
            what = f"must be a whole number from 0 to {AMOUNT_MAX}, or none"
            raise InvalidValue(f"{name} {what}", {name: what})
    book = Book()
    book.load(tx, [account_id])  # no charge moves between the sums and the row
    today = now.astimezone(zone).date()
    day_began, month_began = (datetime.combine(each, time(), zone) for each in (today, today.replace(day=1)))
    spent = (_spent_since(tx, account_id, began) for began in (day_began, month_began))
    spending = Spending(day_limit, month_limit, today, *spent)
    tx.execute(sa.update(tables.account).where(tables.account.c.id == account_id).values(asdict(spending)))
    record_live_change(tx, book.accounts[account_id].subscriber_id, now)
    return spending


def _spent_since(tx: Connection, account_id: int, began: datetime) -> int:
    transfer = tables.transfer.c
    which = (transfer.debit_account_id == account_id, transfer.origin.in_(SPENDING), transfer.at >= began, not_undone())
    return int(tx.execute(sa.select(sa.func.coalesce(sa.func.sum(transfer.amount), 0)).where(*which)).scalar_one())


def not_undone() -> sa.ColumnElement[bool]:
    """Return the condition on transfers that no other one undid."""
    undo = tables.transfer.alias()
    reference = sa.literal(undo_reference("")).concat(tables.transfer.c.reference)
    return ~sa.exists(sa.select(undo.c.id).where(undo.c.reference == reference))


def spendings(tx: Connection, subscriber_id: int, today: date) -> dict[Kind, Spending]:
    """Return the limits of a subscriber's accounts, and what each has spent by this day, by kind."""
    columns = tables.account.c
    which = (columns.subscriber_id == subscriber_id, columns.kind.in_(Kind))
    rows = tx.execute(sa.select(columns.kind, *(columns[name] for name in SPENDING_COLUMNS)).where(*which))
    return {Kind(kind): on_day(Spending(*spending), today) for kind, *spending in rows}


def balances(tx: Connection, subscriber_id: int) -> dict[Kind, Account]:
    """Return a subscriber's accounts by kind, without bundles."""
    return by_kind(_ACCOUNTS_OF_SUBSCRIBER.rows(tx, subscriber_id=subscriber_id))


def by_kind(rows: Iterable[driver.Row]) -> dict[Kind, Account]:
    """Return the accounts of rows of `ACCOUNTS` that are no bundles, by kind."""
    accounts = (account_from_columns(*row) for row in rows)
    return {each.kind: each for each in accounts if isinstance(each.kind, Kind)}


ACCOUNTS = sa.select(*(tables.account.c[name] for name in ACCOUNT_COLUMNS))
"""The query of accounts; a caller adds its condition."""


_ACCOUNTS_OF_SUBSCRIBER = driver.PreparedQuery(
    ACCOUNTS.where(tables.account.c.subscriber_id == sa.bindparam("subscriber_id"))
)


# Built once: building a statement costs three times as much as executing it.
_ACCOUNTS_OF_SUBSCRIBERS = ACCOUNTS.where(
    tables.account.c.subscriber_id.in_(sa.bindparam("subscriber_ids", expanding=True)), tables.account.c.kind.in_(Kind)
)


def balances_of(tx: Connection, subscriber_ids: Collection[int]) -> dict[tuple[int, Kind], Account]:
    """Return the accounts of these subscribers, without bundles, by subscriber and kind."""
    if not subscriber_ids:
        return {}
    rows = tx.execute(_ACCOUNTS_OF_SUBSCRIBERS, {"subscriber_ids": list(subscriber_ids)})
    return {(row.subscriber_id, Kind(row.kind)): account_from_columns(*row) for row in rows}
