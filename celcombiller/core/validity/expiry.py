"""Take the credit whose time is over: one transfer to the operator for each account, once, whatever breaks.

Credit that is held is not taken: it is, at a later look, when its hold has ended and left some. The limit to which an
account may be used below 0 is no credit of the subscriber's, and is not touched.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.ledger.book import Book
from celcombiller.core.schedules.due_dates import local_date
from celcombiller.core.schema import tables
from celcombiller.core.validity.end_dates import lock_bookmark, read_terms
from celcombiller.core.validity.validity_terms import last_day, start_of, topped_up_before

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.accounts import Kind
    from celcombiller.core.validity.validity_terms import KindTerms

ORIGIN = "expiry"

CREDIT = "expiry:"
"""The beginning of the reference of each transfer that takes credit whose time is over; bundles have another."""

_account, _transfer = tables.account, tables.transfer
_validity, _expiry = tables.credit_validity, tables.credit_expiry


@dataclass(frozen=True, slots=True)
class ExpiredCredit:
    """Credit that was taken: ``valid_until`` was its last day."""

    account_id: int
    kind: Kind
    amount: int
    valid_until: date
    reference: str


@dataclass(frozen=True, slots=True)
class EndingCredit:
    """Credit that will end after the day ``valid_until``, as far as it is not spent; or is waiting to be taken."""

    account_id: int
    kind: Kind
    username: str
    name: str
    posted: int
    held: int
    valid_until: date


def reference_of(account_id: int, day: date, part: int = 0) -> str:
    """Return the reference of the transfer that takes what an account had when ``day``, its last one, was over.

    What was held then and became free later is a further ``part``.
    """
    return f"{CREDIT}{account_id}:{day}" + (f":{part + 1}" if part else "")


def due(tx: Connection, kind: Kind, *, zone: str, now: datetime, limit: int) -> list[int]:
    """Return accounts whose credit has ended and of which something can be taken, or closed as there is nothing."""
    terms = read_terms(tx).get(kind)
    if terms is None or _is_paused(terms, now):
        return []
    today = local_date(now, zone)
    before = topped_up_before(today, terms.days, zone)
    if before is None or terms.since >= before:
        return []
    query = (
        sa.select(_validity.c.account_id)
        .join(_account, _account.c.id == _validity.c.account_id)
        .where(
            _validity.c.kind == kind.value,
            _validity.c.ended_at.is_(None),
            _validity.c.topped_up_at < before,
            sa.or_(_validity.c.valid_until.is_(None), _validity.c.valid_until < today),
            sa.or_(_account.c.posted > _account.c.held, _account.c.held == 0),
        )
        .order_by(_validity.c.topped_up_at, _validity.c.account_id)
    )
    return list(tx.execute(query.limit(limit)).scalars())


def expire(
    tx: Connection, kind: Kind, account_ids: Sequence[int], *, top_ups: str, zone: str, now: datetime
) -> tuple[list[ExpiredCredit], int]:
    """Take what has ended of these accounts; return it, and how many accounts were done.

    An account with a top-up that was not read yet is left for the next look. ``top_ups``: what counts as one, for the
    record.
    """
    bookmark, terms = lock_bookmark(tx), read_terms(tx).get(kind)
    if bookmark is None or terms is None or _is_paused(terms, now):
        return [], 0
    book = Book()
    book.load(tx, account_ids)
    unread = sa.select(_transfer.c.credit_account_id).where(
        _transfer.c.credit_account_id.in_(account_ids), _transfer.c.id > bookmark
    )
    moved = set(tx.execute(unread).scalars())
    which = (_validity.c.account_id.in_(account_ids), _validity.c.ended_at.is_(None), _validity.c.kind == kind.value)
    rows = tx.execute(sa.select(_validity).where(*which).order_by(_validity.c.account_id).with_for_update()).all()
    parts = _count_parts(tx, account_ids)
    today, taken, closed = local_date(now, zone), [], []
    records: list[dict[str, Any]] = []
    for row in rows:
        day = last_day(terms, row.topped_up_at, row.valid_until, zone)
        if row.account_id in moved or day >= today:
            continue
        account = book.accounts[row.account_id]
        amount = account.posted - account.held
        if amount > 0:
            reference = reference_of(account.id, day, parts[account.id, day])
            operator_id = tables.OPERATOR_ACCOUNT_IDS[kind]
            book.post(reference, account.id, operator_id, amount, origin=ORIGIN, now=now, note=f"valid until {day}")
            taken.append(ExpiredCredit(account.id, kind, amount, day, reference))
            records.append(
                {
                    "reference": reference,
                    "account_id": account.id,
                    "topped_up_at": max(row.topped_up_at, terms.since),
                    "days": terms.days,
                    "top_ups": top_ups,
                    "valid_until": day,
                    "ended_at": start_of(day + timedelta(days=1), zone),
                }
            )
        if account.held == 0:
            closed.append(account.id)
    book.save(tx)
    if records:
        tx.execute(sa.insert(_expiry), records)
    if closed:
        tx.execute(sa.update(_validity).where(_validity.c.account_id.in_(closed)).values(ended_at=now))
    return taken, len({*closed, *(each.account_id for each in taken)})


def _count_parts(tx: Connection, account_ids: Sequence[int]) -> Counter[tuple[int, date]]:
    """Return how often credit of each account and last day was taken already."""
    columns = (_expiry.c.account_id, _expiry.c.valid_until)
    query = sa.select(*columns, sa.func.count()).where(_expiry.c.account_id.in_(account_ids)).group_by(*columns)
    return Counter({(account_id, day): number for account_id, day, number in tx.execute(query)})


def _is_paused(terms: KindTerms, now: datetime) -> bool:
    return terms.since > now or (terms.paused_until is not None and terms.paused_until > now)


def preview(tx: Connection, kind: Kind, *, until: date, zone: str, limit: int) -> list[EndingCredit]:
    """Return the credit that ends by a day if it is neither spent nor topped up, the first to end first.

    Credit of which the time is over, and that waits to be taken, is among it.
    """
    terms = read_terms(tx).get(kind)
    if terms is None:
        return []
    counted = topped_up_before(until + timedelta(days=1), terms.days, zone)
    if counted is None or terms.since >= counted:
        return []
    subscriber = tables.subscriber
    query = (
        sa.select(_account, subscriber.c.username, subscriber.c.name, _validity.c.topped_up_at, _validity.c.valid_until)
        .join(_account, _account.c.id == _validity.c.account_id)
        .join(subscriber, subscriber.c.id == _account.c.subscriber_id)
        .where(
            _validity.c.kind == kind.value,
            _validity.c.ended_at.is_(None),
            _validity.c.topped_up_at < counted,
            sa.or_(_validity.c.valid_until.is_(None), _validity.c.valid_until <= until),
            _account.c.posted > 0,
        )
        .order_by(_validity.c.topped_up_at, _account.c.id)
        .limit(limit)
    )
    return [
        EndingCredit(
            row.id,
            kind,
            row.username,
            row.name,
            row.posted,
            row.held,
            last_day(terms, row.topped_up_at, row.valid_until, zone),
        )
        for row in tx.execute(query)
    ]
