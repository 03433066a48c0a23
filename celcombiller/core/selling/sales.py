"""Sales, their undoing, and refills, on an open transaction: each once, with a numbered receipt.

A sale is one transfer from the seller's account to a subscriber's voice balance; a bonus comes from the operator with
it. A refill is a transfer to the seller's account, from the operator's or the parent's. So credit exists once. What is
refused is a sentence, and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.access import audit_trail
from celcombiller.core.charging import operator_credit
from celcombiller.core.charging.request_keys import identity_of
from celcombiller.core.errors import (
    DayLimitReached,
    Forbidden,
    InsufficientBalance,
    InvalidValue,
    SaleTooLarge,
    SubscriberDisabled,
    TransferConflict,
    UndoTooLate,
    UnknownSubscriber,
)
from celcombiller.core.languages.language import Text as _
from celcombiller.core.ledger.book import Book
from celcombiller.core.ledger.rows import check_amount, check_line
from celcombiller.core.ledger.spending import commission_reference
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.selling import Receipt, ReceiptKind, Seller
from celcombiller.core.schema import tables
from celcombiller.core.selling import receipts, sellers, selling_notices
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.subscribers.directory import Directory

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.charging.requests import Credit
    from celcombiller.core.model.accounts import Account, Transfer
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.selling.selling_terms import SellingTerms

SALE, REFILL, COMMISSION = "sale", "refill", "commission"
"""The origins of the transfers."""

KEY_CHARACTERS_MAX, NOTE_CHARACTERS_MAX = 200, 500
_SUBSCRIBER = tables.subscriber
_OPERATOR_ID = tables.OPERATOR_ACCOUNT_IDS[Kind.VOICE]


@dataclass(frozen=True, slots=True)
class Sold:
    """A receipt, and whether this request made it, or made it void.

    ``stock`` is what the giver's account has now, ``balance`` what the taker's has; ``None``: it is the operator's.
    """

    receipt: Receipt
    is_new: bool
    stock: int | None
    balance: int | None


@dataclass(frozen=True, slots=True)
class RefillPlan:
    """A refill that could be made now: of whom, what is to be paid, and what they would have after it."""

    seller: Seller
    paid: int
    stock: int


@dataclass(frozen=True, slots=True)
class SalePlan:
    """A sale that could be made now: to whom, and what both sides would have after it."""

    seller: Seller
    buyer: Subscriber
    amount: int
    bonus: int
    stock: int
    balance: int


# -- selling ---------------------------------------------------------------------------------------------------------


def plan_sale(
    tx: Connection, terms: SellingTerms, seller_id: int, to_number: str, amount: int, *, now: datetime
) -> SalePlan:
    """Return what a sale would do, to ask before it is made. Raises as `sell` does, and writes nothing."""
    seller = sellers.find(tx, seller_id)
    sellers.check_sells(tx, seller)
    buyer, voice_id = _find_buyer(tx, terms, to_number)
    book = Book(today=terms.date_of(now))
    book.load(tx, [seller.account_id, voice_id])
    _check_sale(book, seller, buyer, amount)
    bonus, voice = seller.bonus_of(amount), book.accounts[voice_id]
    stock = book.accounts[seller.account_id].posted - amount + bonus
    return SalePlan(seller, buyer, amount, bonus, stock, voice.posted + amount)


def sell(
    tx: Connection,
    terms: SellingTerms,
    actor: Actor,
    seller_id: int,
    to_number: str,
    amount: int,
    *,
    key: str,
    origin: str,
    now: datetime,
) -> Sold:
    """Sell voice credit to the subscriber of a number, once for the author's ``key``: the same again is answered again.

    ``origin`` is the way by which it came: ``sms``, ``keypad``, ``rest``, ``command``. Raises `Forbidden`,
    `UnknownSeller`, `SellerDisabled`, `UnknownSubscriber` (no subscriber has the number), `SubscriberDisabled`,
    `InvalidValue`, `SaleTooLarge`, `DayLimitReached`, `InsufficientBalance` (of the stock), and `TransferConflict` when
    the key was used for another sale.
    """
    seller = sellers.lock(tx, seller_id)
    _check_acts_for(tx, actor, seller)
    reference = f"{SALE}:{seller_id}:{_own_key(actor, key)}"
    buyer, voice_id = _find_buyer(tx, terms, to_number)
    known = receipts.find_by_reference(tx, reference)
    book = Book(today=terms.date_of(now))
    book.load(tx, [seller.account_id, voice_id])
    if known is not None:
        if (known.taker_id, known.amount) != (buyer.id, amount):
            raise TransferConflict(f"a sale with the id {key} exists and says something else")
        return _sold(book, known, seller.account_id, voice_id, is_new=False)
    who = sellers.check_sells(tx, seller)
    actor.check_amount(amount)
    _check_sale(book, seller, buyer, amount)
    book.post(reference, seller.account_id, voice_id, amount, origin=SALE, now=now)
    bonus = seller.bonus_of(amount)
    if bonus:
        of_bonus = commission_reference(reference)
        book.post(of_bonus, _OPERATOR_ID, seller.account_id, bonus, origin=COMMISSION, now=now)
    book.save(tx)
    made = receipts.issue(
        tx,
        receipts.series_of_seller(seller_id),
        ReceiptKind.SALE,
        reference,
        giver_id=seller_id,
        taker_id=buyer.id,
        to_number=buyer.clid,
        amount=amount,
        commission=bonus,
        tax_rate=terms.tax_rate,
        origin=origin,
        now=now,
    )
    audit_trail.record(tx, actor, "sell", _subject(who.username), after=made, now=now)
    sold = _sold(book, made, seller.account_id, voice_id, is_new=True)
    selling_notices.queue_sale(tx, terms, made, who, buyer, stock=sold.stock, balance=sold.balance, now=now)
    return sold


def _check_sale(book: Book, seller: Seller, buyer: Subscriber, amount: int) -> None:
    """Raise the refusal of a sale, before anything is written."""
    check_amount(amount, least=1)
    if not buyer.enabled:
        raise SubscriberDisabled("the subscriber of this number may not use the service")
    if seller.sale_max is not None and amount > seller.sale_max:
        raise SaleTooLarge(_("{amount} asked for, at most {most} at once", amount=amount, most=seller.sale_max))
    stock = book.accounts[seller.account_id]
    if stock.available < amount:
        left = max(stock.available, 0)
        raise InsufficientBalance(_("{amount} asked for, {left} left to sell", amount=amount, left=left))
    if stock.spending_left is not None and stock.spending_left < amount:
        left = stock.spending_left
        raise DayLimitReached(_("{amount} asked for, {left} left to sell on this day", amount=amount, left=left))


def _find_buyer(tx: Connection, terms: SellingTerms, to_number: str) -> tuple[Subscriber, int]:
    """Return the subscriber of a number and their voice account. Raise `UnknownSubscriber` if there is none."""
    directory = Directory.load(tx, [to_number], terms.messages.numbering)
    found = directory.find_callee(to_number)
    if found is None:
        raise UnknownSubscriber("no subscriber has this number")
    return found, directory.account_ids[found.id, Kind.VOICE]


# -- refilling -------------------------------------------------------------------------------------------------------


def refill(
    tx: Connection,
    terms: SellingTerms,
    actor: Actor,
    username: str,
    amount: int,
    *,
    paid: int | None = None,
    from_parent: bool = False,
    key: str,
    note: str = "",
    origin: str,
    now: datetime,
) -> Sold:
    """Refill a seller, once for the author's ``key``: from the operator, or from the parent's own stock.

    A negative ``amount``, the operator's only, takes stock back. ``paid`` is what was paid for it, in credits; by
    default the amount, less the seller's discount. Raises `Forbidden`, `UnknownSubscriber`, `UnknownSeller`,
    `SellerDisabled`, `InvalidValue`, `InsufficientBalance` and `TransferConflict`.
    """
    seller = sellers.find_by_name(tx, username)
    parent = _find_parent(tx, actor, seller, amount) if from_parent else None
    if parent is None:
        actor.check_manages(subscriber_records.level_of(tx, seller.subscriber_id))
    check_line("note", note, NOTE_CHARACTERS_MAX)
    credits_, kind = abs(amount), ReceiptKind.REFILL if amount > 0 else ReceiptKind.RETURN
    check_amount(credits_, least=1)
    price = seller.price_of(credits_) if paid is None else paid
    check_amount(price)
    reference = f"{REFILL}:{seller.subscriber_id}:{_own_key(actor, key)}"
    series = terms.office if parent is None else receipts.series_of_seller(parent.subscriber_id)
    receipts.lock_series(tx, series, None if parent is None else parent.subscriber_id)
    known = receipts.find_by_reference(tx, reference)
    from_id = _OPERATOR_ID if parent is None else parent.account_id
    book = Book()
    book.load(tx, [seller.account_id, from_id])
    if known is not None:
        if (known.series, known.amount, known.kind, known.paid) != (series, credits_, kind, price):
            raise TransferConflict(f"a refill with the id {key} exists and says something else")
        return _sold(book, known, from_id, seller.account_id, is_new=False)
    actor.check_amount(amount)
    if parent is not None:
        sellers.check_sells(tx, parent)
    sides = (from_id, seller.account_id) if amount > 0 else (seller.account_id, from_id)
    book.post(reference, *sides, credits_, origin=REFILL, now=now, note=note)
    book.save(tx)
    giver = parent or (seller if kind is ReceiptKind.RETURN else None)
    made = receipts.issue(
        tx,
        series,
        kind,
        reference,
        giver_id=None if giver is None else giver.subscriber_id,
        taker_id=seller.subscriber_id,
        to_number=seller.clid,
        amount=credits_,
        paid=price,
        tax_rate=terms.tax_rate,
        origin=origin,
        now=now,
    )
    audit_trail.record(tx, actor, f"{kind} seller", _subject(seller.username), after=made, now=now)
    selling_notices.queue_refill(tx, terms, made, stock=book.accounts[seller.account_id].posted, now=now)
    return _sold(book, made, from_id, seller.account_id, is_new=True)


def plan_refill(tx: Connection, actor: Actor, username: str, amount: int, *, paid: int | None = None) -> RefillPlan:
    """Return what a refill by the operator would do, to ask before it is made. Raises as `refill`; writes nothing."""
    seller = sellers.find_by_name(tx, username)
    actor.check_manages(subscriber_records.level_of(tx, seller.subscriber_id))
    check_amount(abs(amount), least=1)
    book = Book()
    book.load(tx, [seller.account_id])
    stock = book.accounts[seller.account_id]
    if stock.available + amount < 0:
        raise InsufficientBalance(f"{-amount} to be taken back, {max(stock.available, 0)} there")
    return RefillPlan(seller, seller.price_of(abs(amount)) if paid is None else paid, stock.posted + amount)


def _find_parent(tx: Connection, actor: Actor, seller: Seller, amount: int) -> Seller:
    """Return the parent of a seller. Raise `Forbidden` unless the author is, or manages, them."""
    if seller.parent_id is None:
        raise Forbidden(f"no seller may refill {seller.username}")
    parent = sellers.find(tx, seller.parent_id)
    _check_acts_for(tx, actor, parent)
    check_amount(amount, least=1)
    return parent


def credit_with_receipt(
    tx: Connection, terms: SellingTerms, request: Credit, actor: Actor, *, origin: str, now: datetime
) -> tuple[Transfer, Receipt]:
    """Credit a subscriber for an operator, as `operator_credit.credit`, with a receipt of the office.

    Raises as that does, and `InvalidValue` for a debit. A credit that was made without a receipt gets one.
    """
    if request.value < 1:
        raise InvalidValue("only a credit has a receipt, not a debit", {"receipt": "needs a credit"})
    receipts.lock_series(tx, terms.office)
    made, _ = operator_credit.credit(tx, request, actor, now)
    known = receipts.find_by_reference(tx, made.reference)
    if known is not None:
        return made, known
    who = subscriber_records.find(tx, request.username)
    issued = receipts.issue(
        tx,
        terms.office,
        ReceiptKind.CREDIT,
        made.reference,
        giver_id=None,
        taker_id=who.id,
        to_number=who.clid,
        amount=made.amount,
        tax_rate=terms.tax_rate,
        origin=origin,
        now=now,
    )
    return made, issued


# -- undoing ---------------------------------------------------------------------------------------------------------


def undo(tx: Connection, terms: SellingTerms, actor: Actor, label: str, *, now: datetime) -> Sold:
    """Undo what a receipt is for, with its bonus, once; the receipt is void, and keeps its number.

    Staff may undo anything; a seller a sale or a refill of their own, within the time of the settings. The credit must
    still be there: on the balance, not held, and not lent by a credit line. Raises `NotFound`, `Forbidden`,
    `SellerDisabled`, `UndoTooLate` and `InsufficientBalance`.
    """
    receipts.lock_series(tx, receipts.find(tx, label).series)
    found = receipts.find(tx, label)
    is_staff = _check_may_undo(tx, terms, actor, found, now)
    references = [found.reference, *([commission_reference(found.reference)] if found.commission else [])]
    book = Book(today=terms.date_of(now))
    book.load_transfers(tx, references)
    moved = [book.transfers[each] for each in references]
    debit_id, credit_id = moved[0].debit_account_id, moved[0].credit_account_id
    book.load(tx, {debit_id, credit_id})
    if found.voided_at is not None:
        return _sold(book, found, debit_id, credit_id, is_new=False)
    _check_still_there(book.accounts[credit_id], found, is_staff=is_staff)
    for each in moved:
        book.undo(each, spent_on=terms.date_of(found.at), now=now, note=f"receipt {found.label} is void")
    book.save(tx)
    made = receipts.void(tx, found, now)
    taker = tx.execute(sa.select(_SUBSCRIBER.c.username).where(_SUBSCRIBER.c.id == found.taker_id)).scalar_one()
    audit_trail.record(tx, actor, "undo receipt", _subject(taker), before=found, after=made, now=now)
    undone = _sold(book, made, debit_id, credit_id, is_new=True)
    selling_notices.queue_undone(tx, terms, made, stock=undone.stock, balance=undone.balance, now=now)
    return undone


def _check_may_undo(tx: Connection, terms: SellingTerms, actor: Actor, receipt: Receipt, now: datetime) -> bool:
    """Return whether staff undo it. Raise `Forbidden`, `SellerDisabled` or `UndoTooLate` where it may not be."""
    is_own = receipt.giver_id is not None and receipt.kind is not ReceiptKind.RETURN
    if actor.subscriber_id is None or actor.subscriber_id != receipt.giver_id or not is_own:
        people = {receipt.taker_id, *([] if receipt.giver_id is None else [receipt.giver_id])}
        actor.check_manages(*(subscriber_records.level_of(tx, each) for each in people))
        return True
    if receipt.voided_at is None:
        sellers.check_sells(tx, sellers.find(tx, actor.subscriber_id))
        if now - receipt.at > terms.undo_within:
            minutes = int(terms.undo_within.total_seconds() // 60)
            raise UndoTooLate(f"it can be undone within {minutes} minutes")
    return False


def _check_still_there(account: Account, receipt: Receipt, *, is_staff: bool) -> None:
    """Raise `InsufficientBalance` unless the account has the credit of a receipt, of its own and not held.

    What the operator themselves gave they may take back down to the credit line, as by a debit.
    """
    if account.is_system:
        return
    line = account.floor if is_staff and receipt.giver_id is None else 0
    left = account.posted - account.held - line
    if left < receipt.amount:
        raise InsufficientBalance(f"{receipt.amount} would go back, {max(left, 0)} is still there")


# -- parts -----------------------------------------------------------------------------------------------------------


def _sold(book: Book, receipt: Receipt, from_id: int, to_id: int, *, is_new: bool) -> Sold:
    stock, balance = (
        None if each.is_system else each.posted for each in (book.accounts[from_id], book.accounts[to_id])
    )
    return Sold(receipt, is_new, stock, balance)


def _check_acts_for(tx: Connection, actor: Actor, seller: Seller) -> None:
    """Raise `Forbidden` unless the author is this seller, or manages them."""
    if actor.subscriber_id != seller.subscriber_id:
        actor.check_manages(subscriber_records.level_of(tx, seller.subscriber_id))


def _own_key(actor: Actor, key: str) -> str:
    if not key:
        raise InvalidValue("the id must not be empty", {"id": "must not be empty"})
    return f"{identity_of(actor)}:{check_line('id', key, KEY_CHARACTERS_MAX)}"


def _subject(username: str) -> str:
    return f"subscriber:{username}"
