"""Reads of the subscribers whom a biller remembers, some hundred at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.ledger.accounts import balances_of
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.subscriber_records import NOT_DELETED, subscriber_from_row

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import date

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.subscribers import Subscriber

PAGE = 500
"""Subscribers in one read: SQLite before 3.32 takes 999 parameters."""

_SUBSCRIBERS = sa.select(tables.subscriber).where(NOT_DELETED).order_by(tables.subscriber.c.id)


def read_page(tx: Connection, after: int, today: date, limit: int = PAGE) -> list[tuple[Subscriber, int]]:
    """Return the subscribers with the next ids after this one, with the voice credits that are available to each."""
    return _read(tx, _SUBSCRIBERS.where(tables.subscriber.c.id > after).limit(limit), today)


def read_these(tx: Connection, ids: Collection[int], today: date) -> list[tuple[Subscriber, int]]:
    """Return those of these subscribers who are not deleted, with the voice credits that are available to each."""
    return _read(tx, _SUBSCRIBERS.where(tables.subscriber.c.id.in_(ids)), today)


def list_recent(tx: Connection, most: int) -> list[int]:
    """Return the ids of who called or was called last, the last first; at most so many calls are looked at."""
    call = tables.call.c
    rows = tx.execute(sa.select(call.subscriber_id, call.callee_id).order_by(call.id.desc()).limit(most))
    return [*dict.fromkeys(each for row in rows for each in row if each is not None)]


def _read(tx: Connection, which: sa.Select[tuple[object, ...]], today: date) -> list[tuple[Subscriber, int]]:
    found = [subscriber_from_row(row) for row in tx.execute(which)]
    accounts = balances_of(tx, [each.id for each in found])
    of_voice = {subscriber_id: account.id for (subscriber_id, kind), account in accounts.items() if kind is Kind.VOICE}
    book = Book(today=today)
    book.load(tx, of_voice.values())
    return [(each, book.accounts[of_voice[each.id]].spendable) for each in found if each.id in of_voice]
