"""Transfers of voice credit between subscribers, on an open transaction: asked for, then confirmed by the payer.

Only credit of the payer's own moves: no bundle, nothing that is held, nothing that a credit limit lends. The transfer
and its fee are two rows of the ledger, of one transaction. What goes wrong is a sentence, and changes nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from celcombiller.core.access import audit_trail
from celcombiller.core.charging import messages
from celcombiller.core.credit_transfers import transfer_records
from celcombiller.core.credit_transfers.transfer_records import FEE, TRANSFER, fee_reference, transfer_reference
from celcombiller.core.credit_transfers.transfer_terms import Confirmation
from celcombiller.core.errors import (
    BillerError,
    DayLimitReached,
    InsufficientBalance,
    InvalidValue,
    SubscriberDisabled,
    TransferConflict,
    UnknownSubscriber,
    WrongCode,
)
from celcombiller.core.languages.language import Text as _
from celcombiller.core.ledger import accounts
from celcombiller.core.ledger.book import Book
from celcombiller.core.ledger.rows import check_amount, check_line
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.credit_transfers import CreditTransfer, CreditTransferState
from celcombiller.core.model.messages import Route
from celcombiller.core.schema import tables
from celcombiller.core.schema.rows import value_from_row
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.subscribers.directory import Directory

if TYPE_CHECKING:
    from datetime import date, datetime

    import sqlalchemy as sa
    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.credit_transfers.transfer_terms import CreditTransferTerms
    from celcombiller.core.model.accounts import Account
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.rating.numbering import NumberingPlan
    from celcombiller.core.sms.charging import MessagePolicy

CODE_DIGITS = 6
TRIES_MAX = 3
"""Wrong codes until a transfer is cancelled."""

AGAIN = timedelta(seconds=30)
"""How long a code is on its way: a repeat of the request within it sends no other one."""

CODES_MAX = 5
"""Codes that are sent for one request."""

NOTE_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What became of a confirmation. A ``refusal`` is raised after the transaction, which counts a wrong code."""

    transfer: CreditTransfer | None
    refusal: BillerError | None = None
    is_new: bool = False

    def unwrap(self) -> CreditTransfer:
        """Return the transfer that was made. Raises the refusal."""
        if self.refusal is not None:
            raise self.refusal
        assert self.transfer is not None
        return self.transfer


@dataclass(frozen=True, slots=True)
class CreditTransferPlan:
    """What a transfer would do. ``left`` is the credit of the payer's own that they would have after it."""

    recipient: Subscriber
    amount: int
    fee: int
    left: int


def plan(
    tx: Connection,
    terms: CreditTransferTerms,
    policy: MessagePolicy,
    payer: Subscriber,
    to_number: str,
    amount: int,
    *,
    today: date,
) -> CreditTransferPlan:
    """Return what a transfer would do, to look at before it is asked for. Raises as `ask` does, and writes nothing."""
    return _plan(tx, terms, payer, _find_recipient(tx, to_number, policy.numbering), amount, today)


def ask(
    tx: Connection,
    terms: CreditTransferTerms,
    policy: MessagePolicy,
    payer: Subscriber,
    to_number: str,
    amount: int,
    *,
    actor: Actor,
    reference: str,
    random: str,
    has_pin: bool = False,
    today: date,
    now: datetime,
) -> CreditTransfer:
    """Ask for a transfer, once for a ``reference``; a code goes to the payer's phone, or they are asked for their PIN.

    The code is made of ``random``, 32 new hexadecimal digits. Without confirmation the transfer is made at once. A new
    request cancels the one that waits; the same again sends a new code. Raises `NotOffered`, `SubscriberDisabled`,
    `UnknownSubscriber` (no subscriber has the number), `InvalidValue` (the amount, or the own number),
    `InsufficientBalance`, `DayLimitReached`, and `TransferConflict` for another request with this reference.
    """
    recipient = _find_recipient(tx, to_number, policy.numbering)
    known = transfer_records.find_by_reference(tx, reference)
    if known is not None:
        if (known.payer_id, known.recipient_id, known.amount) != (payer.id, recipient.id, amount):
            raise TransferConflict(f"a transfer with the id {reference} exists and says something else")
        if known.state == CreditTransferState.ASKED and known.expires_at > now:
            _ask_again(tx, terms, policy, known, payer, recipient, code_of(random), now)
        return value_from_row(known, CreditTransfer)
    fee = _plan(tx, terms, payer, recipient, amount, today).fee
    transfer_records.cancel_open(tx, payer.id, now)
    made = transfer_records.add(
        tx,
        reference=reference,
        payer_id=payer.id,
        recipient_id=recipient.id,
        amount=amount,
        fee=fee,
        asked_at=now,
        expires_at=now + terms.validity,
    )
    if terms.confirmation is Confirmation.NONE:
        return _make(tx, terms, policy, made, payer, recipient, actor=actor, today=today, now=now)
    is_by_pin = has_pin and terms.confirmation is Confirmation.PIN
    code = "" if is_by_pin else code_of(random)
    _send_question(tx, terms, policy, made, payer, recipient, code=code, count=1, now=now)
    return made


def code_of(random: str) -> str:
    """Return the code that these hexadecimal digits make."""
    return f"{int(random, 16) % 10**CODE_DIGITS:0{CODE_DIGITS}}"


def waits_for_pin(tx: Connection, payer_id: int, now: datetime, transfer_id: int | None = None) -> bool:
    """Return whether the payer's last transfer waits for their PIN."""
    row = transfer_records.find_latest(tx, payer_id, transfer_id)
    return row is not None and _is_open(row, now) and row.code_hash is None


def find_confirmable(
    tx: Connection, payer_id: int, now: datetime, transfer_id: int | None = None
) -> CreditTransfer | None:
    """Return the payer's transfer that waits for its confirmation, if there is one."""
    row = transfer_records.find_latest(tx, payer_id, transfer_id)
    return None if row is None or not _is_open(row, now) else value_from_row(row, CreditTransfer)


def confirm(
    tx: Connection,
    terms: CreditTransferTerms,
    policy: MessagePolicy,
    payer: Subscriber,
    code: str,
    *,
    actor: Actor,
    pin_is_right: bool = False,
    transfer_id: int | None = None,
    today: date,
    now: datetime,
) -> Confirmed:
    """Make the payer's transfer that waits, if this is its code, or if the PIN that it waits for was right.

    The same code again gets the first answer. A wrong one counts: the refusal (`WrongCode`) is returned and not raised,
    so that the transaction commits. Raises as `ask` does; then the transfer still waits.
    """
    row = transfer_records.find_latest(tx, payer.id, transfer_id)
    if row is not None and row.state == CreditTransferState.MADE and _is_code(row, code):
        return Confirmed(value_from_row(row, CreditTransfer))
    if row is None or not _is_open(row, now):
        return Confirmed(None, WrongCode(_("no transfer waits for this code: ask for the transfer again")))
    if not (pin_is_right if row.code_hash is None else _is_code(row, code)):
        return Confirmed(None, _count_wrong(tx, row, now))
    terms.check_offered()
    recipient = subscriber_records.find_by_id(tx, row.recipient_id)
    waiting = value_from_row(row, CreditTransfer)
    made = _make(tx, terms, policy, waiting, payer, recipient, actor=actor, today=today, now=now)
    return Confirmed(made, is_new=True)


def give(
    tx: Connection,
    terms: CreditTransferTerms,
    policy: MessagePolicy,
    actor: Actor,
    payer: Subscriber,
    to_number: str,
    amount: int,
    *,
    reference: str,
    is_free: bool = False,
    note: str = "",
    today: date,
    now: datetime,
) -> CreditTransfer:
    """Make a transfer for the payer, by staff, once for a ``reference``: without code, and beyond the limits.

    ``is_free``: without the fee. Raises `Forbidden`, and as `ask` does.
    """
    recipient = _find_recipient(tx, to_number, policy.numbering)
    actor.check_manages(payer.level, recipient.level)
    check_line("note", note, NOTE_CHARACTERS_MAX)
    known = transfer_records.find_by_reference(tx, reference)
    if known is not None:
        if (known.payer_id, known.recipient_id, known.amount, known.note) != (payer.id, recipient.id, amount, note):
            raise TransferConflict(f"a transfer with the id {reference} exists and says something else")
        return value_from_row(known, CreditTransfer)
    check_amount(amount, least=1)
    _check_recipient(payer, recipient)
    free_of_limits = replace(terms, day_limit=None)
    asked = transfer_records.add(
        tx,
        reference=reference,
        payer_id=payer.id,
        recipient_id=recipient.id,
        amount=amount,
        fee=0 if is_free else terms.fee_of(amount),
        asked_at=now,
        expires_at=now,
        note=note,
    )
    return _make(tx, free_of_limits, policy, asked, payer, recipient, actor=actor, today=today, now=now)


def write_made(
    tx: Connection, terms: CreditTransferTerms, policy: MessagePolicy, payer: Subscriber, made: CreditTransfer
) -> str:
    """Return the sentence for the payer of a transfer that was made."""
    balance = accounts.balances(tx, payer.id)[Kind.VOICE].available
    return policy.write(
        terms.made_text,
        payer.language,
        amount=partial(terms.format_amount, made.amount),
        fee=partial(terms.format_amount, made.fee),
        number=subscriber_records.find_by_id(tx, made.recipient_id).clid,
        balance=partial(terms.format_amount, balance),
    )


# -- parts -----------------------------------------------------------------------------------------------------------


def _find_recipient(tx: Connection, to_number: str, numbering: NumberingPlan) -> Subscriber:
    found = Directory.load(tx, [to_number], numbering).find_callee(to_number)
    if found is None:
        raise UnknownSubscriber("no subscriber has this number")
    return found


def _check_recipient(payer: Subscriber, recipient: Subscriber) -> None:
    if payer.id == recipient.id:
        raise InvalidValue(_("a transfer goes to somebody else"), {"to": "must be another subscriber's number"})


def _plan(
    tx: Connection, terms: CreditTransferTerms, payer: Subscriber, recipient: Subscriber, amount: int, today: date
) -> CreditTransferPlan:
    """Check a transfer against the operator's terms and on locked accounts, and return what it would do."""
    terms.check_offered()
    terms.check_amount(amount)
    fee = terms.fee_of(amount)
    _, debit, _ = _check(tx, terms, payer, recipient, amount, fee, today)
    return CreditTransferPlan(recipient, amount, fee, _count_own(debit) - amount - fee)


def _check(
    tx: Connection,
    terms: CreditTransferTerms,
    payer: Subscriber,
    recipient: Subscriber,
    amount: int,
    fee: int,
    today: date,
) -> tuple[Book, Account, Account]:
    """Check everything on locked accounts; return the book with the voice accounts of both."""
    if not payer.enabled:
        raise SubscriberDisabled(f"{payer.username} is disabled")
    _check_recipient(payer, recipient)
    if not recipient.enabled:
        raise SubscriberDisabled(_("the recipient is disabled"))
    found = accounts.balances_of(tx, (payer.id, recipient.id))
    book = Book(today=today)
    ids = [found[each.id, Kind.VOICE].id for each in (payer, recipient)]
    book.load(tx, ids)
    debit, credit = (book.accounts[each] for each in ids)
    own = _count_own(debit)
    if own < amount + fee:
        sums = {"amount": amount, "fee": fee, "own": own}
        said = {name: partial(terms.format_amount, each) for name, each in sums.items()}
        raise InsufficientBalance(_("it takes {amount} and {fee} for the transfer, and {own} is there", **said))
    if terms.day_limit is not None:
        left = max(terms.day_limit - transfer_records.sum_of_day(tx, payer.id, today), 0)
        if amount > left:
            more = partial(terms.format_amount, left)
            raise DayLimitReached(_("today {more} more may be transferred", more=more))
    return book, debit, credit


def _count_own(account: Account) -> int:
    """Return the credit of an account without what a credit limit lends."""
    return max(account.posted - account.held, 0)


def _make(
    tx: Connection,
    terms: CreditTransferTerms,
    policy: MessagePolicy,
    asked: CreditTransfer,
    payer: Subscriber,
    recipient: Subscriber,
    *,
    actor: Actor,
    today: date,
    now: datetime,
) -> CreditTransfer:
    book, debit, credit = _check(tx, terms, payer, recipient, asked.amount, asked.fee, today)
    book.post(
        transfer_reference(asked.id), debit.id, credit.id, asked.amount, origin=TRANSFER, now=now, note=asked.note
    )
    if asked.fee:
        operator_id = tables.OPERATOR_ACCOUNT_IDS[Kind.VOICE]
        book.post(fee_reference(asked.id), debit.id, operator_id, asked.fee, origin=FEE, now=now)
    book.save(tx)
    made = transfer_records.change(
        tx,
        asked.id,
        state=CreditTransferState.MADE.value,
        ended_at=now,
        made_on=today,
        day_limit=terms.day_limit,
    )
    audit_trail.record(tx, actor, "transfer credit", f"subscriber:{payer.username}", after=made, now=now)
    if terms.received_text and policy.on_net_route is not Route.NONE:
        balance = book.accounts[credit.id].available
        text = policy.write(
            terms.received_text,
            recipient.language,
            amount=partial(terms.format_amount, made.amount),
            number=payer.clid,
            balance=partial(terms.format_amount, balance),
        )
        reference = f"{transfer_reference(made.id)}:received"
        messages.submit(tx, policy, reference=reference, to_number=recipient.clid, text=text, now=now)
    return made


def _send_question(
    tx: Connection,
    terms: CreditTransferTerms,
    policy: MessagePolicy,
    asked: CreditTransfer,
    payer: Subscriber,
    recipient: Subscriber,
    *,
    code: str,
    count: int,
    now: datetime,
) -> None:
    """Send the payer the code; an empty one: ask for their PIN."""
    code_hash = _hash(asked.reference, code) if code else None
    transfer_records.change(tx, asked.id, code_hash=code_hash, codes=count, coded_at=now)
    text = policy.write(
        terms.asked_text if code else terms.pin_text,
        payer.language,
        code=code,
        amount=partial(terms.format_amount, asked.amount),
        fee=partial(terms.format_amount, asked.fee),
        number=recipient.clid,
        minutes=int(terms.validity.total_seconds() // 60),
    )
    reference = f"{transfer_reference(asked.id)}:code:{count}"
    messages.submit(tx, policy, reference=reference, to_number=payer.clid, text=text, now=now)


def _ask_again(
    tx: Connection,
    terms: CreditTransferTerms,
    policy: MessagePolicy,
    known: sa.Row[Any],
    payer: Subscriber,
    recipient: Subscriber,
    code: str,
    now: datetime,
) -> None:
    """Send a new code for a request that is repeated because its answer was lost."""
    if known.codes >= CODES_MAX or (known.coded_at is not None and now - known.coded_at < AGAIN):
        return
    asked, code = value_from_row(known, CreditTransfer), "" if known.code_hash is None else code
    _send_question(tx, terms, policy, asked, payer, recipient, code=code, count=known.codes + 1, now=now)


def _count_wrong(tx: Connection, row: sa.Row[Any], now: datetime) -> WrongCode:
    tries = row.tries + 1
    if tries < TRIES_MAX:
        transfer_records.change(tx, row.id, tries=tries)
        return WrongCode("this is not the code")
    transfer_records.change(tx, row.id, tries=tries, state=CreditTransferState.CANCELLED.value, ended_at=now)
    return WrongCode("this is not the code, and the transfer is cancelled: ask for it again")


def _is_open(row: sa.Row[Any], now: datetime) -> bool:
    return bool(row.state == CreditTransferState.ASKED and row.expires_at > now)


def _is_code(row: sa.Row[Any], code: str) -> bool:
    return bool(row.code_hash == _hash(row.reference, code))


def _hash(reference: str, code: str) -> str:
    return hashlib.sha256(f"{reference} {code}".encode("utf-8", "surrogatepass")).hexdigest()
