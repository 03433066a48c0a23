"""Payments on an open transaction: take one, reverse one, give one to its subscriber; each moves credit once.

A payment is known by its provider and the provider's id. Its row is written before anything else, and locked by who
changes it, so that of two that do the same one waits and then finds what the other did.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  `value_from_row` reads the types of the fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.access import audit_trail
from celcombiller.core.errors import (
    InsufficientBalance,
    InvalidValue,
    NotFound,
    NotReady,
    TransferConflict,
    UnknownSubscriber,
)
from celcombiller.core.ledger.book import REVERSAL, Book
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.subscribers import Level
from celcombiller.core.payments.payment_amounts import credits_of, normalise_amount
from celcombiller.core.rating.numbering import AS_DIALLED
from celcombiller.core.schema import tables
from celcombiller.core.schema.expressions import upsert
from celcombiller.core.schema.rows import value_from_row
from celcombiller.core.subscribers.directory import Directory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.rating.numbering import NumberingPlan

ORIGIN = "payment"

_payment, _subscriber = tables.payment, tables.subscriber


class PaymentState(StrEnum):
    """A payment is credited, or waits until the staff assign it; both can be reversed."""

    CREDITED = "credited"
    UNASSIGNED = "unassigned"
    REVERSED = "reversed"


@dataclass(frozen=True, slots=True)
class PaymentNotice:
    """What a provider reports: ``amount`` of ``currency`` for ``recipient``: a number, username or account code.

    ``currency`` may be empty: then it is the provider's.
    """

    provider: str
    provider_id: str
    recipient: str
    amount: str
    currency: str = ""
    paid_at: datetime | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as it is recorded. ``taken`` credits were taken back, and ``debt`` could not: they were spent."""

    id: int
    provider: str
    provider_id: str
    recipient: str
    amount: str
    currency: str
    credits: int
    state: PaymentState
    subscriber_id: int | None
    account_id: int | None
    received_at: datetime
    paid_at: datetime | None
    credited_at: datetime | None
    reversed_at: datetime | None
    taken: int
    debt: int
    note: str
    reversal_note: str

    @property
    def reference(self) -> str:
        """The reference of the transfer that credits it."""
        return reference_of(self.provider, self.provider_id)


def reference_of(provider: str, provider_id: str) -> str:
    """Return the reference of the transfer that credits a payment. Neither name has a colon."""
    return f"{ORIGIN}:{provider}:{provider_id}"


def reversal_reference(reference: str, part: int = 0) -> str:
    """Return the reference of a transfer that takes a payment back; a debt is taken later, by further parts."""
    return f"{REVERSAL}:{reference}" + (f":{part + 1}" if part else "")


# -- what providers report ---------------------------------------------------------------------------------------------


def receive(
    tx: Connection,
    notice: PaymentNotice,
    *,
    currency: str,
    actor: Actor,
    numbering: NumberingPlan = AS_DIALLED,
    now: datetime,
) -> tuple[Payment, bool]:
    """Record a payment and credit its subscriber, once; return it, and whether it is new.

    ``currency`` is the one of the provider. Whose recipient nobody is, waits for the staff. Raises `InvalidValue`,
    `NotReady` while the default tariff has another currency, and `TransferConflict` for a known id with other content.
    """
    amount = normalise_amount(notice.amount)
    if notice.currency not in ("", currency):
        what = f"must be {currency}, or not be there"
        raise InvalidValue(f"currency {what}", {"currency": what})
    known = _find_known(tx, notice, amount, currency)
    if known is not None:
        return known, False
    worth = credits_of(amount, _credits_per_unit(tx, currency))
    facts = {
        "provider": notice.provider,
        "provider_id": notice.provider_id,
        "recipient": notice.recipient,
        "amount": amount,
        "currency": currency,
        "credits": worth,
        "state": PaymentState.UNASSIGNED,
        "received_at": now,
        "paid_at": notice.paid_at,
        "note": notice.note,
    }
    made = upsert(tx, _payment).values(facts).on_conflict_do_nothing(index_elements=["provider", "provider_id"])
    if tx.execute(made.returning(_payment.c.id)).first() is None:  # another node was quicker, and has committed by now
        known = _find_known(tx, notice, amount, currency)
        if known is None:
            raise LookupError(notice.provider_id)
        return known, False
    payment = find_by_provider(tx, notice.provider, notice.provider_id)
    who = _find_recipient(tx, notice.recipient, numbering)
    if who is None:
        audit_trail.record(tx, actor, "payment without subscriber", f"payment:{payment.id}", after=payment, now=now)
        return payment, True
    return _credit(tx, payment, *who, actor, "payment", now), True


def reverse(
    tx: Connection, payment: Payment, *, take_what_is_there: bool, actor: Actor, note: str, now: datetime
) -> Payment:
    """Take the credit of a payment back; the payment's row is locked by `find` or `find_by_provider`.

    Where it is spent, ``take_what_is_there`` takes the rest and records the debt; again later, it takes more of that.
    Else raises `InsufficientBalance`, and nothing is changed.
    """
    if payment.state is PaymentState.REVERSED and payment.debt == 0:
        return payment
    if payment.account_id is None:
        is_ = _update(tx, payment, state=PaymentState.REVERSED, reversed_at=now, reversal_note=note)
    else:
        is_ = _take_back(tx, payment, payment.account_id, take_what_is_there=take_what_is_there, note=note, now=now)
    if is_ != payment:
        audit_trail.record(tx, actor, "reverse payment", f"payment:{payment.id}", before=payment, after=is_, now=now)
    return is_


def _take_back(
    tx: Connection, payment: Payment, account_id: int, *, take_what_is_there: bool, note: str, now: datetime
) -> Payment:
    book = Book()
    book.load(tx, [account_id])
    first = reversal_reference(payment.reference)
    book.load_transfers(tx, [first])
    operator_id = tables.OPERATOR_ACCOUNT_IDS[Kind.VOICE]
    if payment.state is PaymentState.CREDITED and first in book.transfers:  # the staff reversed the transfer itself
        return _update(
            tx, payment, state=PaymentState.REVERSED, reversed_at=now, reversal_note=note, taken=payment.credits
        )
    wanted = payment.debt if payment.state is PaymentState.REVERSED else payment.credits
    account = book.accounts[account_id]
    there = max(0, min(wanted, account.posted - account.held))
    if there < wanted and not take_what_is_there:
        raise InsufficientBalance(f"{wanted} credits of the payment are to be taken back, {there} are there")
    if there:
        reference = _next_reversal(tx, payment)
        book.post(reference, account_id, operator_id, there, origin=REVERSAL, now=now, note=note or "payment reversed")
        book.save(tx)
    elif payment.state is PaymentState.REVERSED:
        return payment
    return _update(
        tx,
        payment,
        state=PaymentState.REVERSED,
        reversed_at=payment.reversed_at or now,
        reversal_note=payment.reversal_note or note,
        taken=payment.taken + there,
        debt=wanted - there,
    )


def _next_reversal(tx: Connection, payment: Payment) -> str:
    """Return the reference of the next part of a reversal. The payment is locked, so there is one who asks."""
    part = 0
    while _has_transfer(tx, reversal_reference(payment.reference, part)):
        part += 1
    return reversal_reference(payment.reference, part)


def _has_transfer(tx: Connection, reference: str) -> bool:
    column = tables.transfer.c.reference
    return tx.execute(sa.select(column).where(column == reference)).first() is not None


# -- what the staff does -----------------------------------------------------------------------------------------------


def assign(tx: Connection, payment_id: int, to: str, *, actor: Actor, now: datetime) -> Payment:
    """Credit a payment that waits to a subscriber.

    The same again changes nothing. Raises `NotFound`, `UnknownSubscriber`, `Forbidden`, and `TransferConflict` when it
    is another's already, or was reversed.
    """
    payment = find(tx, payment_id, lock=True)
    who = _find_recipient(tx, to, AS_DIALLED)
    if who is None:
        raise UnknownSubscriber(f"no subscriber has the username or the number {to}")
    subscriber, account_id = who
    actor.check_manages(subscriber.level)
    if payment.state is PaymentState.CREDITED and payment.subscriber_id == subscriber.id:
        return payment
    if payment.state is not PaymentState.UNASSIGNED:
        raise TransferConflict(f"payment {payment.id} is {payment.state} already")
    actor.check_amount(payment.credits)
    return _credit(tx, payment, subscriber, account_id, actor, "assign payment", now)


def reverse_by_staff(
    tx: Connection, payment_id: int, *, take_what_is_there: bool, actor: Actor, note: str, now: datetime
) -> Payment:
    """Take the credit of a payment back, as `reverse` does. Raises also `NotFound` and `Forbidden`."""
    payment = find(tx, payment_id, lock=True)
    levels = []
    if payment.subscriber_id is not None:
        query = sa.select(_subscriber.c.level).where(_subscriber.c.id == payment.subscriber_id)
        levels = [Level(tx.execute(query).scalar_one())]
    actor.check_manages(*(levels or [Level.SUBSCRIBER]))
    return reverse(tx, payment, take_what_is_there=take_what_is_there, actor=actor, note=note, now=now)


def _credit(
    tx: Connection, payment: Payment, who: Subscriber, account_id: int, actor: Actor, action: str, now: datetime
) -> Payment:
    book = Book()
    book.load(tx, [account_id])
    book.load_transfers(tx, [payment.reference])
    operator_id = tables.OPERATOR_ACCOUNT_IDS[Kind.VOICE]
    note = f"{payment.amount} {payment.currency}"
    book.post(payment.reference, operator_id, account_id, payment.credits, origin=ORIGIN, now=now, note=note)
    book.save(tx)
    is_ = _update(
        tx,
        payment,
        state=PaymentState.CREDITED,
        subscriber_id=who.id,
        account_id=account_id,
        credited_at=now,
    )
    audit_trail.record(tx, actor, action, f"subscriber:{who.username}", after=is_, now=now)
    return is_


# -- reading -----------------------------------------------------------------------------------------------------------


def find(tx: Connection, payment_id: int, *, lock: bool = False) -> Payment:
    """Return a payment. Raise `NotFound` if there is none with this number."""
    return _find_one(tx, _payment.c.id == payment_id, f"there is no payment {payment_id}", lock=lock)


def find_by_provider(tx: Connection, provider: str, provider_id: str) -> Payment:
    """Return a payment by the id of its provider, and lock it. Raise `NotFound` if there is none."""
    which = sa.and_(_payment.c.provider == provider, _payment.c.provider_id == provider_id)
    return _find_one(tx, which, f"there is no payment {provider_id} of {provider}", lock=True)


def list_payments(
    tx: Connection,
    *,
    limit: int,
    before_id: int | None = None,
    state: PaymentState | None = None,
    provider: str | None = None,
    subscriber_id: int | None = None,
    in_debt: bool = False,
) -> Sequence[tuple[Payment, str | None]]:
    """Return payments, the newest first, each with the username of its subscriber."""
    which: list[sa.ColumnElement[bool]] = []
    if before_id is not None:
        which.append(_payment.c.id < before_id)
    if state is not None:
        # A literal, as in the partial index of those that wait.
        which.append(_payment.c.state == sa.literal(state.value, sa.Text, literal_execute=True))
    if provider is not None:
        which.append(_payment.c.provider == provider)
    if subscriber_id is not None:
        which.append(_payment.c.subscriber_id == subscriber_id)
    if in_debt:
        which.append(_payment.c.debt > 0)
    query = sa.select(_payment, _subscriber.c.username).outerjoin(
        _subscriber, _subscriber.c.id == _payment.c.subscriber_id
    )
    rows = tx.execute(query.where(*which).order_by(_payment.c.id.desc()).limit(limit))
    return [(value_from_row(row, Payment), row.username) for row in rows]


def username_of(tx: Connection, payment: Payment) -> str | None:
    """Return the username of a payment's subscriber."""
    if payment.subscriber_id is None:
        return None
    return tx.execute(sa.select(_subscriber.c.username).where(_subscriber.c.id == payment.subscriber_id)).scalar()


def count_unassigned(tx: Connection) -> int:
    """Return how many payments wait for the staff to say whose they are."""
    query = sa.select(sa.func.count()).select_from(_payment).where(sa.text("state = 'unassigned'"))
    return int(tx.execute(query).scalar_one())


def _find_one(tx: Connection, which: sa.ColumnElement[bool], otherwise: str, *, lock: bool) -> Payment:
    query = sa.select(_payment).where(which)
    row = tx.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFound(otherwise)
    return value_from_row(row, Payment)


def _find_known(tx: Connection, notice: PaymentNotice, amount: str, currency: str) -> Payment | None:
    """Return the payment of this id, or None. Raise `TransferConflict` if its content is another."""
    try:
        known = find_by_provider(tx, notice.provider, notice.provider_id)
    except NotFound:
        return None
    same = (known.recipient, known.amount, known.currency, known.paid_at, known.note)
    if same != (notice.recipient, amount, currency, notice.paid_at, notice.note):
        raise TransferConflict(
            f"the payment {notice.provider_id} of {notice.provider} is known, and says something else"
        )
    return known


def _credits_per_unit(tx: Connection, currency: str) -> int:
    tariff = tables.tariff.c
    row = tx.execute(
        sa.select(tariff.currency, tariff.credits_per_unit).where(tariff.is_default, tariff.deleted_at.is_(None))
    ).first()
    if row is None or row.currency != currency:
        has = "there is none" if row is None else f"it is {row.currency or 'not set'}"
        raise NotReady(f"payments in {currency} need a default tariff with this currency; {has}")
    return int(row.credits_per_unit)


def _find_recipient(tx: Connection, text: str, numbering: NumberingPlan) -> tuple[Subscriber, int] | None:
    """Return the subscriber of an account code, username or number in any form, with their voice account."""
    directory = Directory.load(tx, [text], numbering)
    found = directory.find_payer(text, "") or directory.find_callee(text)
    return None if found is None else (found, directory.account_ids[found.id, Kind.VOICE])


def _update(tx: Connection, payment: Payment, **values: Any) -> Payment:
    tx.execute(sa.update(_payment).where(_payment.c.id == payment.id).values(values))
    return find(tx, payment.id)
