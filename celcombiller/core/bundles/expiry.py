"""The end of bundles: what is left goes back to the operator, and those that renew themselves are bought again.

Each is done once, on any number of nodes: a bundle ends under the lock of its account, and the id of its renewal
follows from its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.bundles import bundle_records, offers
from celcombiller.core.errors import BillerError
from celcombiller.core.ledger.book import Book
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.bundles import Bundle

SEAMLESS = timedelta(hours=1)
"""A renewal that is at most this late begins where the last bundle ended; after a longer standstill, now."""

_account, _bundle = tables.account, tables.bundle

_DUE = _bundle.c.ended_at.is_(None)


def renewal_reference(account_id: int) -> str:
    """Return the id of the bundle that follows the one of this account."""
    return f"renewal:{account_id}"


@dataclass(frozen=True, slots=True)
class Renewal:
    """A bundle whose time is over and that was to be bought again: the new one, or why there is none."""

    bundle: Bundle
    renewed: Bundle | None
    reason: str = ""


def due_renewals(tx: Connection, now: datetime, *, limit: int) -> list[int]:
    """Return the accounts of bundles that are to be bought again, the oldest first."""
    which = (_DUE, _bundle.c.valid_until <= now, _bundle.c.renews)
    query = sa.select(_bundle.c.account_id).where(*which).order_by(_bundle.c.valid_until, _bundle.c.account_id)
    return list(tx.execute(query.limit(limit)).scalars())


def renew(tx: Connection, account_id: int, *, today: date, now: datetime) -> Renewal | None:
    """Buy a bundle whose time is over again, once; ``None``: that is done, or not wanted any more.

    ``today`` is the operator's day, for the limits of spending. It is decided once: where the balance is too low, or
    the offer is no longer sold, it is not tried again.
    """
    bundle = bundle_records.lock(tx, account_id)
    if not bundle.renews or bundle.ended_at is not None or bundle.valid_until > now:
        return None
    tx.execute(sa.update(_bundle).where(_bundle.c.account_id == account_id).values(renews=False))
    try:
        if bundle.offer_id is None:
            return Renewal(bundle, None, "it is of no offer")
        renewed, _ = bundle_records.buy(
            tx,
            bundle.subscriber_id,
            offers.find(tx, bundle.offer_id),
            reference=renewal_reference(account_id),
            renews=True,
            today=today,
            valid_from=bundle.valid_until if now - bundle.valid_until <= SEAMLESS else now,
            now=now,
        )
    except BillerError as refusal:
        return Renewal(bundle, None, str(refusal))
    return Renewal(bundle, renewed)


def due_ends(tx: Connection, now: datetime, *, limit: int) -> list[int]:
    """Return the accounts of bundles whose time is over and that hold nothing, the oldest first.

    One that is to be bought again waits until that is decided, and one with open holds until they have ended.
    """
    query = (
        sa.select(_bundle.c.account_id)
        .join(_account, _account.c.id == _bundle.c.account_id)
        .where(_DUE, _bundle.c.valid_until <= now, sa.not_(_bundle.c.renews), _account.c.held == 0)
        .order_by(_bundle.c.valid_until, _bundle.c.account_id)
    )
    return list(tx.execute(query.limit(limit)).scalars())


def end_expired(tx: Connection, account_ids: Sequence[int], now: datetime) -> int:
    """End those of these bundles that have not ended yet, and return how many; what is left of each goes back."""
    book = Book()
    book.load(tx, account_ids)
    which = (_DUE, _bundle.c.account_id.in_(account_ids), _bundle.c.valid_until <= now)
    rows = tx.execute(sa.select(_bundle.c.account_id, _bundle.c.reference).where(*which))
    references = {row.account_id: row.reference for row in rows}
    return len(bundle_records.take_back(tx, book, references, origin=bundle_records.EXPIRED, now=now))
