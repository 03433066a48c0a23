"""Batches of vouchers: make them, activate and revoke their cards, and look at them, on an open transaction.

A batch is made in several transactions, as a million cards in one would stop all calls: `begin`, `add_cards` for each
piece, `complete`. Until the last one no card of it can be activated and no list has it; what a crash has left is
deleted by `discard_unfinished`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.access import audit_trail
from celcombiller.core.bundles.terms import check_whole
from celcombiller.core.errors import (
    AlreadyTaken,
    InvalidValue,
    NotFound,
    SellerDisabled,
    TransferConflict,
    UnknownSeller,
    UnknownVoucher,
)
from celcombiller.core.ledger.book import Book
from celcombiller.core.ledger.rows import AMOUNT_MAX, check_line
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.model.vouchers import VoucherBatch, VoucherRange, VoucherState
from celcombiller.core.schema import bulk, tables
from celcombiller.core.schema.rows import value_from_row
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.vouchers.voucher_codes import hash_code, parse_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date, datetime

    from sqlalchemy.engine import Connection, Row

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.model.bundles import Offer

CARDS_MAX = 1_000_000
NAME_CHARACTERS_MAX = 64
NOTE_CHARACTERS_MAX = 500
CREDIT_DAYS_MAX = 3660

CHUNK = 2000
"""Cards that are made in one transaction: calls wait for it on SQLite, for some 20 ms."""

PAID = "vouchers"
"""The origin of the transfer by which a seller pays for cards."""

UNFINISHED_FOR = timedelta(hours=24)
"""How long a batch may be in the making. After that it was left by a crash."""

_batch, _voucher = tables.voucher_batch, tables.voucher
_range, _redemption = tables.voucher_range, tables.voucher_redemption


@dataclass(frozen=True, slots=True, kw_only=True)
class VoucherOrder:
    """What to make: ``cards`` that give ``value`` credits of a ``kind``, or a bundle of an ``offer``."""

    name: str
    cards: int
    kind: Kind | None = None
    value: int | None = None
    offer: Offer | None = None
    credit_days: int | None = None
    valid_until: datetime | None = None
    note: str = ""


# -- making ----------------------------------------------------------------------------------------------------------


def begin(tx: Connection, actor: Actor, order: VoucherOrder, *, reference: str, now: datetime) -> VoucherBatch:
    """Begin to make a batch, and return it.

    Raises `Forbidden`, `InvalidValue`, `AlreadyTaken` for the name of another batch, and `TransferConflict` when a
    batch of this ``reference`` is complete: its codes were shown, and cannot be shown again.
    """
    actor.check_administers()
    _check_order(order, now)
    _refuse_known(tx, order.name, reference)
    offer = order.offer
    actor.check_amount(order.cards * (order.value or 0 if offer is None else offer.price))
    values: dict[str, Any] = {
        "name": order.name,
        "cards": order.cards,
        "kind": order.kind,
        "value": order.value,
        "credit_days": order.credit_days,
        "valid_until": order.valid_until,
        "note": order.note,
        "reference": reference,
        "author": actor.name,
        "made_at": now,
    }
    if offer is not None:
        values |= {
            "kind": offer.kind,
            "value": offer.amount,
            "offer_id": offer.id,
            "bundle_name": offer.name,
            "services": " ".join(offer.services),
            "destinations": " ".join(offer.destinations),
            "priority": offer.priority,
            "call_seconds_max": offer.call_seconds_max,
            "valid_hours": offer.valid_hours,
        }
    batch_id = tx.execute(sa.insert(_batch).values(values).returning(_batch.c.id)).scalar_one()
    return batch_from_row(tx.execute(sa.select(_batch).where(_batch.c.id == batch_id)).one())


def add_cards(tx: Connection, batch_id: int, first_serial: int, codes: Sequence[str]) -> None:
    """Add the next cards of a batch that is being made; the same again changes nothing."""
    rows = [(batch_id, serial, hash_code(code)) for serial, code in enumerate(codes, first_serial)]
    bulk.write(tx, [(_ADD_CARDS, rows)])


def add_piece(
    tx: Connection, actor: Actor, batch: VoucherBatch, first_serial: int, codes: Sequence[str], *, now: datetime
) -> None:
    """Add the next cards of a batch, and complete it with the last. Raises as `complete` does."""
    add_cards(tx, batch.id, first_serial, codes)
    if first_serial + len(codes) > batch.cards:
        complete(tx, actor, batch.id, now=now)


def pieces(cards: int) -> Iterator[tuple[int, int]]:
    """Yield the pieces in which a batch is made: the first serial number of each, and how many cards it has."""
    for first in range(1, cards + 1, CHUNK):
        yield first, min(CHUNK, cards - first + 1)


_ADD_CARDS = bulk.insert(_voucher, ("batch_id", "serial", "code_hash"), once=True)


def complete(tx: Connection, actor: Actor, batch_id: int, *, now: datetime) -> VoucherBatch:
    """Complete a batch, when all its codes are written where they shall be; return it.

    Raises `NotFound` when it was discarded meanwhile, and as `begin` does.
    """
    row = tx.execute(sa.select(_batch).where(_batch.c.id == batch_id).with_for_update()).first()
    if row is None:
        raise NotFound("the batch was discarded, as it took longer than a day to make")
    made = batch_from_row(row)
    if row.completed_at is not None:
        return made
    _refuse_known(tx, made.name, row.reference)
    count = tx.execute(sa.select(sa.func.count()).select_from(_voucher).where(_voucher.c.batch_id == batch_id)).scalar()
    if count != made.cards:
        raise InvalidValue(f"the batch has {count} of {made.cards} cards: make it again")
    tx.execute(sa.update(_batch).where(_batch.c.id == batch_id).values(completed_at=now))
    audit_trail.record(tx, actor, "make vouchers", subject_of(batch_id), after=made, now=now)
    return made


def discard_unfinished(tx: Connection, now: datetime, *, batch_id: int | None = None, limit: int = 10_000) -> bool:
    """Delete some cards of batches that a crash has left unfinished, then the batches; return whether more are there.

    ``batch_id``: this one only, however new it is.
    """
    unfinished = sa.select(_batch.c.id).where(_batch.c.completed_at.is_(None))
    if batch_id is None:
        unfinished = unfinished.where(_batch.c.made_at < now - UNFINISHED_FOR)
    else:
        unfinished = unfinished.where(_batch.c.id == batch_id)
    found = tx.execute(unfinished.order_by(_batch.c.id).limit(1)).scalar()
    if found is None:
        return False
    some = sa.select(_voucher.c.serial).where(_voucher.c.batch_id == found).order_by(_voucher.c.serial).limit(limit)
    gone = sa.delete(_voucher).where(_voucher.c.batch_id == found, _voucher.c.serial.in_(some.scalar_subquery()))
    if tx.execute(gone).rowcount < limit:
        tx.execute(sa.delete(_batch).where(_batch.c.id == found))
    return True


def _check_order(order: VoucherOrder, now: datetime) -> None:
    name = order.name
    if not name.strip() or name != name.strip() or name.isdecimal():
        what = "must not be empty, padded or a number only"
        raise InvalidValue(f"name {what}", {"name": what})
    check_line("name", name, NAME_CHARACTERS_MAX)
    check_line("note", order.note, NOTE_CHARACTERS_MAX)
    check_whole("cards", order.cards, 1, CARDS_MAX)
    if (order.offer is None) == (order.kind is None) or (order.kind is None) != (order.value is None):
        raise InvalidValue("a card gives credit (a kind and a value), or a bundle of an offer")
    if order.value is not None:
        check_whole("value", order.value, 1, AMOUNT_MAX)
    if order.credit_days is not None:
        if order.offer is not None:
            what = "is for credit: a bundle of an offer has a validity of its own"
            raise InvalidValue(f"credit_days {what}", {"credit_days": what})
        check_whole("credit_days", order.credit_days, 1, CREDIT_DAYS_MAX)
    if order.valid_until is not None and order.valid_until <= now:
        what = "must be in the future"
        raise InvalidValue(f"valid_until {what}", {"valid_until": what})


def _refuse_known(tx: Connection, name: str, reference: str) -> None:
    completed = sa.select(_batch.c.id).where(_batch.c.completed_at.is_not(None))
    if tx.execute(completed.where(_batch.c.reference == reference)).first() is not None:
        raise TransferConflict(
            "a batch with this id is complete, and its codes were shown: revoke it and make another if they are lost"
        )
    if tx.execute(completed.where(_batch.c.name == name)).first() is not None:
        raise AlreadyTaken(f"name {name} is taken by another batch", {"name": "is taken by another batch"})


# -- activating and revoking -----------------------------------------------------------------------------------------


def activate(
    tx: Connection,
    actor: Actor,
    batch_id: int,
    first_serial: int | None = None,
    last_serial: int | None = None,
    *,
    seller: str | None = None,
    price: int = 0,
    note: str = "",
    today: date | None = None,
    now: datetime,
) -> tuple[VoucherRange, bool]:
    """Activate the cards of a batch, or of a range of serial numbers; return the range, and whether it is new.

    ``seller``: the username that they are handed to, who pays ``price`` voice credits for all of them from their seller
    account, within its limits; ``today`` is the operator's day, for the limit of a day. The same request again gets the
    first answer. Raises `Forbidden`, `NotFound`, `UnknownSubscriber`, `UnknownSeller`, `SellerDisabled`,
    `InsufficientBalance`, and `InvalidValue` for cards that are active, revoked or over already.
    """
    actor.check_administers()
    check_whole("price", price, 0, AMOUNT_MAX)
    batch, first, last = _lock_range(tx, batch_id, first_serial, last_serial, note)
    seller_id = None if seller is None else subscriber_records.find(tx, seller).id
    if price and seller_id is None:
        raise InvalidValue("only a seller pays for cards", {"price": "needs a seller"})
    if batch.is_over(now):
        raise InvalidValue(f"the cards of the batch {batch.name} can no longer be redeemed")
    for known in ranges_of(tx, batch_id, first, last):
        covers = known.first_serial <= first and last <= known.last_serial
        if known.state is VoucherState.ACTIVE:
            same = (known.first_serial, known.last_serial, known.seller_id, known.price)
            if same == (first, last, seller_id, price):
                return known, False
            raise _overlap(known, first, last, "active")
        if covers:
            raise _overlap(known, first, last, "revoked")
    actor.check_amount((last - first + 1) * (batch.value if batch.offer_id is None else 0))
    if seller_id is not None:
        account_id = _find_stock(tx, seller_id)
        if price:
            _pay(tx, batch, (first, last), account_id, price, today or now.date(), now)
    made = _add_range(tx, actor, batch, (first, last), VoucherState.ACTIVE, seller_id, price, note, now)
    audit_trail.record(tx, actor, "activate vouchers", subject_of(batch_id), after=made, now=now)
    return made, True


def revoke(
    tx: Connection,
    actor: Actor,
    batch_id: int,
    first_serial: int | None = None,
    last_serial: int | None = None,
    *,
    note: str = "",
    now: datetime,
) -> tuple[VoucherRange, bool]:
    """Revoke the cards of a batch, or of a range, for good; return the range, and whether it is new.

    What was redeemed stays so. Cards that are revoked already change nothing. Raises `Forbidden`, `NotFound` and
    `InvalidValue`.
    """
    actor.check_administers()
    batch, first, last = _lock_range(tx, batch_id, first_serial, last_serial, note)
    for known in ranges_of(tx, batch_id, first, last):
        if known.state is VoucherState.REVOKED and known.first_serial <= first and last <= known.last_serial:
            return known, False
    made = _add_range(tx, actor, batch, (first, last), VoucherState.REVOKED, None, 0, note, now)
    audit_trail.record(tx, actor, "revoke vouchers", subject_of(batch_id), after=made, now=now)
    return made, True


def payment_reference(batch_id: int, first_serial: int, last_serial: int) -> str:
    """Return the id of the transfer by which a seller pays for cards; no two active ranges share one."""
    return f"vouchers:{batch_id}:{first_serial}-{last_serial}"


def subject_of(batch_id: int) -> str:
    """Return what the audit trail calls a batch."""
    return f"voucher-batch:{batch_id}"


def _lock_range(
    tx: Connection, batch_id: int, first_serial: int | None, last_serial: int | None, note: str
) -> tuple[VoucherBatch, int, int]:
    """Lock a batch against redemptions and other changes of its ranges; return it with the serial numbers, checked."""
    check_line("note", note, NOTE_CHARACTERS_MAX)
    tx.execute(sa.select(_batch.c.id).where(_batch.c.id == batch_id).with_for_update())
    batch = find(tx, batch_id)
    first = 1 if first_serial is None else check_whole("first_serial", first_serial, 1, batch.cards)
    last = batch.cards if last_serial is None else check_whole("last_serial", last_serial, first, batch.cards)
    return batch, first, last


def _overlap(known: VoucherRange, first: int, last: int, state: str) -> InvalidValue:
    of = max(first, known.first_serial), min(last, known.last_serial)
    what = f"card {of[0]} is" if of[0] == of[1] else f"the cards {of[0]} to {of[1]} are"
    return InvalidValue(f"{what} {state} already", {"first_serial": f"{what} {state} already"})


def _find_stock(tx: Connection, seller_id: int) -> int:
    """Return the account of a seller. Raises `UnknownSeller`, and `SellerDisabled` for one who may not sell now."""
    seller, subscriber = tables.seller, tables.subscriber
    which = sa.select(seller.c.account_id, seller.c.enabled, subscriber.c.enabled.label("may_use"))
    found = tx.execute(which.join(subscriber).where(seller.c.subscriber_id == seller_id)).first()
    if found is None:
        raise UnknownSeller("this subscriber is no seller")
    if not (found.enabled and found.may_use):
        raise SellerDisabled("the seller may not sell now")
    account_id: int = found.account_id
    return account_id


def _pay(
    tx: Connection,
    batch: VoucherBatch,
    serials: tuple[int, int],
    account_id: int,
    price: int,
    today: date,
    now: datetime,
) -> None:
    book = Book(today=today)
    book.load(tx, [account_id])
    reference = payment_reference(batch.id, *serials)
    operator_id = tables.OPERATOR_ACCOUNT_IDS[Kind.VOICE]
    book.post(reference, account_id, operator_id, price, origin=PAID, now=now, note=batch.name)
    book.save(tx)


def _add_range(
    tx: Connection,
    actor: Actor,
    batch: VoucherBatch,
    serials: tuple[int, int],
    state: VoucherState,
    seller_id: int | None,
    price: int,
    note: str,
    now: datetime,
) -> VoucherRange:
    values: dict[str, Any] = {
        "batch_id": batch.id,
        "first_serial": serials[0],
        "last_serial": serials[1],
        "state": state,
        "at": now,
        "author": actor.name,
        "seller_id": seller_id,
        "price": price,
        "note": note,
    }
    range_id = tx.execute(sa.insert(_range).values(values).returning(_range.c.id)).scalar_one()
    return VoucherRange(id=range_id, **values)


# -- reading ---------------------------------------------------------------------------------------------------------


def find(tx: Connection, batch_id: int) -> VoucherBatch:
    """Return a complete batch. Raise `NotFound` if there is none."""
    row = tx.execute(_BATCHES.where(_batch.c.id == batch_id)).first()
    if row is None:
        raise NotFound(f"there is no batch of vouchers {batch_id}")
    return batch_from_row(row)


def resolve(tx: Connection, word: str) -> VoucherBatch:
    """Return the batch of this name, or of this id. Raise `NotFound` if there is none."""
    if word.isdecimal() and len(word) <= len(str(AMOUNT_MAX)):
        return find(tx, int(word))
    row = tx.execute(_BATCHES.where(_batch.c.name == word)).first()
    if row is None:
        raise NotFound(f"there is no batch of vouchers called {word}")
    return batch_from_row(row)


def list_all(tx: Connection, *, before_id: int | None = None, limit: int) -> list[VoucherBatch]:
    """Return the last ``limit`` batches, newest first."""
    conditions = [] if before_id is None else [_batch.c.id < before_id]
    rows = tx.execute(_BATCHES.where(*conditions).order_by(_batch.c.id.desc()).limit(limit))
    return list(map(batch_from_row, rows))


_BATCHES = sa.select(_batch).where(_batch.c.completed_at.is_not(None))


def ranges_of(tx: Connection, batch_id: int, first_serial: int = 1, last_serial: int = CARDS_MAX) -> list[VoucherRange]:
    """Return what was activated and revoked of these cards, the oldest first."""
    which = (
        _range.c.batch_id == batch_id,
        _range.c.first_serial <= last_serial,
        _range.c.last_serial >= first_serial,
    )
    rows = tx.execute(sa.select(_range).where(*which).order_by(_range.c.id))
    return [value_from_row(row, VoucherRange) for row in rows]


@dataclass(frozen=True, slots=True)
class Voucher:
    """A card, as it is now: its state, who redeemed it, and the ranges that activated and revoked it."""

    batch: VoucherBatch
    serial: int
    state: VoucherState
    redeemed_by: str | None
    redeemed_at: datetime | None
    ranges: tuple[VoucherRange, ...]


def find_by_code(tx: Connection, typed: str, now: datetime) -> Voucher:
    """Return the card of a code, as a person types it. Raises `UnknownVoucher`."""
    columns = (_voucher.c.batch_id, _voucher.c.serial)
    row = tx.execute(sa.select(*columns).where(_voucher.c.code_hash == hash_code(parse_code(typed)))).first()
    if row is None:
        raise UnknownVoucher("no voucher has this code")
    return find_card(tx, find(tx, row.batch_id), row.serial, now)


def find_card(tx: Connection, batch: VoucherBatch, serial: int, now: datetime) -> Voucher:
    """Return the card of this serial number. Raises `InvalidValue` when the batch has none."""
    check_whole("serial", serial, 1, batch.cards)
    return list_cards(tx, batch, now, after=serial - 1, limit=1)[0]


def list_cards(tx: Connection, batch: VoucherBatch, now: datetime, *, after: int = 0, limit: int) -> list[Voucher]:
    """Return the next ``limit`` cards of a batch, in the order of their serial numbers."""
    last = min(after + limit, batch.cards)
    subscriber = tables.subscriber
    rows = tx.execute(
        sa.select(_redemption.c.serial, _redemption.c.at, subscriber.c.username)
        .join(subscriber, subscriber.c.id == _redemption.c.subscriber_id)
        .where(_redemption.c.batch_id == batch.id, _redemption.c.serial.between(after + 1, last))
    )
    redeemed = {row.serial: (row.username, row.at) for row in rows}
    ranges = ranges_of(tx, batch.id, after + 1, last)
    cards = []
    for serial in range(after + 1, last + 1):
        own = tuple(each for each in ranges if each.first_serial <= serial <= each.last_serial)
        who, at = redeemed.get(serial, (None, None))
        state = state_of(batch, {each.state for each in own}, is_redeemed=at is not None, now=now)
        cards.append(Voucher(batch, serial, state, who, at, own))
    return cards


@dataclass(frozen=True, slots=True)
class RedeemedCard:
    """A card that was redeemed, by whom, and when."""

    batch: VoucherBatch
    serial: int
    username: str
    at: datetime


Place = tuple["datetime", int, int]
"""The time of a redemption, the batch and the serial number."""


def list_redeemed(
    tx: Connection, *, subscriber_id: int | None = None, before: Place | None = None, limit: int
) -> list[RedeemedCard]:
    """Return the last ``limit`` cards that were redeemed, newest first."""
    columns = (_redemption.c.at, _redemption.c.batch_id, _redemption.c.serial)
    conditions = [] if subscriber_id is None else [_redemption.c.subscriber_id == subscriber_id]
    if before is not None:
        place = sa.tuple_(sa.literal(before[0], tables.Instant), sa.literal(before[1]), sa.literal(before[2]))
        conditions.append(sa.tuple_(*columns) < place)
    subscriber = tables.subscriber
    rows = tx.execute(
        sa.select(_batch, _redemption.c.serial, _redemption.c.at, subscriber.c.username)
        .join(_redemption, _redemption.c.batch_id == _batch.c.id)
        .join(subscriber, subscriber.c.id == _redemption.c.subscriber_id)
        .where(*conditions)
        .order_by(*(column.desc() for column in columns))
        .limit(limit)
    )
    return [RedeemedCard(batch_from_row(row), row.serial, row.username, row.at) for row in rows]


def state_of(batch: VoucherBatch, ranges: set[VoucherState], *, is_redeemed: bool, now: datetime) -> VoucherState:
    """Return the state of a card that is in ranges of these states."""
    if is_redeemed:
        return VoucherState.REDEEMED
    if VoucherState.REVOKED in ranges:
        return VoucherState.REVOKED
    if batch.is_over(now):
        return VoucherState.EXPIRED
    return VoucherState.ACTIVE if VoucherState.ACTIVE in ranges else VoucherState.MADE


def list_handed(
    tx: Connection, seller_id: int, *, before_id: int | None = None, limit: int
) -> list[tuple[VoucherBatch, VoucherRange]]:
    """Return the last ``limit`` ranges of cards that were handed to a seller, newest first, each with its batch."""
    conditions = [] if before_id is None else [_range.c.id < before_id]
    which = sa.select(_range).where(_range.c.seller_id == seller_id, *conditions)
    rows = tx.execute(which.order_by(_range.c.id.desc()).limit(limit))
    ranges = [value_from_row(row, VoucherRange) for row in rows]
    found = tx.execute(sa.select(_batch).where(_batch.c.id.in_({each.batch_id for each in ranges})))
    batches = {row.id: batch_from_row(row) for row in found}
    return [(batches[each.batch_id], each) for each in ranges]


def count_states(
    tx: Connection, batch: VoucherBatch, now: datetime, first_serial: int = 1, last_serial: int = CARDS_MAX
) -> dict[VoucherState, int]:
    """Return how many cards of a batch, or of a range of serial numbers, are in each state."""
    last_serial = min(last_serial, batch.cards)
    ranges = ranges_of(tx, batch.id, first_serial, last_serial)
    edges = {first_serial, last_serial + 1}.union(
        *((max(each.first_serial, first_serial), min(each.last_serial, last_serial) + 1) for each in ranges)
    )
    counts = dict.fromkeys(VoucherState, 0)
    for first, beyond in pairwise(sorted(edges)):
        states = {each.state for each in ranges if each.first_serial <= first <= each.last_serial}
        which = (_redemption.c.batch_id == batch.id, _redemption.c.serial.between(first, beyond - 1))
        redeemed = tx.execute(sa.select(sa.func.count()).select_from(_redemption).where(*which)).scalar_one()
        counts[VoucherState.REDEEMED] += redeemed
        counts[state_of(batch, states, is_redeemed=False, now=now)] += beyond - first - redeemed
    return counts


def batch_from_row(row: Row[Any]) -> VoucherBatch:
    """Return the batch of a row."""
    return VoucherBatch(
        id=row.id,
        name=row.name,
        cards=row.cards,
        kind=Kind(row.kind) if row.offer_id is None else BundleKind(row.kind),
        value=row.value,
        credit_days=row.credit_days,
        offer_id=row.offer_id,
        bundle_name=row.bundle_name,
        services=tuple(row.services.split()),
        destinations=tuple(row.destinations.split()),
        priority=row.priority,
        call_seconds_max=row.call_seconds_max,
        valid_hours=row.valid_hours,
        valid_until=row.valid_until,
        note=row.note,
        author=row.author,
        made_at=row.made_at,
    )
