"""Charging of calls: initiate, answer, terminate (RFC 8506), on what a batch has loaded.

Pure: values in, values out. It stands here and not in `celcombiller.core.voice`, because it needs the subscribers and
the requests, which are above that package.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from celcombiller.core.bundles.choice import choose_pots
from celcombiller.core.errors import (
    BadNumber,
    InsufficientBalance,
    SubscriberDisabled,
    UnknownCall,
    UnknownSubscriber,
)
from celcombiller.core.model.accounts import Account, Kind
from celcombiller.core.model.calls import (
    Call,
    CallGrant,
    CallReport,
    CallState,
    Settlement,
    Witness,
    share_reference,
)
from celcombiller.core.model.tariffs import Service
from celcombiller.core.rating.bill import Pot, make_bill, make_grant
from celcombiller.core.rating.numbering import normalise
from celcombiller.core.rating.pricing import charged_ms, price, seconds_of
from celcombiller.core.subscribers.number_forms import NUMBER, plain_number
from celcombiller.core.voice.evidence import DISCREPANCY_MS, WitnessReport, talk_ms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from celcombiller.core.bundles.pots import BundlePot
    from celcombiller.core.charging.admission import CallAdmission
    from celcombiller.core.charging.requests import CallAnswered, ChargingPolicy, Initiate, TakeTrunk, Terminate
    from celcombiller.core.ledger.book import Book
    from celcombiller.core.model.routing import TrunkDial
    from celcombiller.core.subscribers.directory import Directory
    from celcombiller.core.voice.call_records import CallRecords


HOLD_MARGIN = timedelta(minutes=10)
"""How long a hold stays open after the last moment its call can be alive, so that a late witness still finds it."""


@dataclass(slots=True)
class VoiceCharging:
    """The charging of calls, on what one batch has loaded."""

    directory: Directory
    book: Book
    calls: CallRecords
    admission: CallAdmission
    pots: Mapping[int, Sequence[BundlePot]] = field(default_factory=dict)
    """The bundles of each subscriber that pays for something new, in the order in which they are spent."""

    def initiate(self, policy: ChargingPolicy, request: Initiate, now: datetime) -> CallGrant:
        """Authorize a call and hold what its grant costs; the same request again gets the same grant.

        Raises `UnknownSubscriber`, `SubscriberDisabled`, `BadNumber`, `Barred`, `TooManyCalls`, `GroupFull`, `NoTrunk`,
        `NoRate`, `TooExpensive` and `InsufficientBalance`, and `UnknownCall` when the call of this authorization was
        let go without an answer, and is over.
        """
        last = self.calls.last(request.server, request.uniqueid)
        if last is not None and last.state is CallState.OPEN:
            if last.authorization == request.authorization:
                return self._grant(policy, last, request, self.admission.list_trunks_again(last))
            # A channel runs one application at a time: a new request proves that its last Dial is over.
            self._close(last, Witness.AGI, request.previous, now, limit_seconds=last.granted_seconds)
        if self.calls.authorized(request.server, request.uniqueid, request.authorization) is not None:
            raise UnknownCall("the call of this authorization is over")
        call, account, pots = self.rate_call(policy, request, now, leg=0 if last is None else last.leg + 1)
        trunks = self.admission.route(call)
        available = self.admission.spendable(call, account.spendable)
        seconds, bill = make_grant(call.rate, pots, available, now, call.granted_seconds, policy.ring_seconds)
        if seconds == 0:
            self.admission.check_cost(call, account.spendable, available)
            raise InsufficientBalance(f"{max(account.spendable, 0)} available")
        if seconds != call.granted_seconds or bill.takes or trunks:
            trunk_id, trunk_rate = self.admission.find_first(call, trunks)
            call = replace(
                call,
                granted_seconds=seconds,
                bundles=tuple(pot.account_id for pot in pots if pot.account_id in bill.takes),
                trunk_id=trunk_id,
                trunk_rate=trunk_rate,
            )
        self.calls.add(call)
        self.admission.open.begin(call)
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
        taken = self.calls.change(call, trunk_id=trunk.id, trunk_rate=rate, trunks_tried=tried)
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
            limit_seconds = call.granted_seconds
            if request.unauthorized_request is not None:  # it was dialled with the limit of the policy
                limit_seconds = max(limit_seconds, policy.max_call_seconds)
            closed = self._close(
                call, request.witness, request.ending, now, limit_seconds=limit_seconds, expired=request.expired
            )
            return Settlement(closed, first=True, trunk=self.admission.trunk_name(closed))
        difference_ms = reported_ms - (call.talk_ms or 0)
        self._record_report(call, request.witness, request.ending, reported_ms, difference_ms, now)
        return Settlement(call, first=False, difference_ms=difference_ms)

    def _admit(
        self, policy: ChargingPolicy, request: Initiate, now: datetime, *, leg: int, late: bool = False
    ) -> tuple[Call, Account]:
        """Decide who pays, which number is called and at what rate, for the longest call that the policy allows.

        ``late``: the call has happened, so a subscriber who is disabled pays for it all the same.
        """
        payer = self.directory.find_payer(request.account_code, request.caller_number)
        if payer is None:
            raise UnknownSubscriber("neither the account code nor the caller's number is a subscriber's")
        if not (payer.enabled or late):
            raise SubscriberDisabled(payer.username)
        number = normalise(policy.numbering, plain_number(request.called_number))
        if not NUMBER.fullmatch(number):
            raise BadNumber("a number is made of digits, * and #")
        callee = self.directory.find_callee(request.called_number)
        if callee is None and not (policy.external or self.admission.has_route(number)):
            raise BadNumber("nobody here has this number, and there is no way to others (a route, calls.external_dial)")
        to_number = number if callee is None else callee.clid
        if not late:
            self.admission.check(payer, to_number)
        tariff, version_id = policy.catalogue.current.tariff_for(payer, Service.VOICE, now)
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
            rate=tariff.rate_for(to_number, now, on_net=callee is not None),
            tariff_version_id=version_id,
            granted_seconds=self.admission.seconds_max(payer, policy.max_call_seconds),
            answered_early=request.answered_early,
            started_at=now,
            group_id=payer.group_id,
        )
        return call, self.book.accounts[call.account_id]

    def _reported_leg(self, policy: ChargingPolicy, request: Terminate, now: datetime) -> Call:
        """Return the leg that a report is of; where its talk would be free, a new open leg that takes the charge."""
        channel, asked = (request.server, request.uniqueid), request.unauthorized_request
        last = self.calls.last(*channel)
        if asked is not None:
            call = self.calls.authorized(*channel, asked.authorization)
        else:
            call = last if request.leg is None else self.calls.leg(*channel, request.leg)
        if call is None or last is None:
            if asked is None:
                raise _unknown(request)
            admitted, _ = self._admit(policy, asked, now, leg=0 if last is None else last.leg + 1, late=True)
            return self._add_late(admitted, "let go without an authorization: the ledger did not answer", now)
        call = self.calls.authorized(*channel, call.authorization) or call
        if not _was_closed_wrongly(call, request):
            return call
        unreported = replace(call, answered_at=None, ended_at=None, talk_ms=None, cost=None, witness=None, outcome="")
        late = replace(unreported, leg=last.leg + 1, state=CallState.OPEN, trunk_cost=None)
        return self._add_late(late, f"answered, though it was {call.state} before; the charge is late", now)

    def _add_late(self, call: Call, note: str, now: datetime) -> Call:
        """Add a leg that has no credit held for it: its talk has happened, and is charged."""
        call = replace(call, note=note, bundles=())
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
            expires_at=call.started_at + timedelta(seconds=policy.ring_seconds + call.granted_seconds) + HOLD_MARGIN,
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
            pots = [
                Pot(account_id, self.book.accounts[account_id].kind, self.book.holds[reference].amount)
                for account_id, reference in zip(call.bundles, call.hold_references[1:], strict=True)
            ]
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


def _unknown(request: CallAnswered | TakeTrunk | Terminate) -> UnknownCall:
    return UnknownCall(f"no call of {request.server} has the uniqueid {request.uniqueid}")


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
    if not request.ending.answered or request.witness not in _OF_THE_CHANNEL:
        return False
    if call.state is CallState.EXPIRED:
        return True
    by_channel = call.witness in _OF_THE_CHANNEL and request.unauthorized_request is None
    return call.state is CallState.RELEASED and not by_channel
