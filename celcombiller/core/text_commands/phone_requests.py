"""Requests that come from phones: each done once, and answered in one sentence. On an open transaction.

A request is known by the id of its message: the same message again gets the same answer, and nothing happens twice. A
sale with the words of one that was made a moment ago is asked about. Each request has a row, each refusal is a
sentence, and no PIN is stored: a `PinTry` carries it to where its hash is checked, outside of any transaction.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from celcombiller.core.access.actor import Actor
from celcombiller.core.access.credentials import pins
from celcombiller.core.charging import messages
from celcombiller.core.credit_transfers import credit_transfers
from celcombiller.core.errors import (
    BillerError,
    InvalidValue,
    StoreUnavailable,
    TooLate,
    TooManyAttempts,
    UnknownCommand,
    UnknownSubscriber,
    UntrustedSender,
    WrongCode,
)
from celcombiller.core.languages.error_texts import describe_reason
from celcombiller.core.languages.language import Text as _
from celcombiller.core.ledger import accounts
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.model.credit_transfers import CreditTransferState
from celcombiller.core.schedules.due_dates import local_date, zone_of
from celcombiller.core.selling import amounts, sales
from celcombiller.core.subscribers.directory import Directory
from celcombiller.core.text_commands import command_records
from celcombiller.core.text_commands.command_formats import Command, CommandKind
from celcombiller.core.text_commands.command_records import ASKED, DONE
from celcombiller.core.vouchers import redemption

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine import Connection

    from celcombiller.core.access.credentials.pins import PinCheck
    from celcombiller.core.languages.language import Language, Value
    from celcombiller.core.model.credit_transfers import CreditTransfer
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.model.vouchers import VoucherBatch
    from celcombiller.core.sms.charging import MessagePolicy
    from celcombiller.core.text_commands.command_rules import CommandRules

SALE_CODE_DIGITS = 4
ASKED_FOR = timedelta(minutes=10)
TRIES_MAX = 3
"""Wrong codes until a question is closed."""

WITHOUT_ID = timedelta(hours=1)
"""How long the same words may be a repeat where the network gives its messages no ids: it repeats what it had no answer
for."""

ANSWERS_MAX = 5
AGAIN = timedelta(seconds=30)
"""How often, and how soon, the same message is answered again."""


UNTRUSTED = _("this phone is known by its number only, and not by a password")


@dataclass(frozen=True, slots=True)
class PhoneRequest:
    """A command from a phone.

    ``key`` is the id of its message on its network, or random digits where that has none (``has_key``). ``source`` is
    where tries of PINs count. ``is_trusted``: the sender was known by user name and password. ``service_code`` is the
    number that it went to, and that an answer comes from; empty: no message answers. ``random``: 32 new hexadecimal
    digits.
    """

    way: str
    key: str
    command: Command
    account_code: str
    from_number: str
    random: str = field(repr=False)
    has_key: bool = True
    is_trusted: bool = False
    service_code: str = ""
    sent_at: datetime | None = None

    @property
    def source(self) -> str:
        """Where tries of PINs count, beside the account itself."""
        return f"phone:{self.account_code or self.from_number}"


@dataclass(frozen=True, slots=True)
class PinTry:
    """A try of a PIN that was counted: it is checked outside, then the request is done. ``new``: a PIN to hash, too."""

    check: PinCheck
    pin: str = field(repr=False)
    new: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class CheckedPin:
    """What a check of a PIN found."""

    check: PinCheck
    is_right: bool
    new: pins.NewPin | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a request: ``done``, ``asked``, or the code of a refusal; and the facts that a voice says."""

    result: str
    text: str = field(repr=False)
    is_new: bool = True
    code: str = field(default="", repr=False)
    amount: int = 0
    balance: int = 0


@dataclass(frozen=True, slots=True)
class _Done:
    """What an action did. ``text`` is the answer; empty: it has sent one itself."""

    text: str
    result: str = DONE
    words: str | None = None
    number: str | None = None
    amount: int | None = None
    code: str | None = None
    balance: int = 0


@dataclass(frozen=True, slots=True)
class _Work:
    """What an action works on."""

    tx: Connection
    rules: CommandRules
    request: PhoneRequest
    sender: Subscriber
    reference: str
    now: datetime
    pin: CheckedPin | None

    @property
    def actor(self) -> Actor:
        """The sender as the author of changes."""
        return Actor(self.sender.username, self.request.way, subscriber_id=self.sender.id)

    def field(self, name: str) -> str:
        """Return a field of the command."""
        return self.request.command.fields[name]

    def write(self, text: str, **values: Value) -> str:
        """Return a text in the sender's language."""
        return self.rules.policy.write(text, self.sender.language, **values)


def answer(
    tx: Connection, rules: CommandRules, request: PhoneRequest, now: datetime, pin: CheckedPin | None = None
) -> Answered | PinTry:
    """Do what a phone asks for, once for its message, and queue the answer; or return the PIN that is to be checked.

    Raises `UnknownSubscriber` where no subscriber is the sender, and `TooManyAttempts` where they send too much: then
    nothing answers.
    """
    sender = _find_sender(tx, request)
    if not request.is_trusted:
        return _refuse_untrusted(tx, rules, request, sender, now)
    command_records.lock_sender(tx, sender.id)
    digest = _digest_of(sender, request)
    work = _Work(tx, rules, request, sender, f"phone:{digest[:32]}", now, pin)
    known = command_records.find_by_key(tx, digest)
    if known is not None:
        return _answer_again(work, known)
    if command_records.count_since(tx, sender.id, now - timedelta(minutes=1)) >= rules.per_minute_max:
        raise TooManyAttempts("too many commands in a minute", 60)
    try:
        _check(work)
        if pin is None:
            asked = _find_pin(work)
            if asked is not None:
                return asked
        with tx.begin_nested():
            done = _ACTIONS[request.command.kind](work)
    except StoreUnavailable:
        raise
    except BillerError as refusal:
        done = _Done(_word_refusal(rules, sender, refusal), refusal.code)
    _record(work, digest, done)
    return Answered(done.result, done.text, code=done.code or "", amount=done.amount or 0, balance=done.balance)


def try_pin(tx: Connection, request: PhoneRequest, now: datetime) -> PinTry:
    """Count a try of the PIN of a sale, before it is asked about. Raises as `answer` does, and `UntrustedSender`."""
    sender = _find_sender(tx, request)
    if not request.is_trusted:
        raise UntrustedSender(UNTRUSTED)
    return PinTry(pins.begin(tx, sender.id, request.source, now), request.command.fields["pin"])


def plan_sale(
    tx: Connection, rules: CommandRules, request: PhoneRequest, now: datetime, pin: CheckedPin
) -> sales.SalePlan:
    """Return what a sale would do. Raises `WrongPin`, and as `sales.plan_sale` does."""
    sender = _find_sender(tx, request)
    return _plan(_Work(tx, rules, request, sender, "", now, pin))


def _find_sender(tx: Connection, request: PhoneRequest) -> Subscriber:
    words = (request.account_code, request.from_number)
    sender = Directory.load(tx, words).find_payer(*words)
    if sender is None:
        raise UnknownSubscriber("neither the account code nor the sender's number is a subscriber's")
    return sender


def _digest_of(sender: Subscriber, request: PhoneRequest) -> str:
    """Return the key of a message: it contains text from the phone, of any length."""
    return hashlib.sha256(f"{sender.id} {request.way} {request.key}".encode("utf-8", "surrogatepass")).hexdigest()


def _check(work: _Work) -> None:
    """Raise a refusal for what no command may be."""
    request, rules = work.request, work.rules
    if rules.late is not None and request.sent_at is not None and work.now - request.sent_at > rules.late:
        raise TooLate("the message came too late")


def _refuse_untrusted(
    tx: Connection, rules: CommandRules, request: PhoneRequest, sender: Subscriber, now: datetime
) -> Answered:
    """Tell the subscriber once in an hour that what came in their name is not done; it may be forged.

    It has no row, so that it uses up nothing that the subscriber's own commands need.
    """
    refusal = UntrustedSender(UNTRUSTED)
    text = _word_refusal(rules, sender, refusal)
    reference = f"phone:untrusted:{sender.id}:{now.timestamp() // 3600:.0f}"
    messages.submit(tx, _from_service(rules, request), reference=reference, to_number=sender.clid, text=text, now=now)
    return Answered(refusal.code, text)


def _find_pin(work: _Work) -> PinTry | None:
    """Return the PIN that this command must have, after counting the try."""
    kind, fields = work.request.command.kind, work.request.command.fields
    if kind is CommandKind.SELL:
        pin, new = fields["pin"], ""
    elif kind is CommandKind.CHANGE_PIN:
        pin, new = fields["old"], fields["new"]
        if fields["again"] != new:
            raise InvalidValue(_("the new PIN is not twice the same"), {"new": "must be twice the same"})
        pins.check_digits(new, (work.sender.clid, work.sender.imsi, work.sender.cpf or ""))
    elif kind is CommandKind.CONFIRM and credit_transfers.waits_for_pin(work.tx, work.sender.id, work.now):
        pin, new = fields["code"], ""
    else:
        return None
    return PinTry(pins.begin(work.tx, work.sender.id, work.request.source, work.now), pin, new)


def _finish_pin(work: _Work) -> None:
    """Raise `WrongPin` unless the PIN was right."""
    assert work.pin is not None
    pins.finish(work.tx, work.pin.check, is_right=work.pin.is_right, now=work.now)


# -- what each command does -------------------------------------------------------------------------------------------


def _sell(work: _Work) -> _Done:
    """Sell, or ask whether the same is to be sold again."""
    plan, rules = _plan(work), work.rules
    amount = plan.amount
    words = f"sell {plan.buyer.id} {amount}"
    window = rules.repeat if work.request.has_key else max(rules.repeat, WITHOUT_ID)
    same = command_records.find_same(work.tx, work.sender.id, words, work.now - window)
    if same is not None and rules.repeat:
        return _ask_whether_again(work, same, plan.buyer.clid, amount)
    return _post_sale(work, plan.buyer.clid, amount, words, work.reference)


def _plan(work: _Work) -> sales.SalePlan:
    """Return what a sale with the right PIN would do. Raises `WrongPin`, and as `sales.plan_sale` does."""
    _finish_pin(work)
    amount = amounts.parse_amount(work.field("amount"), amounts.read_money(work.tx))
    return sales.plan_sale(
        work.tx,
        work.rules.selling,
        work.sender.id,
        work.field("number"),
        amount,
        now=work.now,
    )


def _ask_whether_again(work: _Work, same: sa.Row[Any], number: str, amount: int) -> _Done:
    code = f"{int(work.request.random, 16) % 10**SALE_CODE_DIGITS:0{SALE_CODE_DIGITS}}"
    text = work.write(
        work.rules.wording.sold_already,
        amount=_format(work, amount),
        number=number,
        time=same.at.astimezone(zone_of(work.rules.zone)),
        code=code,
    )
    return _Done(text, ASKED, number=number, amount=amount, code=code)


def _sell_again(work: _Work, asked: sa.Row[Any]) -> _Done:
    """Sell what the sender was asked about; the same code once more finds the sale made."""
    words = f"sell {_find_buyer_id(work, asked.number)} {asked.amount}"
    return _post_sale(work, asked.number, asked.amount, words, f"phone:{asked.key[:32]}")


def _find_buyer_id(work: _Work, number: str) -> int | None:
    buyer = Directory.load(work.tx, (number,)).find_callee(number)
    return None if buyer is None else buyer.id


def _post_sale(work: _Work, number: str, amount: int, words: str, key: str) -> _Done:
    rules = work.rules
    sold = sales.sell(
        work.tx,
        replace(rules.selling, sold_text="") if work.request.service_code else rules.selling,
        work.actor,
        work.sender.id,
        number,
        amount,
        key=key,
        origin="keypad" if work.request.way == "keypad" else "sms",
        now=work.now,
    )
    stock = sold.stock or 0
    text = work.write(
        rules.wording.sold,
        amount=_format(work, amount),
        number=number,
        balance=_format(work, stock),
        receipt=sold.receipt.label,
    )
    return _Done(text, words=words, number=number, amount=amount, balance=stock)


def _redeem(work: _Work) -> _Done:
    today = local_date(work.now, work.rules.zone)
    redeemed = redemption.redeem(work.tx, work.sender.id, work.field("code"), today=today, now=work.now)
    if isinstance(redeemed, BillerError):  # not raised: a wrong code counts
        return _Done(_word_refusal(work.rules, work.sender, redeemed), redeemed.code)
    batch = redeemed.batch
    balance = accounts.balances(work.tx, work.sender.id)[Kind.VOICE].available
    text = work.write(work.rules.wording.redeemed, value=_value_of(work, batch), balance=_format(work, balance))
    return _Done(text, amount=batch.value, balance=balance)


def _value_of(work: _Work, batch: VoucherBatch) -> Value:
    """Return what a voucher gave, as a value in a text."""
    if isinstance(batch.kind, BundleKind):
        return batch.bundle_name
    if batch.kind is Kind.VOICE:
        return _format(work, batch.value)
    return partial(_count_things, batch.kind, batch.value)


def _count_things(kind: Kind, number: int, language: Language) -> str:
    if kind is Kind.SMS:
        text = language.ngettext("{number} message", "{number} messages", number)
    else:
        text = language.ngettext("{number} data credit", "{number} data credits", number)
    return language.fill(text, {"number": number})


def _change_pin(work: _Work) -> _Done:
    _finish_pin(work)
    assert work.pin is not None
    assert work.pin.new is not None
    pins.set_pin(work.tx, work.actor, work.sender.username, work.pin.new, work.now)
    return _Done(work.write(work.rules.wording.pin_changed))


def _transfer(work: _Work) -> _Done:
    amount = amounts.parse_amount(work.field("amount"), amounts.read_money(work.tx))
    asked = _ask_transfer(work, work.field("number"), amount)
    if asked.state is CreditTransferState.MADE:
        return _transferred(work, asked)
    return _Done("", ASKED, number=work.field("number"), amount=amount)


def _ask_transfer(work: _Work, number: str, amount: int) -> CreditTransfer:
    has_pin = pins.find_hash(work.tx, work.sender.id) is not None
    return credit_transfers.ask(
        work.tx,
        work.rules.transfers,
        _from_service(work.rules, work.request),
        work.sender,
        number,
        amount,
        actor=work.actor,
        reference=work.reference,
        random=work.request.random,
        has_pin=has_pin,
        today=local_date(work.now, work.rules.zone),
        now=work.now,
    )


def _confirm(work: _Work) -> _Done:
    """Do what the sender was asked about last, if this is its code."""
    code = work.field("code")
    asked = command_records.find_asked(work.tx, work.sender.id, work.now)
    if asked is not None and asked.code == code:
        return _sell_again(work, asked)
    waits = credit_transfers.find_confirmable(work.tx, work.sender.id, work.now)
    if waits is None and asked is not None:
        return _count_wrong(work, asked)
    pin_is_right = False
    if work.pin is not None:
        _finish_pin(work)
        pin_is_right = True
    confirmed = credit_transfers.confirm(
        work.tx,
        work.rules.transfers,
        _from_service(work.rules, work.request),
        work.sender,
        code,
        actor=work.actor,
        pin_is_right=pin_is_right,
        today=local_date(work.now, work.rules.zone),
        now=work.now,
    )
    if confirmed.refusal is not None:  # not raised: a wrong code counts
        return _Done(_word_refusal(work.rules, work.sender, confirmed.refusal), confirmed.refusal.code)
    return _transferred(work, confirmed.unwrap())


def _transferred(work: _Work, made: CreditTransfer) -> _Done:
    text = credit_transfers.write_made(work.tx, work.rules.transfers, work.rules.policy, work.sender, made)
    return _Done(text, amount=made.amount)


def _count_wrong(work: _Work, asked: sa.Row[Any]) -> _Done:
    tries = asked.tries + 1
    changes = {"code": None} if tries >= TRIES_MAX else {}
    command_records.change(work.tx, asked.id, tries=tries, **changes)
    refusal = WrongCode(_("this is not the code"))
    return _Done(_word_refusal(work.rules, work.sender, refusal), refusal.code)


def _refuse_unknown(_work: _Work) -> _Done:
    raise UnknownCommand("this is no command")


_ACTIONS = {
    CommandKind.SELL: _sell,
    CommandKind.VOUCHER: _redeem,
    CommandKind.TRANSFER: _transfer,
    CommandKind.CHANGE_PIN: _change_pin,
    CommandKind.CONFIRM: _confirm,
    CommandKind.UNKNOWN: _refuse_unknown,
}


# -- answers ----------------------------------------------------------------------------------------------------------


def _from_service(rules: CommandRules, request: PhoneRequest) -> MessagePolicy:
    """Return the policy of messages with the service code as their sender, so that a phone can answer them."""
    return replace(rules.policy, sender=request.service_code or rules.policy.sender)


def _word_refusal(rules: CommandRules, sender: Subscriber, refusal: BillerError) -> str:
    wording = rules.wording
    text = {UnknownCommand: wording.unknown, TooLate: wording.late}.get(type(refusal), wording.refused)
    return rules.policy.write(text, sender.language, reason=partial(describe_reason, refusal))


def _format(work: _Work, amount: int) -> Value:
    return partial(amounts.format_amount, amount, amounts.read_money(work.tx), work.rules.style)


def _record(work: _Work, digest: str, done: _Done) -> None:
    is_answered = bool(done.text and work.request.service_code)
    command_records.add(
        work.tx,
        key=digest,
        subscriber_id=work.sender.id,
        way=work.request.way,
        command=work.request.command.kind.value,
        at=work.now,
        result=done.result,
        words=done.words,
        number=done.number,
        amount=done.amount,
        answer=done.text or None,
        answers=1 if is_answered else 0,
        answered_at=work.now if is_answered else None,
        code=done.code,
        expires_at=work.now + ASKED_FOR if done.code else None,
    )
    if is_answered:
        _send(work, done.text, 1)


def _send(work: _Work, text: str, count: int) -> None:
    reference = f"{work.reference}:{count}"
    messages.submit(
        work.tx,
        _from_service(work.rules, work.request),
        reference=reference,
        to_number=work.sender.clid,
        text=text,
        now=work.now,
    )


def _answer_again(work: _Work, known: sa.Row[Any]) -> Answered:
    """Answer a message that has come before as it was answered then, and do nothing else."""
    is_due = known.answers and known.answers < ANSWERS_MAX and work.now - known.answered_at >= AGAIN
    if known.answer is None and known.result == ASKED and known.number is not None:
        _ask_transfer(work, known.number, known.amount)  # sends a new code, where the first is not on its way
    elif known.answer is not None and is_due:
        _send(work, known.answer, known.answers + 1)
        command_records.change(work.tx, known.id, answers=known.answers + 1, answered_at=work.now)
    return Answered(known.result, known.answer or "", is_new=False, code=known.code or "", amount=known.amount or 0)
