"""Charging of calls: initiate, answer, terminate (RFC 8506), on what a batch has loaded.

Pure: values in, values out. It stands here and not in `celcombiller.core.voice`, because it needs the subscribers and
the requests, which are above that package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import structs

from celcombiller.core.bundles.choice import choose_pots
from celcombiller.core.charging.requests import CallAnswered
from celcombiller.core.charging.slices import HOLD_MARGIN, first_slice, held_pots, make_slice, valid_until
from celcombiller.core.errors import (
    BadNumber,
    InsufficientBalance,
    SharedBalance,
    SubscriberDisabled,
    SubscriberSuspended,
    UnknownCall,
    UnknownSubscriber,
)
from celcombiller.core.model.accounts import Account, Kind
from celcombiller.core.model.calls import (
    Call,
    CallGrant,
    CallRenewal,
    CallReport,
    CallState,
    RenewalReason,
    Settlement,
    Witness,
    share_reference,
)
from celcombiller.core.model.tariffs import Service
from celcombiller.core.rating.bill import Pot, make_bill
from celcombiller.core.rating.numbering import normalise
from celcombiller.core.rating.pricing import charged_ms, price, seconds_of
from celcombiller.core.routing.prefixes import match_length
from celcombiller.core.subscribers.number_forms import NUMBER, plain_number
from celcombiller.core.voice.authorization import is_overtaken
from celcombiller.core.voice.dialled_numbers import encode_dialled
from celcombiller.core.voice.evidence import DISCREPANCY_MS, WitnessReport, is_of_talk, is_weakly_closed, talk_ms

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from celcombiller.core.bundles.pots import BundlePot
    from celcombiller.core.charging.admission import CallAdmission
    from celcombiller.core.charging.requests import (
        ChargingPolicy,
        Initiate,
        TakeTrunk,
        Terminate,
    )
    from celcombiller.core.ledger.book import Book
    from celcombiller.core.model.routing import TrunkDial
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.subscribers.directory import Directory
    from celcombiller.core.voice.call_records import CallRecords


_MAY_TALK = (CallState.OPEN, CallState.SETTLED)

_EARLIER_MAX = timedelta(days=1)
"""A call that the ledger did not authorize is not believed to have begun earlier than this: a clock may be wrong."""


@dataclass(slots=True)
class VoiceCharging:
    """The charging of calls, on what one batch has loaded."""

    directory: Directory
    book: Book
    calls: CallRecords
    admission: CallAdmission
    pots: Mapping[int, Sequence[BundlePot]] = field(default_factory=dict)
    """The bundles of each subscriber that pays for something new, in the order in which they are spent."""
    open_calls: dict[int, int] = field(default_factory=dict)
    """How many open calls each subscriber has who may have to share."""

    def initiate(self, policy: ChargingPolicy, request: Initiate, now: datetime) -> CallGrant:
        """Authorize a call and hold what its grant costs; the same request again gets the same grant.

        Raises `UnknownSubscriber`, `SubscriberDisabled`, `BadNumber`, `SubscriberSuspended`, `Barred`, `TooManyCalls`,
        `GroupFull`, `NoTrunk`, `NoRate`, `TooExpensive` and `InsufficientBalance`, and `UnknownCall` when the call of
        this authorization was let go without an answer, and is over, or when the channel has asked another biller
        meanwhile.
        """
        last = self.calls.last(request.server, request.uniqueid)
        if last is not None and last.state in _MAY_TALK and is_overtaken(request.authorization, last.authorization):
            raise UnknownCall("the channel has asked another biller since")
        if last is not None and last.state is CallState.OPEN:
            if last.authorization == request.authorization:
                return self._grant(policy, last, request, self.admission.list_trunks_again(last))
            # A channel runs one application at a time: a new request proves that its last Dial is over.
            # One that never dialled says nothing of a call that AMI saw answered: a leg that outlived its first call.
            previous = (
                structs.replace(request.previous, answered=True) if _says_nothing(request, last) else request.previous
            )
            self._close(last, Witness.AGI, previous, now, limit_seconds=last.granted_seconds)
        if self.calls.authorized(request.server, request.uniqueid, request.authorization) is not None:
            raise UnknownCall("the call of this authorization is over")
        call, account, pots = self.rate_call(policy, request, now, leg=0 if last is None else last.leg + 1)
        trunks = self.admission.route(call)
        most, sharers = call.granted_seconds, 1
        if request.slice_seconds:
            most = min(most, first_slice(call.reference, request.slice_seconds))
            sharers += self.open_calls.get(call.subscriber_id, 0)
        seconds, bill = make_slice(
            call.rate,
            pots,
            now,
            most,
            policy.ring_seconds,
            spendable=account.spendable,
            cost_max=self.admission.cost_max(call),
            sharers=sharers,
        )
        if seconds == 0:
            self.admission.check_cost(call, account.spendable, self.admission.spendable(call, account.spendable))
            if sharers > 1:
                raise SharedBalance(
                    f"{max(account.spendable, 0)} available; the rest is held for other calls", call.subscriber_id
                )
            raise InsufficientBalance(f"{max(account.spendable, 0)} available")
        if seconds != call.granted_seconds or bill.takes or trunks:
            trunk_id, trunk_rate = self.admission.find_first(call, trunks)
            call = structs.replace(
                call,
                granted_seconds=seconds,
                bundles=tuple(pot.account_id for pot in pots if pot.account_id in bill.takes),
                trunk_id=trunk_id,
                trunk_rate=trunk_rate,
            )
        self.calls.add(call)
        self.admission.open.begin(call)
        self._count_open(call, 1)
        grant = self._grant(policy, call, request, trunks)
        self.book.hold(call.reference, account.id, bill.balance_amount, now=now, expires_at=grant.expires_at)
        for account_id in call.bundles:
            reference = share_reference(account_id, call.reference)
            self.book.hold(reference, account_id, bill.takes[account_id], now=now, expires_at=grant.expires_at)
        return grant

    def rate_call(
        self, policy: ChargingPolicy, request: Initiate, now: datetime, *, leg: int = 0
    ) -> tuple[Call, Account, list[Pot]]:
        """Return an admitted call with its rate, the account of its payer, and the bundles that may pay for it.

        Nothing is recorded. Raises what `initiate` does, except for want of credit or of a trunk.
        """
        call, account = self._admit(policy, request, now, leg=leg)
        is_on_net = call.callee_id is not None
        pots = choose_pots(
            self.pots, call.subscriber_id, self.book, Service.VOICE, call.to_number, on_net=is_on_net, at=now
        )
        return call, account, pots

    def record(self, request: CallAnswered | TakeTrunk) -> Call:
        """Record the answer of a call in progress, or its next trunk. Raises what its own method does."""
        return self.answer(request) if isinstance(request, CallAnswered) else self.take_trunk(request)

    def answer(self, request: CallAnswered) -> Call:
        """Record when the callee answered. Raises `UnknownCall`."""
        call = self.calls.last(request.server, request.uniqueid)
        if call is None:
            raise _unknown(request)
        if call.state is CallState.OPEN and call.answered_at is None:
            return self.calls.change(call, answered_at=request.at)
        return call

    def take_trunk(self, request: TakeTrunk) -> Call:
        """Record by which trunk an open call is dialled next, before it is. Raises `UnknownCall` and `NoTrunk`."""
        call = self.calls.leg(request.server, request.uniqueid, request.leg)
        if call is None or call.state is not CallState.OPEN:
            raise _unknown(request)
        if call.trunk_id != request.failed:  # asked again: the first answer was lost
            return call
        trunk = self.admission.next_trunk(call, request.trunk_ids)
        rate = self.admission.rate_of(trunk, call.to_number, call.started_at)
        tried = (*call.trunks_tried, request.failed)
        self.admission.open.end(call)
        taken = self.calls.take_trunk(call, trunk_id=trunk.id, trunk_rate=rate, trunks_tried=tried)
        self.admission.open.begin(taken)
        return taken

    def terminate(self, policy: ChargingPolicy, request: Terminate, now: datetime) -> Settlement:
        """Settle an open call by the report of its first witness; record the report of every witness.

        Raises `UnknownCall`, and for a call that was let go without an authorization what `initiate` raises.
        """
        call = self._reported_leg(policy, request, now)
        reported_ms = talk_ms(call, request.ending)
        if call.state is CallState.OPEN:
            if _is_stale_dialstatus(call, request):
                self._record_report(call, request.witness, request.ending, reported_ms, None, now)
                return Settlement(call, first=False)
            limit_seconds = request.limit_seconds
            if limit_seconds is None and request.unauthorized_request is not None:
                limit_seconds = policy.max_call_seconds  # it was dialled with the limit of the policy
            if limit_seconds is not None and request.ending.answered:
                call = self._extend(call, limit_seconds, now)
            closed = self._close(
                call, request.witness, request.ending, now, limit_seconds=call.granted_seconds, expired=request.expired
            )
            return Settlement(closed, first=True, trunk=self.admission.trunk_name(closed))
        difference_ms = reported_ms - (call.talk_ms or 0)
        self._record_report(call, request.witness, request.ending, reported_ms, difference_ms, now)
        return Settlement(call, first=False, difference_ms=difference_ms)

    def _extend(self, call: Call, limit_seconds: int, now: datetime) -> Call:
        """Record that a call was limited to more than it was granted, without the ledger; it held no more for that."""
        if limit_seconds <= call.granted_seconds:
            return call
        held = self.book.holds[call.reference].amount
        renewal = CallRenewal(
            call.reference,
            now,
            RenewalReason.RENEWAL,
            seconds_before=call.granted_seconds,
            seconds_after=limit_seconds,
            held_before=held,
            held_after=held,
            note="it went on while the ledger was away",
        )
        return self.calls.renew(call, renewal)

    def _count_open(self, call: Call, change: int) -> None:
        self.open_calls[call.subscriber_id] = self.open_calls.get(call.subscriber_id, 0) + change

    def _admit(
        self, policy: ChargingPolicy, request: Initiate, now: datetime, *, leg: int, late: bool = False
    ) -> tuple[Call, Account]:
        """Decide who pays, which number is called and at what rate, for the longest call that the policy allows.

        ``late``: the call has happened, so a subscriber who is disabled pays for it all the same.
        """
        payer = self.directory.find_payer(request.account_code, request.caller_number)
        if payer is None:
            raise UnknownSubscriber(
                "neither the account code nor the caller's number is a subscriber's: set the accountcode to a username"
            )
        if not (payer.enabled or late):
            raise SubscriberDisabled(f"{payer.username} is disabled")
        number = normalise(policy.numbering, plain_number(request.called_number))
        if not NUMBER.fullmatch(number):
            raise BadNumber("a number is made of digits, * and #")
        callee = self.directory.find_callee(request.called_number)
        if callee is None and not (policy.external or self.admission.has_route(number)):
            raise BadNumber("nobody here has this number, and there is no way to others (a route, calls.external_dial)")
        to_number = number if callee is None else callee.clid
        if not late:
            check_suspension(policy.suspended_allowed, payer, plain_number(request.called_number), to_number)
            self.admission.check(payer, to_number)
        at = request.began_at or now
        tariff, version_id = policy.catalogue.current.tariff_for(payer, Service.VOICE, at)
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
            rate=tariff.rate_for(to_number, at, on_net=callee is not None),
            tariff_version_id=version_id,
            granted_seconds=self.admission.seconds_max(payer, policy.max_call_seconds),
            answered_early=request.answered_early,
            started_at=at,
            group_id=payer.group_id,
            dialled=_dialled_text(request, payer, to_number),
        )
        return call, self.book.accounts[call.account_id]

    def _reported_leg(self, policy: ChargingPolicy, request: Terminate, now: datetime) -> Call:
        """Return the leg that a report is of; where its talk would be free, a new open leg that takes the charge."""
        channel, asked = (request.server, request.uniqueid), request.unauthorized_request
        last = self.calls.last(*channel)
        if asked is not None:
            call = self.calls.authorized(*channel, asked.authorization) or self._find_same_talk(request)
        else:
            call = last if request.leg is None else self.calls.leg(*channel, request.leg)
        if call is None or last is None:
            if asked is None:
                raise _unknown(request)
            began_at, let_go = now, ""
            if request.witness is not Witness.CDR:
                let_go = "let go without an authorization: the ledger did not answer"
                asked_at = asked.previous.at_biller
                began_at = asked_at if now - _EARLIER_MAX < asked_at <= now else now
            admitted, _ = self._admit(policy, asked, began_at, leg=0 if last is None else last.leg + 1, late=True)
            if request.limit_seconds is not None:
                admitted = structs.replace(admitted, granted_seconds=request.limit_seconds)
            return self._add_late(admitted, let_go, now)
        call = self.calls.authorized(*channel, call.authorization) or call
        if not _was_closed_wrongly(call, request):
            return call
        unreported = structs.replace(
            call, answered_at=None, ended_at=None, talk_ms=None, cost=None, witness=None, outcome=""
        )
        late = structs.replace(unreported, leg=last.leg + 1, state=CallState.OPEN, trunk_cost=None)
        return self._add_late(late, f"answered, though it was {call.state} before; the charge is late", now)

    def _find_same_talk(self, request: Terminate) -> Call | None:
        """Return the leg that has the talk of this report already, where a CDR is the witness of one or the other."""
        ending = request.ending
        if not ending.answered:
            return None
        answered_at = ending.answered_at or ending.at - timedelta(milliseconds=ending.talk_ms or 0)
        for leg in self.calls.legs(request.server, request.uniqueid):
            by_cdr = Witness.CDR in (request.witness, leg.witness)
            if by_cdr and not is_weakly_closed(leg) and is_of_talk(leg, answered_at, ending.at):
                return leg
        return None

    def _add_late(self, call: Call, note: str, now: datetime) -> Call:
        """Add a leg that has no credit held for it: its talk has happened, and is charged."""
        call = structs.replace(call, note=note, bundles=())
        self.book.hold(call.reference, call.account_id, 0, now=now, expires_at=now + HOLD_MARGIN)
        return self.calls.add(call)

    def _grant(self, policy: ChargingPolicy, call: Call, request: Initiate, trunks: Sequence[TrunkDial]) -> CallGrant:
        payer = self.directory.find_payer(request.account_code, request.caller_number)
        if payer is None:
            raise UnknownSubscriber("the subscriber was deleted after the call was authorized")
        return CallGrant(
            call=call,
            subscriber=payer,
            callee=self.directory.find_callee(request.called_number),
            seconds=call.granted_seconds,
            expires_at=valid_until(policy, call, call.granted_seconds),
            trunks=tuple(trunks),
        )

    def _close(
        self,
        call: Call,
        witness: Witness,
        ending: CallReport,
        now: datetime,
        *,
        limit_seconds: int,
        expired: bool = False,
    ) -> Call:
        """Close an open call as its first witness reports: charge it if it was answered, else release its hold.

        No more than ``limit_seconds`` are charged: the limit with which the call was dialled.
        """
        reported_ms = talk_ms(call, ending)
        note = "; ".join(filter(None, (call.note, ending.note)))
        answered_at = ending.answered_at or call.answered_at or ending.at - timedelta(milliseconds=reported_ms)
        if ending.answered:
            pots = held_pots(self.book, call)
            bill = make_bill(call.rate, seconds_of(charged_ms(reported_ms, limit_seconds)), answered_at, pots)
            cost, hold = bill.balance_amount, self.book.holds[call.reference]
            if cost > hold.amount:
                note = "; ".join(filter(None, (note, f"{cost} for the talk, {hold.amount} were held")))
            self.book.settle(call.reference, cost, origin="call", now=now, note=note)
            for pot in pots:
                reference = share_reference(pot.account_id, call.reference)
                self.book.settle(reference, bill.takes.get(pot.account_id, 0), origin="call", now=now)
            state = CallState.SETTLED
        else:
            cost = 0
            end, state = (self.book.expire, CallState.EXPIRED) if expired else (self.book.release, CallState.RELEASED)
            for reference in call.hold_references:
                end(reference, now=now)
        self.admission.open.end(call)
        self._count_open(call, -1)
        trunk_cost = None
        if ending.answered and call.trunk_rate is not None:
            trunk_cost = price(call.trunk_rate, seconds_of(reported_ms), answered_at)
        closed = self.calls.change(
            call,
            state=state,
            answered_at=answered_at if ending.answered else None,
            ended_at=ending.at,
            talk_ms=reported_ms,
            cost=cost,
            witness=witness,
            outcome=ending.outcome,
            note=note,
            trunk_cost=trunk_cost,
        )
        self._record_report(closed, witness, ending, reported_ms, None, now)
        return closed

    def _record_report(
        self,
        call: Call,
        witness: Witness,
        ending: CallReport,
        reported_ms: int,
        difference_ms: int | None,
        now: datetime,
    ) -> None:
        self.calls.record_report(
            WitnessReport(
                reference=call.reference,
                witness=witness,
                at=now,
                answered=ending.answered,
                talk_ms=reported_ms,
                outcome=ending.outcome,
                difference_ms=difference_ms,
                discrepancy=difference_ms is not None and abs(difference_ms) > DISCREPANCY_MS,
                note=ending.note,
            )
        )


def check_suspension(allowed: Collection[str], payer: Subscriber, *numbers: str) -> None:
    """Raise `SubscriberSuspended` where who has not paid calls a number that begins with none of these prefixes.

    ``numbers`` are the forms of the number that is called.
    """
    if payer.suspended and all(match_length(number, allowed) < 0 for number in numbers):
        raise SubscriberSuspended(f"a fee of {payer.username} is unpaid: they may call chosen numbers only")


def _dialled_text(request: Initiate, payer: Subscriber, to_number: str) -> str | None:
    """Return what Asterisk sent, as the text of a call's row; ``None`` where the row has the same."""
    code, caller = request.account_code, request.caller_number
    if request.called_number == to_number and caller in ("", payer.clid) and code in ("", payer.username):
        return None
    return encode_dialled(code, caller, request.called_number)


def _unknown(request: CallAnswered | TakeTrunk | Terminate) -> UnknownCall:
    return UnknownCall(f"no call of {request.server} has the uniqueid {request.uniqueid}")


def _says_nothing(request: Initiate, call: Call) -> bool:
    return request.previous.outcome == "" and call.answered_at is not None


def _is_stale_dialstatus(call: Call, request: Terminate) -> bool:
    """Return whether the reducer reports a later Dial of the dialplan's own: each Dial resets DIALSTATUS.

    It reports no answer where AMI saw one; AMI's Hangup, which follows, then settles the call.
    """
    return request.witness is Witness.REDUCER and not request.ending.answered and call.answered_at is not None


_OF_THE_CHANNEL = (Witness.AGI, Witness.REDUCER)
"""The witnesses that report what the channel itself says."""


def _was_closed_wrongly(call: Call, request: Terminate) -> bool:
    """Return whether a call was closed without a charge on weak evidence, and its channel says that it talked.

    So a hold that expired because a clock jumped, or a call that the sweep missed, is no free call. A call that was let
    go without an authorization is charged too where its late grant was released.
    """
    if not request.ending.answered:
        return False
    if request.witness is Witness.CDR:
        return is_weakly_closed(call)
    if request.witness not in _OF_THE_CHANNEL:
        return False
    if call.state is CallState.EXPIRED:
        return True
    by_channel = call.witness in _OF_THE_CHANNEL and request.unauthorized_request is None
    return call.state is CallState.RELEASED and not by_channel
