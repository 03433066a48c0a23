"""Charge text messages once (one-off charging, RFC 8506, 6.4): hold, then settle, release or refund.

Pure: on what a batch has loaded. A message is charged when the network has accepted it. Outcomes may come twice, late,
or from two sources that do not know of each other; the first outcome of each step counts, and no later one moves
credit again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from celcombiller.core.bundles.choice import choose_pots
from celcombiller.core.errors import (
    BadNumber,
    NotFound,
    SubscriberDisabled,
    SubscriberSuspended,
    TransferConflict,
    UnknownSubscriber,
)
from celcombiller.core.languages.language import Languages, Text
from celcombiller.core.ledger.book import REVERSAL
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.calls import share_reference
from celcombiller.core.model.messages import Message, MessageOrigin, MessageState, Route
from celcombiller.core.model.tariffs import Service, flat_rate
from celcombiller.core.rating.bill import make_bill
from celcombiller.core.rating.numbering import AS_DIALLED, NumberingPlan, normalise
from celcombiller.core.rating.pricing import rate_at
from celcombiller.core.routing.prefixes import match_length
from celcombiller.core.schema import tables
from celcombiller.core.sms import encoding
from celcombiller.core.sms.encoding import DefaultAlphabet, leave_out_accents
from celcombiller.core.subscribers.number_forms import NUMBER, plain_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from celcombiller.core.bundles.pots import BundlePot
    from celcombiller.core.catalogue.catalogue import Catalogue
    from celcombiller.core.languages.language import Value
    from celcombiller.core.ledger.book import Book
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.sms.encoding import Split
    from celcombiller.core.sms.message_records import MessageRecords
    from celcombiller.core.subscribers.directory import Directory

ORIGIN = "sms"
"""The origin of a message's charge, and the first word of its reference."""

HOLD_MARGIN = timedelta(minutes=10)
"""How long a hold stays open after its message has expired, so that a sweep can end both."""

PHONE_VALIDITY = timedelta(hours=1)
"""How long the script of a phone's message has to report its outcome, even if the database is away meanwhile."""


@dataclass(frozen=True, slots=True)
class MessagePolicy:
    """The operator's conditions for messages: which account pays; route and price of a part, on-net and off-net.

    ``smsc_alphabet`` decides whether a text to the SMSC is UCS-2. By ``numbering`` a number gets its international form
    to be priced; the message goes to the number as it was said. Who is suspended may write to
    ``suspended_allowed`` only. ``languages`` are those of the biller's own texts.
    """

    account: Kind = Kind.VOICE
    on_net_route: Route = Route.NONE
    off_net_route: Route = Route.NONE
    on_net_price: int = 0
    off_net_price: int = 0
    parts_max: int = 10
    sender: str = ""
    validity: timedelta = timedelta(hours=24)
    smsc_alphabet: DefaultAlphabet = DefaultAlphabet.GSM
    numbering: NumberingPlan = AS_DIALLED
    suspended_allowed: tuple[str, ...] = ()
    languages: Languages = field(default_factory=Languages)

    def write(self, text: str, language: str, **values: Value) -> str:
        """Return a text to somebody with this language. One of ours is in letters that make the fewest parts."""
        written = self.languages.write(text, language, **values)
        return leave_out_accents(written, self.smsc_alphabet) if isinstance(text, Text) else written

    def split(self, text: str, route: Route) -> Split:
        """Return the parts of a text that leaves by a route. Raises `InvalidValue` of the field ``text``."""
        alphabet = self.smsc_alphabet if route is Route.SMPP else DefaultAlphabet.GSM
        return encoding.split(text, parts_max=self.parts_max, alphabet=alphabet)


@dataclass(frozen=True, slots=True)
class MessageSubmission:
    """Authorize a message. ``reference`` is an id that its sender made; ``free``: no one pays, whatever the number.

    ``direct``: where Asterisk is the route, the requester sends the message at once; else it is queued, as the state
    of the answer says. ``broadcast_id``: the broadcast that it is a part of.
    """

    reference: str
    origin: MessageOrigin
    account_code: str
    caller_number: str
    to_number: str
    text: str
    free: bool = False
    direct: bool = False
    broadcast_id: int | None = None


@dataclass(frozen=True, slots=True)
class MessageOutcome:
    """Report the outcome of a message: accepted or refused by the network, then delivered or failed; or expired."""

    reference: str
    outcome: MessageState
    note: str = ""


@dataclass(frozen=True, slots=True)
class MessageResult:
    """The answer to both: the message as it is now, and whether this request changed it."""

    message: Message
    first: bool
    callee: Subscriber | None = None


@dataclass(slots=True)
class MessageCharging:
    """The charging of text messages, on what one batch has loaded."""

    directory: Directory
    book: Book
    messages: MessageRecords
    pots: Mapping[int, Sequence[BundlePot]] = field(default_factory=dict)
    """The bundles of each subscriber that pays for something new, in the order in which they are spent."""

    def send(
        self,
        policy: MessagePolicy,
        request: MessageSubmission,
        now: datetime,
        catalogue: Catalogue | None = None,
    ) -> MessageResult:
        """Authorize a message and hold what it costs; the same request again gets the first answer.

        The policy's prices count where the payer's tariff in the ``catalogue`` has none of messages.

        Raises `TransferConflict`, `BadNumber`, `UnknownSubscriber`, `SubscriberDisabled`, `SubscriberSuspended`,
        `InvalidValue` (of the text) and `InsufficientBalance`.
        """
        digest = digest_of(request)
        known = self.messages.get(request.reference)
        if known is not None:
            if known.digest != digest and request.origin is not MessageOrigin.NOTICE:
                raise TransferConflict(f"a message with the id {request.reference} exists and says something else")
            return MessageResult(known, first=False, callee=self.directory.find_callee(request.to_number))
        number = plain_number(request.to_number)
        if not NUMBER.fullmatch(number):
            raise BadNumber("a number is made of digits, * and #")
        payer = None if request.free else self.directory.find_payer(request.account_code, request.caller_number)
        if payer is None and not request.free:
            raise UnknownSubscriber("neither the account code nor the sender's number is a subscriber's")
        if payer is not None and not payer.enabled:
            raise SubscriberDisabled(f"{payer.username} is disabled")
        if payer is not None and payer.suspended and match_length(number, policy.suspended_allowed) < 0:
            raise SubscriberSuspended(f"a fee of {payer.username} is unpaid: they may write to chosen numbers only")
        callee = self.directory.find_callee(request.to_number)
        route, price = (
            (policy.off_net_route, policy.off_net_price)
            if callee is None
            else (policy.on_net_route, policy.on_net_price)
        )
        if route is Route.NONE:
            target = "others ([sms] off_net_route)" if callee is None else "subscribers ([sms] on_net_route)"
            raise BadNumber(f"there is no way for messages to {target}")
        made = policy.split(request.text, route)
        is_queued = not (request.direct and route is Route.ASTERISK)
        expires_at = now + (policy.validity if is_queued else PHONE_VALIDITY)
        message = Message(
            reference=request.reference,
            origin=request.origin,
            subscriber_id=None if payer is None else payer.id,
            account_id=None if payer is None else self.directory.account_ids[payer.id, policy.account],
            from_number=(request.caller_number or policy.sender) if payer is None else payer.clid,
            to_number=number if callee is None else callee.clid,
            callee_id=None if callee is None else callee.id,
            route=route,
            text=request.text if is_queued else None,
            digest=digest,
            encoding=made.encoding.value,
            parts=len(made.parts),
            price=0 if payer is None else price,
            state=MessageState.QUEUED if is_queued else MessageState.SENDING,
            queued_at=now,
            expires_at=expires_at,
            broadcast_id=request.broadcast_id,
        )
        if payer is not None:
            message = self._pay(message, payer, policy.numbering, catalogue, now)
        return MessageResult(self.messages.add(message), first=True, callee=callee)

    def _pay(
        self, message: Message, payer: Subscriber, numbering: NumberingPlan, catalogue: Catalogue | None, now: datetime
    ) -> Message:
        """Price a message by the payer's tariff, where that has prices of messages, and hold what it costs."""
        number = normalise(numbering, message.to_number)
        on_net, rate = message.callee_id is not None, flat_rate(price=message.price)
        if catalogue is not None:
            tariff, version_id = catalogue.tariff_for(payer, Service.SMS, now)
            if version_id is not None:
                rate = rate_at(tariff.rate_for(number, now, on_net=on_net), now)
                message = replace(message, tariff_version_id=version_id, price=rate.price)
        pots = choose_pots(self.pots, payer.id, self.book, Service.SMS, number, on_net=on_net, at=now)
        bill = make_bill(rate, message.parts, now, pots)
        if bill.balance_amount != message.price * message.parts:
            message = replace(message, charge=bill.balance_amount)
        message = replace(message, bundles=tuple((id_, amount) for id_, amount in bill.takes.items() if amount))
        expires_at = message.expires_at + HOLD_MARGIN
        for reference, account_id, amount in shares_of(message):
            self.book.hold(reference, account_id, amount, now=now, expires_at=expires_at)
        return message

    def apply_outcome(self, request: MessageOutcome, now: datetime) -> MessageResult:
        """Apply an outcome to its message; only an outcome of the step that is due changes it. Raises `NotFound`."""
        message = self.messages.get(request.reference)
        if message is None:
            raise NotFound(f"there is no message {request.reference}")
        state = next_state(message.state, request.outcome)
        if state is message.state:
            return MessageResult(message, first=False)
        if message.state.is_open:
            self._end_hold(message, state, now)
        elif state is MessageState.FAILED:
            self._refund(message, request.note, now)
        ended_at = message.ended_at or now
        changed = self.messages.change(message, state=state, text=None, ended_at=ended_at, note=request.note)
        return MessageResult(changed, first=True)

    def _end_hold(self, message: Message, state: MessageState, now: datetime) -> None:
        if message.account_id is None:
            return
        for reference, _, amount in shares_of(message):
            if state is MessageState.REFUSED:
                self.book.release(reference, now=now)
            elif state is MessageState.EXPIRED:
                self.book.expire(reference, now=now)
            else:
                self.book.settle(reference, amount, origin=ORIGIN, now=now)

    def _refund(self, message: Message, why: str, now: datetime) -> None:
        """Refund what was charged. A bundle that has ended meanwhile gets no refund."""
        living = {each.account_id for each in self.pots.get(message.subscriber_id or 0, ())}
        for reference, account_id, amount in shares_of(message):
            if amount == 0 or (account_id != message.account_id and account_id not in living):
                continue
            self.book.post(
                refund_of(reference),
                tables.OPERATOR_ACCOUNT_IDS[self.book.accounts[account_id].kind],
                account_id,
                amount,
                origin=REVERSAL,
                now=now,
                note=why or "the network could not deliver the message",
            )


def shares_of(message: Message) -> Iterator[tuple[str, int, int]]:
    """Yield the reference, the account and the amount of each hold of a message: the balance's, then the bundles'."""
    if message.account_id is not None:
        yield message.reference, message.account_id, message.cost
        for account_id, amount in message.bundles:
            yield share_reference(account_id, message.reference), account_id, amount


def next_state(state: MessageState, outcome: MessageState) -> MessageState:
    """Return the state after an outcome. A failure that comes before the acceptance was recorded is a refusal."""
    if state.is_open:
        return MessageState.REFUSED if outcome is MessageState.FAILED else outcome
    if state is MessageState.ACCEPTED and outcome in (MessageState.DELIVERED, MessageState.FAILED):
        return outcome
    return state


def refund_of(reference: str) -> str:
    """Return the reference of a message's refund; it is the one that `reverse` would use, so only one is made."""
    return f"{REVERSAL}:{reference}"


def digest_of(request: MessageSubmission) -> str:
    """Return the digest that identifies a message after its text is deleted."""
    facts = (request.reference, request.origin, request.account_code, request.caller_number, request.to_number)
    text = request.text.encode("utf-8", "surrogatepass").hex()
    return hashlib.sha256(msgspec.json.encode((*facts, text))).hexdigest()
