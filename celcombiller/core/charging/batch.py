"""Charging: initiate, answer, terminate, credit and messages, for a whole batch of requests in one transaction.

The verbs follow credit control (RFC 8506): *initiate* authorizes and holds, *terminate* settles; what is charged at
once, a text message, is planned by `celcombiller.core.sms.charging`. A batch is loaded
(a few set-wise statements), planned in memory (pure: values in, values out), and saved. Each request gets its own
answer or its own refusal, so one that is wrong spoils no other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, assert_never

from celcombiller.core.charging.requests import (
    CallAnswered,
    ChargingPolicy,
    Credit,
    Initiate,
    Outcome,
    Request,
    Result,
    Terminate,
)
from celcombiller.core.data.accounting_reports import NasRestart, Report, StaleSession, Usage
from celcombiller.core.data.charging import DataCharging
from celcombiller.core.data.session import DataState, find_payer
from celcombiller.core.data.session_records import DataSessionRecords
from celcombiller.core.errors import (
    BadNumber,
    BillerError,
    InsufficientBalance,
    SubscriberDisabled,
    UnknownCall,
    UnknownSubscriber,
)
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import Account, Kind, Transfer
from celcombiller.core.model.calls import Call, CallGrant, CallReport, CallState, Settlement, Witness
from celcombiller.core.rating import affordable_seconds, charged_ms, price
from celcombiller.core.schema import bulk, tables
from celcombiller.core.sms.charging import MessageCharging, MessageOutcome, MessageSubmission, refund_of
from celcombiller.core.sms.message_records import MessageRecords
from celcombiller.core.subscribers.directory import Directory
from celcombiller.core.subscribers.fields import NUMBER
from celcombiller.core.voice.call_records import CallRecords
from celcombiller.core.voice.evidence import DISCREPANCY_MS, WitnessReport, talk_ms

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection


HOLD_MARGIN = timedelta(minutes=10)
"""How long after the last moment a call can be alive its hold stays open, for a witness to come late."""


def process_batch(tx: Connection, terms: ChargingPolicy, requests: Sequence[Request], now: datetime) -> list[Result]:
    """Do a batch on an open transaction; the answers are in the order of the requests, refusals among them."""
    state = ChargingBatch.load(tx, requests, sms_from=terms.messages.account)
    results = [state.plan(terms, request, now) for request in requests]
    state.save(tx)
    return results


@dataclass(slots=True)
class ChargingBatch:
    """What a batch works on: subscribers, and their accounts, holds, calls, messages and data sessions."""

    directory: Directory
    book: Book
    register: CallRecords
    postbox: MessageRecords
    sessions: DataSessionRecords

    @classmethod
    def load(cls, tx: Connection, requests: Sequence[Request], *, sms_from: Kind = Kind.VOICE) -> ChargingBatch:
        """Read all that the batch names; calls, messages, data sessions, then accounts, are locked.

        ``sms_from``: which account pays for messages that are new; others are their own accounts'.
        """
        uniqueids: set[str] = set()
        identities: set[str] = set()
        references: set[str] = set()
        posted: set[str] = set()
        asked: list[Initiate] = []
        credits_asked = [each for each in requests if isinstance(each, Credit)]
        usages: list[Usage] = []
        session_keys: set[str] = set()
        restarted: set[str] = set()
        for request in requests:
            if isinstance(request, Usage):
                usages.append(request)
                identities.update(request.identities)
            if isinstance(request, Report):
                if isinstance(request, NasRestart):
                    restarted.add(request.nas)
                else:
                    session_keys.add(request.key)
                continue
            if isinstance(request, Credit):
                identities.add(request.username)
                references.add(request.reference)
                continue
            if isinstance(request, MessageSubmission | MessageOutcome):
                posted.add(request.reference)
                if isinstance(request, MessageSubmission):
                    identities.update((request.account_code, request.caller_number, request.to_number))
                continue
            uniqueids.add(request.uniqueid)
            initiate = request if isinstance(request, Initiate) else getattr(request, "unauthorized_request", None)
            if initiate is not None:
                asked.append(initiate)
                identities.update((initiate.account_code, initiate.caller_number, initiate.called_number))
        named, called, written, *used = bulk.read(
            tx,
            Directory.question(identities),
            CallRecords.question(uniqueids),
            MessageRecords.question(posted),
            *DataSessionRecords.queries(session_keys, restarted),
        )
        directory, register, postbox = (
            Directory.of_rows(named),
            CallRecords.of_rows(called),
            MessageRecords.of_rows(written),
        )
        sessions = DataSessionRecords.from_rows(chain.from_iterable(used))
        payers = [directory.caller(each.account_code, each.caller_number) for each in asked]
        payers += [directory.caller(each.username, "") for each in credits_asked]
        kinds = [*(Kind.VOICE for _ in asked), *(each.kind for each in credits_asked)]
        sent = [each for each in requests if isinstance(each, MessageSubmission) and not each.free]
        payers += [directory.caller(each.account_code, each.caller_number) for each in sent]
        kinds += [sms_from for _ in sent]
        open_calls = [call for call in register if call.state is CallState.OPEN]
        book = Book()
        paying = {
            directory.account_ids[payer.id, kind]
            for payer, kind in zip(payers, kinds, strict=True)
            if payer is not None
        }
        charged = [each for each in postbox if each.account_id is not None]
        paying |= {each.account_id for each in charged if each.account_id is not None}
        users = (find_payer(directory, each.identities) for each in usages)
        using = {directory.account_ids[user.id, Kind.DATA] for user in users if user is not None}
        using |= {each.account_id for each in sessions}
        calling = {call.account_id for call in open_calls}
        held = {call.reference for call in open_calls} | {each.reference for each in charged}
        book.load(
            tx,
            paying | calling | using,
            held | {each.hold_reference for each in sessions if each.state is DataState.OPEN},
        )
        book.load_transfers(tx, references | {refund_of(each.reference) for each in charged})
        return cls(directory, book, register, postbox, sessions)

    def save(self, tx: Connection) -> None:
        """Write what the plan changed."""
        parts = (self.register, self.postbox, self.sessions, self.book)
        bulk.write(tx, chain.from_iterable(each.changes() for each in parts))

    def plan(self, terms: ChargingPolicy, request: Request, now: datetime) -> Result:
        """Decide one request; what it asks for is done in memory, or a refusal is given and nothing is done."""
        answered: Outcome
        try:
            match request:
                case Initiate():
                    answered = self._initiate(terms, request, now)
                case CallAnswered():
                    answered = self._answer(request)
                case Terminate():
                    answered = self._terminate(terms, request, now)
                case Credit():
                    answered = self.credit(request, now)
                case MessageSubmission() | MessageOutcome():
                    answered = self.desk.do(terms.messages, request, now)
                case Usage() | NasRestart() | StaleSession():
                    answered = DataCharging(self.directory, self.book, self.sessions).process(request, now)
                case _:
                    assert_never(request)
        except BillerError as refusal:
            return refusal
        return answered

    @property
    def desk(self) -> MessageCharging:
        """What of it messages need."""
        return MessageCharging(self.directory, self.book, self.postbox)

    def _initiate(self, terms: ChargingPolicy, request: Initiate, now: datetime) -> CallGrant:
        last = self.register.last(request.server, request.uniqueid)
        if last is not None and last.state is CallState.OPEN:
            if last.authorization == request.authorization:
                return self._grant(terms, last, request)
            # A channel runs one application at a time: that it asks again proves that its last Dial is over.
            self._close(last, Witness.AGI, request.previous, now)
        call, account = self._admit(terms, request, now, leg=0 if last is None else last.leg + 1)
        seconds = affordable_seconds(call.rate, account.available, call.granted_seconds)
        if seconds == 0:
            raise InsufficientBalance(f"{max(account.available, 0)} available")
        if seconds != call.granted_seconds:
            call = replace(call, granted_seconds=seconds)
        self.register.add(call)
        grant = self._grant(terms, call, request)
        self.book.hold(
            call.reference, account.id, price(call.rate, seconds * 1000), now=now, expires_at=grant.expires_at
        )
        return grant

    def _admit(self, terms: ChargingPolicy, request: Initiate, now: datetime, *, leg: int) -> tuple[Call, Account]:
        """Decide who pays, whom he calls and at what rate, for the longest call there may be."""
        payer = self.directory.caller(request.account_code, request.caller_number)
        if payer is None:
            raise UnknownSubscriber("neither the account code nor the caller's number is a subscriber's")
        if not payer.enabled:
            raise SubscriberDisabled(payer.username)
        if not NUMBER.fullmatch(request.called_number):
            raise BadNumber("a number is made of digits, * and #")
        callee = self.directory.callee(request.called_number)
        if callee is None and not terms.external:
            raise BadNumber("nobody here has this number, and there is no way to others (calls.external_dial)")
        to_number = request.called_number if callee is None else callee.clid
        call = Call(
            server=request.server,
            uniqueid=request.uniqueid,
            leg=leg,
            authorization=request.authorization,
            channel=request.channel,
            subscriber_id=payer.id,
            account_id=self.directory.account_ids[payer.id, Kind.VOICE],
            from_number=payer.clid,
            to_number=to_number,
            callee_id=None if callee is None else callee.id,
            rate=terms.tariff.rate_for(to_number),
            granted_seconds=terms.max_call_seconds,
            answered_early=request.answered_early,
            started_at=now,
        )
        return call, self.book.accounts[call.account_id]

    def _grant(self, terms: ChargingPolicy, call: Call, request: Initiate) -> CallGrant:
        payer = self.directory.caller(request.account_code, request.caller_number)
        if payer is None:
            raise UnknownSubscriber("the subscriber went away while he was asking")
        return CallGrant(
            call=call,
            subscriber=payer,
            callee=self.directory.callee(request.called_number),
            seconds=call.granted_seconds,
            expires_at=call.started_at + timedelta(seconds=terms.ring_seconds + call.granted_seconds) + HOLD_MARGIN,
        )

    def _answer(self, request: CallAnswered) -> Call:
        call = self.register.last(request.server, request.uniqueid)
        if call is None:
            raise _unknown(request)
        if call.state is CallState.OPEN and call.answered_at is None:
            return self.register.change(call, answered_at=request.at)
        return call

    def _terminate(self, terms: ChargingPolicy, request: Terminate, now: datetime) -> Settlement:
        call = self.register.last(request.server, request.uniqueid)
        if call is None and request.unauthorized_request is not None:
            call = self._admit_late(terms, request.unauthorized_request, now)
        if call is None or (request.leg is not None and request.leg != call.leg):
            raise _unknown(request)
        said_ms = talk_ms(call, request.ending)
        if call.state is CallState.OPEN:
            if _is_stale_dialstatus(call, request):
                self._testify(call, request.witness, request.ending, said_ms, None, now)
                return Settlement(call, first=False)
            closed = self._close(call, request.witness, request.ending, now, expired=request.expired)
            return Settlement(closed, first=True)
        difference_ms = said_ms - (call.talk_ms or 0)
        self._testify(call, request.witness, request.ending, said_ms, difference_ms, now)
        return Settlement(call, first=False, difference_ms=difference_ms)

    def _admit_late(self, terms: ChargingPolicy, request: Initiate, now: datetime) -> Call:
        """Make the call that was let go without an authorization: nothing is held, what is talked is charged."""
        call, account = self._admit(terms, request, now, leg=0)
        note = "let go without an authorization: the ledger did not answer"
        self.book.hold(call.reference, account.id, 0, now=now, expires_at=now + HOLD_MARGIN)
        return self.register.add(replace(call, note=note))

    def _close(self, call: Call, witness: Witness, ending: CallReport, now: datetime, *, expired: bool = False) -> Call:
        """End an open call by what its first witness says: charge it if it was answered, else release its hold."""
        said_ms = talk_ms(call, ending)
        note = "; ".join(filter(None, (call.note, ending.note)))
        if ending.answered:
            cost = price(call.rate, charged_ms(said_ms, call.granted_seconds))
            hold = self.book.holds[call.reference]
            if cost > hold.amount:
                note = "; ".join(filter(None, (note, f"{cost} for the talk, {hold.amount} were held")))
            self.book.settle(call.reference, cost, origin="call", now=now, note=note)
            state = CallState.SETTLED
        else:
            cost = 0
            end, state = (self.book.expire, CallState.EXPIRED) if expired else (self.book.release, CallState.RELEASED)
            end(call.reference, now=now)
        answered_at = ending.answered_at or call.answered_at
        if ending.answered and answered_at is None:
            answered_at = ending.at - timedelta(milliseconds=said_ms)
        closed = self.register.change(
            call,
            state=state,
            answered_at=answered_at if ending.answered else None,
            ended_at=ending.at,
            talk_ms=said_ms,
            cost=cost,
            witness=witness,
            outcome=ending.outcome,
            note=note,
        )
        self._testify(closed, witness, ending, said_ms, None, now)
        return closed

    def _testify(
        self,
        call: Call,
        witness: Witness,
        ending: CallReport,
        said_ms: int,
        difference_ms: int | None,
        now: datetime,
    ) -> None:
        self.register.record_report(
            WitnessReport(
                reference=call.reference,
                witness=witness,
                at=now,
                answered=ending.answered,
                talk_ms=said_ms,
                outcome=ending.outcome,
                difference_ms=difference_ms,
                discrepancy=difference_ms is not None and abs(difference_ms) > DISCREPANCY_MS,
                note=ending.note,
            )
        )

    def credit(self, request: Credit, now: datetime) -> Transfer:
        """Give or take credit, once for its reference, in memory."""
        subscriber = self.directory.caller(request.username, "")
        if subscriber is None or subscriber.username != request.username:
            raise UnknownSubscriber(f"no subscriber is called {request.username}")
        mine = self.directory.account_ids[subscriber.id, request.kind]
        theirs = tables.OPERATOR_ACCOUNT_IDS[request.kind]
        debit, credit = (theirs, mine) if request.value >= 0 else (mine, theirs)
        return self.book.post(
            request.reference,
            debit,
            credit,
            abs(request.value),
            origin=request.origin,
            now=now,
            note=request.note,
        )


def _unknown(request: CallAnswered | Terminate) -> UnknownCall:
    return UnknownCall(f"no call of {request.server} has the uniqueid {request.uniqueid}")


def _is_stale_dialstatus(call: Call, request: Terminate) -> bool:
    """Tell whether the reducer speaks of a later Dial of the dialplan's own: each Dial resets DIALSTATUS.

    It says that nobody answered, while AMI saw the answer: then AMI's Hangup, which follows, settles the call.
    """
    return request.witness is Witness.REDUCER and not request.ending.answered and call.answered_at is not None
