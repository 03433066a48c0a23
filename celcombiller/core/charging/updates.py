"""Updates of open calls (RFC 8506): their grants are renewed slice by slice, and shortened. Pure, as `voice` is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import structs

from celcombiller.core.bundles.choice import choose_pots
from celcombiller.core.charging.slices import held_pots, make_slice, valid_until
from celcombiller.core.charging.voice import check_suspension
from celcombiller.core.errors import Barred, SubscriberSuspended, UnknownCall
from celcombiller.core.model.calls import CallEnd, CallRenewal, CallState, CallUpdate, share_reference
from celcombiller.core.model.tariffs import Service
from celcombiller.core.subscribers.number_forms import plain_number
from celcombiller.core.voice.dialled_numbers import decode_dialled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from celcombiller.core.bundles.pots import BundlePot
    from celcombiller.core.charging.admission import CallAdmission
    from celcombiller.core.charging.requests import ChargingPolicy, Update
    from celcombiller.core.ledger.book import Book
    from celcombiller.core.model.calls import Call, RenewalReason
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.rating.bill import Bill
    from celcombiller.core.voice.call_records import CallRecords


@dataclass(slots=True)
class CallUpdates:
    """The updates of open calls, on what one batch has loaded."""

    book: Book
    calls: CallRecords
    admission: CallAdmission
    pots: Mapping[int, Sequence[BundlePot]]
    """The bundles of each subscriber, in the order in which they are spent."""
    payers: Mapping[int, Subscriber]
    """The subscribers of the calls to be updated, by their ids; who was deleted is not there."""
    open_calls: Mapping[int, int]
    """How many open calls each of them has."""

    def update(self, policy: ChargingPolicy, request: Update, now: datetime) -> CallUpdate:
        """Renew the grant of an open call, or limit it; nothing changes where it is not the one that the sender knows.

        Raises `UnknownCall`.
        """
        call = self.calls.leg(request.server, request.uniqueid, request.leg)
        if call is None:
            raise UnknownCall(f"no call of {request.server} has the uniqueid {request.uniqueid}")
        if call.state is not CallState.OPEN:
            return CallUpdate(call, is_final=True)
        if call.answered_at is None and request.answered_at is not None:
            call = self.calls.change(call, answered_at=request.answered_at)
        payer = self.payers.get(call.subscriber_id)
        end = self._find_end(policy, payer, call)
        if payer is None or end is not None:
            return CallUpdate(call, is_final=True, end=end)
        if call.granted_seconds != request.granted_seconds:
            return CallUpdate(call)
        if request.at_most is not None:
            return self._shorten(policy, call, request, now)
        most = self.admission.seconds_max(payer, policy.max_call_seconds)
        return self._lengthen(policy, call, request, most, now)

    def _lengthen(self, policy: ChargingPolicy, call: Call, request: Update, most: int, now: datetime) -> CallUpdate:
        """Grant an open call its next slice, ``most`` seconds in all."""
        if call.granted_seconds > most:
            return CallUpdate(call, is_final=True, at_most=max(most, request.used_seconds))
        wanted = min(most, request.used_seconds + request.slice_seconds)
        if wanted <= call.granted_seconds:
            return CallUpdate(call, is_final=call.granted_seconds == most)
        seconds, bill = self._make_slice(policy, call, wanted, now)
        if seconds <= call.granted_seconds:
            return CallUpdate(call, is_final=True)
        renewed = self._renew(policy, call, seconds, bill, request.reason, now)
        return CallUpdate(renewed, is_final=seconds < wanted or seconds == most)

    def _shorten(self, policy: ChargingPolicy, call: Call, request: Update, now: datetime) -> CallUpdate:
        """Take back what an open call does not need for ``at_most`` seconds; its channel has that limit already."""
        wanted = max(request.at_most or 0, request.used_seconds, 1)
        if wanted >= call.granted_seconds:
            return CallUpdate(call)
        seconds, bill = self._make_slice(policy, call, wanted, now)
        if seconds < wanted:  # what it holds pays for them all
            return CallUpdate(call)
        return CallUpdate(self._renew(policy, call, seconds, bill, request.reason, now))

    def _find_end(self, policy: ChargingPolicy, payer: Subscriber | None, call: Call) -> CallEnd | None:
        """Return why an open call may not go on; ``None``: it may."""
        if payer is None:
            return CallEnd.DELETED
        if not payer.enabled:
            return CallEnd.DISABLED
        dialled = () if call.dialled is None else (plain_number(decode_dialled(call.dialled).called_number),)
        try:
            check_suspension(policy.suspended_allowed, payer, call.to_number, *dialled)
            self.admission.check_prefixes(payer, call.to_number)
        except SubscriberSuspended:
            return CallEnd.SUSPENDED
        except Barred:
            return CallEnd.BARRED
        return None

    def _make_slice(self, policy: ChargingPolicy, call: Call, wanted: int, now: datetime) -> tuple[int, Bill]:
        """Return the seconds that an open call is granted, of those ``wanted``, and who has to pay how much for all."""
        account, hold = self.book.accounts[call.account_id], self.book.holds[call.reference]
        good = choose_pots(
            self.pots,
            call.subscriber_id,
            self.book,
            Service.VOICE,
            call.to_number,
            on_net=call.callee_id is not None,
            at=now,
        )
        left = {pot.account_id: pot.amount for pot in good}
        most = {each.account_id: each.most_of_one_use for each in self.pots.get(call.subscriber_id, ())}
        pots = [
            structs.replace(pot, amount=most.get(pot.account_id, int)(pot.amount + left.pop(pot.account_id, 0)))
            for pot in held_pots(self.book, call)
        ]
        pots += [pot for pot in good if pot.account_id in left]
        answered_at = call.answered_at
        return make_slice(
            call.rate,
            pots,
            answered_at or call.started_at,
            wanted,
            policy.ring_seconds if answered_at is None else 0,
            spendable=account.spendable,
            held=hold.amount,
            cost_max=self.admission.cost_max(call),
            sharers=max(1, self.open_calls.get(call.subscriber_id, 1)),
            granted=call.granted_seconds,
        )

    def _renew(
        self, policy: ChargingPolicy, call: Call, seconds: int, bill: Bill, reason: RenewalReason, now: datetime
    ) -> Call:
        """Hold what another grant of an open call costs."""
        expires_at = valid_until(policy, call, seconds)
        held_before = self.book.holds[call.reference].amount
        self.book.resize(call.reference, bill.balance_amount, expires_at=expires_at)
        for account_id in call.bundles:
            reference = share_reference(account_id, call.reference)
            self.book.resize(reference, bill.takes.get(account_id, 0), expires_at=expires_at)
        added = tuple(account_id for account_id in bill.takes if account_id not in call.bundles)
        for account_id in added:
            reference = share_reference(account_id, call.reference)
            self.book.hold(reference, account_id, bill.takes[account_id], now=now, expires_at=expires_at)
        renewal = CallRenewal(
            call.reference, now, reason, call.granted_seconds, seconds, held_before, bill.balance_amount
        )
        return self.calls.renew(call, renewal, bundles=call.bundles + added)
