"""Bundles of subscribers: give, buy, find, change and end them, on an open transaction.

A bundle is an account of its own, filled by one transfer and emptied by uses and, at its end, by another one back to
the operator. Whoever makes or changes one locks its subscriber first, then the accounts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.bundles import offers
from celcombiller.core.bundles.terms import BundleTerms, check_hours, check_terms
from celcombiller.core.errors import (
    InsufficientBalance,
    InvalidValue,
    NotFound,
    SubscriberDisabled,
    TransferConflict,
    UnknownSubscriber,
)
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import Account, BundleKind, Kind
from celcombiller.core.model.bundles import Bundle, Offer
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import date, datetime

    from sqlalchemy.engine import Connection, Row

GIVEN = "bundle"
"""The origin of a transfer that fills a bundle by hand, and of one that empties it before its time."""

BOUGHT = "offer"
"""The origin of the two transfers of a purchase: the price, and what fills the bundle."""

EXPIRED = "expiry"
"""The origin of the transfer that takes back what is left when the time of a bundle is over."""

AHEAD_MAX = timedelta(days=3660)
"""How long before its beginning a bundle may be given."""

_account, _bundle, _subscriber, _transfer = tables.account, tables.bundle, tables.subscriber, tables.transfer


def price_reference(reference: str) -> str:
    """Return the id of the transfer that pays for a bundle of this reference."""
    return f"price:{reference}"


def end_reference(reference: str) -> str:
    """Return the id of the transfer that takes back what a bundle of this reference has left."""
    return f"end:{reference}"


def give(
    tx: Connection,
    subscriber_id: int,
    terms: BundleTerms,
    *,
    valid_hours: int,
    valid_from: datetime | None = None,
    reference: str,
    note: str = "",
    now: datetime,
) -> tuple[Bundle, bool]:
    """Give a subscriber a free bundle, once for a ``reference``. Return it, and whether this request made it.

    The same request again gets the first answer. Raises `UnknownSubscriber`, `InvalidValue`, and `TransferConflict`
    when the reference was used for something else.
    """
    terms, begins, ends = _read_gift(terms, valid_hours, valid_from, now)
    lock_subscriber(tx, subscriber_id)
    known = _find_given(tx, reference)
    if known is not None:
        same = known.subscriber_id == subscriber_id and _terms_of(known) == terms and known.offer_id is None
        if not same or known.valid_until - known.valid_from != timedelta(hours=valid_hours):
            raise _conflict(reference)
        return known, False
    _check_end(ends, now)
    made = _insert(
        tx, subscriber_id, terms, reference=reference, begins=begins, ends=ends, origin=GIVEN, note=note, now=now
    )
    return made, True


def plan_gift(
    terms: BundleTerms, *, valid_hours: int, valid_from: datetime | None, now: datetime
) -> tuple[BundleTerms, datetime, datetime]:
    """Return the terms of a free bundle in their one form, its begin and its end. Raises `InvalidValue`."""
    terms, begins, ends = _read_gift(terms, valid_hours, valid_from, now)
    _check_end(ends, now)
    return terms, begins, ends


def _read_gift(
    terms: BundleTerms, valid_hours: int, valid_from: datetime | None, now: datetime
) -> tuple[BundleTerms, datetime, datetime]:
    terms = check_terms(terms)
    check_hours(valid_hours)
    if valid_from is not None and not now - AHEAD_MAX < valid_from < now + AHEAD_MAX:
        what = f"must be within {AHEAD_MAX.days} days of now"
        raise InvalidValue(f"valid_from {what}", {"valid_from": what})
    begins = valid_from or now
    return terms, begins, begins + timedelta(hours=valid_hours)


def _check_end(ends: datetime, now: datetime) -> None:
    if ends <= now:
        what = "must leave it some time: it would be over already"
        raise InvalidValue(f"valid_from {what}", {"valid_from": what})


def buy(
    tx: Connection,
    subscriber_id: int,
    offer: Offer,
    *,
    reference: str,
    renews: bool | None = None,
    valid_from: datetime | None = None,
    note: str = "",
    today: date,
    now: datetime,
) -> tuple[Bundle, bool]:
    """Buy a bundle of an offer from the voice balance, once for a ``reference``. Return it, and whether it is new.

    ``renews``: whether it is bought again at its end, by default as the offer says. ``today`` is the operator's day,
    for the limits of spending. The same request again gets the
    first answer. Raises `UnknownSubscriber`, `SubscriberDisabled`, `InsufficientBalance`, `InvalidValue` for an offer
    that is not for sale, and `TransferConflict` when the reference was used for something else. A refusal writes
    nothing.
    """
    enabled = lock_subscriber(tx, subscriber_id)
    known = _find_given(tx, reference)
    if known is not None:
        if known.subscriber_id != subscriber_id or known.offer_id != offer.id:
            raise _conflict(reference)
        return known, False
    if not offer.enabled:
        raise InvalidValue(f"the offer {offer.name} is not for sale now")
    if not enabled:
        raise SubscriberDisabled("the subscriber may not use the service")
    begins = valid_from or now
    made = _insert(
        tx,
        subscriber_id,
        offers.terms_of(offer),
        reference=reference,
        begins=begins,
        ends=begins + timedelta(hours=offer.valid_hours),
        origin=BOUGHT,
        offer_id=offer.id,
        price=offer.price,
        renews=offer.renews if renews is None else renews,
        note=note,
        today=today,
        now=now,
    )
    return made, True


@dataclass(frozen=True, slots=True)
class Gift:
    """A bundle to give for nothing, as an offer had these terms for it; it is not bought again at its end."""

    subscriber_id: int
    terms: BundleTerms
    offer_id: int
    valid_hours: int
    reference: str
    note: str = ""


def give_many(tx: Connection, gifts: Sequence[Gift], *, origin: str, now: datetime) -> None:
    """Add bundles for many subscribers in a few statements. The caller has locked the subscribers.

    The caller makes sure that each is given once for its reference.
    """
    if not gifts:
        return
    pots = _read_last_pots(tx, gifts)
    accounts = []
    for each in gifts:
        pots[each.subscriber_id, each.terms.kind] += 1
        pot = pots[each.subscriber_id, each.terms.kind]
        owner: dict[str, Any] = {"subscriber_id": each.subscriber_id, "kind": each.terms.kind, "pot": pot}
        accounts.append(owner | {"posted": 0, "held": 0})
    inserted = sa.insert(_account).returning(_account.c.id, sort_by_parameter_order=True)
    account_ids = list(tx.execute(inserted, accounts).scalars())
    rows = [
        _bundle_columns(
            account_id,
            each.subscriber_id,
            each.terms,
            reference=each.reference,
            begins=now,
            ends=now + timedelta(hours=each.valid_hours),
            offer_id=each.offer_id,
            renews=False,
        )
        for account_id, each in zip(account_ids, gifts, strict=True)
    ]
    tx.execute(sa.insert(_bundle), rows)
    book = Book()
    book.load(tx, account_ids)
    for account_id, each in zip(account_ids, gifts, strict=True):
        operator_id = tables.OPERATOR_ACCOUNT_IDS[each.terms.kind]
        note = each.note or each.terms.name
        book.post(each.reference, operator_id, account_id, each.terms.amount, origin=origin, now=now, note=note)
    book.save(tx)


def _read_last_pots(tx: Connection, gifts: Sequence[Gift]) -> Counter[tuple[int, BundleKind]]:
    """Return the number of the last pot that each of these subscribers has of each kind."""
    columns = (_account.c.subscriber_id, _account.c.kind)
    which = (_account.c.subscriber_id.in_({each.subscriber_id for each in gifts}), _account.c.pot > 0)
    rows = tx.execute(sa.select(*columns, sa.func.max(_account.c.pot)).where(*which).group_by(*columns))
    return Counter({(subscriber_id, BundleKind(kind)): pot for subscriber_id, kind, pot in rows})


def give_paid(
    tx: Connection, subscriber_id: int, offer: Offer, *, reference: str, origin: str, until: datetime, now: datetime
) -> None:
    """Give a bundle of an offer that is paid already, from now to ``until``; the caller has locked the subscriber."""
    terms = offers.terms_of(offer)
    _insert(
        tx,
        subscriber_id,
        terms,
        reference=reference,
        begins=now,
        ends=until,
        origin=origin,
        offer_id=offer.id,
        now=now,
    )


def lock_subscriber(tx: Connection, subscriber_id: int) -> bool:
    """Lock a subscriber's bundles until the transaction ends; return whether they may use the service.

    Raises `UnknownSubscriber` for one who is deleted.
    """
    which = (_subscriber.c.id == subscriber_id, _subscriber.c.deleted_at.is_(None))
    row = tx.execute(sa.select(_subscriber.c.enabled).where(*which).with_for_update(key_share=True)).first()
    if row is None:
        raise UnknownSubscriber(f"no subscriber has the id {subscriber_id}")
    return bool(row.enabled)


def lock_subscribers(tx: Connection, subscriber_ids: Collection[int]) -> None:
    """Lock the bundles of these subscribers until the transaction ends, in the order of their ids."""
    if subscriber_ids:
        rows = sa.select(_subscriber.c.id).where(_subscriber.c.id.in_(subscriber_ids)).order_by(_subscriber.c.id)
        tx.execute(rows.with_for_update(key_share=True))


def _insert(
    tx: Connection,
    subscriber_id: int,
    terms: BundleTerms,
    *,
    reference: str,
    begins: datetime,
    ends: datetime,
    origin: str,
    offer_id: int | None = None,
    price: int = 0,
    renews: bool = False,
    note: str = "",
    today: date | None = None,
    now: datetime,
) -> Bundle:
    book = Book(today=today)
    voice_id = _pay(tx, book, subscriber_id, price) if price else 0
    next_pot = sa.select(sa.func.coalesce(sa.func.max(_account.c.pot), 0) + 1).where(
        _account.c.subscriber_id == subscriber_id, _account.c.kind == terms.kind.value
    )
    account: dict[str, Any] = {"subscriber_id": subscriber_id, "kind": terms.kind, "posted": 0, "held": 0}
    account["pot"] = next_pot.scalar_subquery()
    inserted = sa.insert(_account).values(account).returning(_account.c.id)
    account_id: int = tx.execute(inserted).scalar_one()
    columns = _bundle_columns(
        account_id,
        subscriber_id,
        terms,
        reference=reference,
        begins=begins,
        ends=ends,
        offer_id=offer_id,
        renews=renews,
    )
    tx.execute(sa.insert(_bundle).values(columns))
    book.load(tx, [account_id])
    if price:
        operator_id = tables.OPERATOR_ACCOUNT_IDS[Kind.VOICE]
        book.post(
            price_reference(reference), voice_id, operator_id, price, origin=BOUGHT, now=now, note=note or terms.name
        )
    operator_id = tables.OPERATOR_ACCOUNT_IDS[terms.kind]
    book.post(reference, operator_id, account_id, terms.amount, origin=origin, now=now, note=note or terms.name)
    book.save(tx)
    return find(tx, account_id)


def _bundle_columns(
    account_id: int,
    subscriber_id: int,
    terms: BundleTerms,
    *,
    reference: str,
    begins: datetime,
    ends: datetime,
    offer_id: int | None,
    renews: bool,
) -> dict[str, Any]:
    return {
        "account_id": account_id,
        "reference": reference,
        "subscriber_id": subscriber_id,
        "offer_id": offer_id,
        "name": terms.name,
        "services": " ".join(terms.services),
        "destinations": " ".join(terms.destinations),
        "priority": terms.priority,
        "call_seconds_max": terms.call_seconds_max,
        "valid_from": begins,
        "valid_until": ends,
        "renews": renews,
    }


def _pay(tx: Connection, book: Book, subscriber_id: int, price: int) -> int:
    """Lock the voice account, and return its id. Raise `InsufficientBalance` before anything is written."""
    which = (_account.c.subscriber_id == subscriber_id, _account.c.kind == Kind.VOICE.value)
    voice_id: int = tx.execute(sa.select(_account.c.id).where(*which)).scalar_one()
    book.load(tx, [voice_id])
    available = max(book.accounts[voice_id].spendable, 0)
    if available < price:
        raise InsufficientBalance(f"it costs {price}, {available} available")
    return voice_id


# -- reading ---------------------------------------------------------------------------------------------------------


def find(tx: Connection, account_id: int) -> Bundle:
    """Return a bundle, living or ended. Raise `NotFound` if there is none."""
    row = tx.execute(_BUNDLES.where(_bundle.c.account_id == account_id)).first()
    if row is None:
        raise NotFound(f"there is no bundle {account_id}")
    return bundle_from_row(row)


def account_of(bundle: Bundle) -> Account:
    """Return the account of a bundle."""
    return Account(bundle.account_id, bundle.kind, bundle.subscriber_id, bundle.posted, bundle.held, floor=0)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a bundle is; their row stays when they are deleted."""

    username: str
    name: str
    level: Level


def find_owner(tx: Connection, bundle: Bundle) -> Owner:
    """Return whose a bundle is."""
    columns = (_subscriber.c.username, _subscriber.c.name, _subscriber.c.level)
    row = tx.execute(sa.select(*columns).where(_subscriber.c.id == bundle.subscriber_id)).one()
    return Owner(row.username, row.name, Level(row.level))


def list_of(tx: Connection, subscriber_id: int) -> list[Bundle]:
    """Return the living bundles of a subscriber, in the order in which they are spent."""
    order = (_bundle.c.priority, _bundle.c.valid_until, _bundle.c.account_id)
    which = (_bundle.c.subscriber_id == subscriber_id, _bundle.c.ended_at.is_(None))
    return list(map(bundle_from_row, tx.execute(_BUNDLES.where(*which).order_by(*order))))


def list_all(
    tx: Connection,
    *,
    subscriber_id: int | None = None,
    ended: bool | None = None,
    before_id: int | None = None,
    limit: int,
) -> list[tuple[str, Bundle]]:
    """Return the last ``limit`` bundles with the usernames of their subscribers, newest first."""
    conditions = []
    if subscriber_id is not None:
        conditions.append(_bundle.c.subscriber_id == subscriber_id)
    if ended is not None:
        conditions.append(_bundle.c.ended_at.is_not(None) if ended else _bundle.c.ended_at.is_(None))
    if before_id is not None:
        conditions.append(_bundle.c.account_id < before_id)
    named = _BUNDLES.add_columns(_subscriber.c.username).join(_subscriber, _subscriber.c.id == _bundle.c.subscriber_id)
    rows = tx.execute(named.where(*conditions).order_by(_bundle.c.account_id.desc()).limit(limit))
    return [(row.username, bundle_from_row(row)) for row in rows]


_BUNDLES = (
    sa.select(
        _bundle,
        _account.c.kind,
        _account.c.posted,
        _account.c.held,
        sa.func.coalesce(_transfer.c.amount, 0).label("amount"),
    )
    .join(_account, _account.c.id == _bundle.c.account_id)
    .outerjoin(_transfer, _transfer.c.reference == _bundle.c.reference)
)


def bundle_from_row(row: Row[Any]) -> Bundle:
    """Return the bundle of a row, with the columns of its account."""
    return Bundle(
        account_id=row.account_id,
        reference=row.reference,
        subscriber_id=row.subscriber_id,
        offer_id=row.offer_id,
        name=row.name,
        kind=BundleKind(row.kind),
        amount=row.amount,
        services=tuple(row.services.split()),
        destinations=tuple(row.destinations.split()),
        priority=row.priority,
        valid_from=row.valid_from,
        valid_until=row.valid_until,
        renews=row.renews,
        ended_at=row.ended_at,
        posted=row.posted,
        held=row.held,
        call_seconds_max=row.call_seconds_max,
    )


def _find_given(tx: Connection, reference: str) -> Bundle | None:
    """Return the bundle of a reference. Raise `TransferConflict` when another transfer has it."""
    row = tx.execute(_BUNDLES.where(_bundle.c.reference == reference)).first()
    if row is None and tx.execute(sa.select(_transfer.c.id).where(_transfer.c.reference == reference)).first():
        raise _conflict(reference)
    return None if row is None else bundle_from_row(row)


def _conflict(reference: str) -> TransferConflict:
    return TransferConflict(f"a transfer with the id {reference} exists and says something else")


def _terms_of(bundle: Bundle) -> BundleTerms:
    return BundleTerms(
        bundle.name,
        bundle.kind,
        bundle.amount,
        bundle.services,
        bundle.destinations,
        bundle.priority,
        bundle.call_seconds_max,
    )


# -- changing and ending ---------------------------------------------------------------------------------------------


def set_renewal(tx: Connection, account_id: int, *, renews: bool) -> Bundle:
    """Set whether a bundle of an offer is bought again at its end. Raises `NotFound` and `InvalidValue`."""
    bundle = lock(tx, account_id)
    if bundle.ended_at is not None:
        raise InvalidValue("the bundle has ended")
    if renews and bundle.offer_id is None:
        raise InvalidValue("only a bundle of an offer can be bought again", {"renews": "needs an offer"})
    tx.execute(sa.update(_bundle).where(_bundle.c.account_id == account_id).values(renews=renews))
    return find(tx, account_id)


def end(tx: Connection, account_id: int, *, note: str = "", now: datetime) -> Bundle:
    """End a bundle before its time: what is left goes back to the operator, and it is not bought again.

    Where uses in progress hold some of it, nothing more can be held, and it ends when they have. Ending it again
    changes nothing. Raises `NotFound`.
    """
    bundle = lock(tx, account_id)
    if bundle.ended_at is None:
        book = Book()
        book.load(tx, [account_id])
        if book.accounts[account_id].held:
            until = max(min(bundle.valid_until, now), bundle.valid_from + timedelta(microseconds=1))
            values = {"renews": False, "valid_until": until}
            tx.execute(sa.update(_bundle).where(_bundle.c.account_id == account_id).values(values))
        else:
            take_back(tx, book, {account_id: bundle.reference}, origin=GIVEN, note=note or bundle.name, now=now)
    return find(tx, account_id)


def take_back(
    tx: Connection, book: Book, references: dict[int, str], *, origin: str, note: str = "", now: datetime
) -> list[int]:
    """End those of these bundles that have not ended, and hold nothing; return their accounts.

    ``book`` has their accounts, locked, and ``references`` are the bundles' own. Whoever ends a bundle has its account
    locked, so no two do.
    """
    which = (_bundle.c.account_id.in_(references), _bundle.c.ended_at.is_(None))
    living = tx.execute(sa.select(_bundle.c.account_id).where(*which).order_by(_bundle.c.account_id)).scalars()
    ended = [each for each in living if book.accounts[each].held == 0]
    for account_id in ended:
        account = book.accounts[account_id]
        if account.posted:
            operator_id = tables.OPERATOR_ACCOUNT_IDS[account.kind]
            book.post(
                end_reference(references[account_id]),
                account_id,
                operator_id,
                account.posted,
                origin=origin,
                now=now,
                note=note,
            )
    book.save(tx)
    values = {"ended_at": now, "renews": False}
    tx.execute(sa.update(_bundle).where(_bundle.c.account_id.in_(ended)).values(values))
    return ended


def lock(tx: Connection, account_id: int) -> Bundle:
    """Lock the bundles of the subscriber of a bundle, and return it as it then is. Raise `NotFound`."""
    bundle = find(tx, account_id)
    tx.execute(
        sa.select(_subscriber.c.id).where(_subscriber.c.id == bundle.subscriber_id).with_for_update(key_share=True)
    )
    return find(tx, account_id)
