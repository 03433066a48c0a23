"""Calls without the ledger: which of them may go, for how long, and what they may cost until it is back.

Pure: values in, values out. What is known here is what the biller remembers of its subscribers; rules, one for each
class of numbers, decide on the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from celcombiller.core.charging.admission import CallAdmission
from celcombiller.core.charging.voice import check_suspension
from celcombiller.core.errors import (
    InsufficientBalance,
    NoRate,
    StoreUnavailable,
    SubscriberDisabled,
    TooManyCalls,
    UnknownSubscriber,
)
from celcombiller.core.model.subscribers import Level, Subscriber
from celcombiller.core.model.tariffs import Service
from celcombiller.core.rating.bill import make_grant
from celcombiller.core.rating.numbering import normalise
from celcombiller.core.rating.pricing import affordable, price
from celcombiller.core.routing.open_calls import OpenCalls
from celcombiller.core.subscribers.number_forms import plain_number

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from celcombiller.core.catalogue.catalogue import Catalogue
    from celcombiller.core.charging.requests import Initiate
    from celcombiller.core.model.calls import Call
    from celcombiller.core.model.tariffs import Rate
    from celcombiller.core.rating.numbering import NumberingPlan
    from celcombiller.core.subscribers.known_subscribers import KnownSubscribers

ON_NET = "on-net"
"""The class of the numbers of subscribers whom the biller knows."""

_UNLIMITED = 10**15
"""More credits than any call costs: where there is no limit."""

_STRANGER = Subscriber(0, "", "", "", "", None, "", Level.SUBSCRIBER, enabled=True)
"""Stands for a caller of whom nothing is known: they pay by the tariff of those who have none of their own."""


@dataclass(frozen=True, slots=True)
class OutageRule:
    """What happens to calls to one class of numbers while the ledger cannot decide.

    ``None`` is no limit. ``unknown_callers``: whether callers of whom nothing is known may call, too.
    ``live_seconds_max``: how much longer a call in progress may go on that cannot be renewed.
    """

    prefix: str = ""
    allow: bool = False
    unknown_callers: bool = True
    call_seconds_max: int | None = None
    calls_max: int | None = None
    credits_max: int | None = None
    total_credits_max: int | None = None
    live_seconds_max: int = 0

    @property
    def is_bounded(self) -> bool:
        """Return whether it limits exposure; the one that stands for ``calls.on_failure`` does not."""
        return self.credits_max is not None


@dataclass(frozen=True, slots=True)
class OutageRules:
    """The rules of all classes. ``default`` is for numbers that have none."""

    default: OutageRule = OutageRule()
    rules: tuple[OutageRule, ...] = ()

    @property
    def may_allow(self) -> bool:
        """Return whether any call may go without the ledger, or go on without it."""
        return any(each.allow or each.live_seconds_max for each in (self.default, *self.rules))

    def find(self, number: str, *, on_net: bool) -> OutageRule:
        """Return the rule of a number: that of on-net numbers, else of the longest prefix, with or without ``+``."""
        digits, found = number.removeprefix("+"), None
        for each in self.rules:
            prefix = each.prefix.removeprefix("+")
            if each.prefix == ON_NET:
                if on_net:
                    return each
            elif digits.startswith(prefix) and (found is None or len(prefix) > len(found.prefix.removeprefix("+"))):
                found = each
        return found or self.default


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a call that went without the ledger may cost a caller, or cost them; ``is_open``: it may still talk."""

    caller: str
    credits: int
    is_open: bool


@dataclass(frozen=True, slots=True)
class LedgerlessWish:
    """A call that may go without the ledger, as far as its caller's exposure allows.

    ``caller`` names who is exposed. ``balance`` is what was last known to be available to them, and ``rate`` what the
    call costs; ``None``: not known.
    """

    caller: str
    callee: Subscriber | None
    rule: OutageRule
    seconds_max: int
    rate: Rate | None
    balance: int | None
    at: datetime
    ring_seconds: int


@dataclass(frozen=True, slots=True)
class LedgerlessGrant:
    """A call that goes without the ledger for ``seconds`` of talk, which cost at most ``credits``."""

    seconds: int
    credits: int


def make_wish(
    request: Initiate,
    known: KnownSubscribers,
    catalogue: Catalogue,
    rules: OutageRules,
    numbering: NumberingPlan,
    *,
    max_call_seconds: int,
    ring_seconds: int,
    suspended_allowed: tuple[str, ...] = (),
    now: datetime,
) -> LedgerlessWish:
    """Return the wish for a call that the ledger cannot authorize, by what is known of its caller and its callee.

    Raises `StoreUnavailable` where the rule of the number denies it, `UnknownSubscriber`, `SubscriberDisabled`,
    `SubscriberSuspended`, `Barred`, and where exposure is limited `NoRate`.
    """
    payer = known.directory.find_payer(request.account_code, request.caller_number)
    callee = known.directory.find_callee(request.called_number)
    number = normalise(numbering, plain_number(request.called_number)) if callee is None else callee.clid
    rule = rules.find(number, on_net=callee is not None)
    if not rule.allow:
        raise StoreUnavailable(f"calls to {rule.prefix or 'this number'} are denied without the ledger")
    if payer is None and not rule.unknown_callers:
        raise UnknownSubscriber("the caller is not among the subscribers that the biller knows without the ledger")
    seconds_max = min(rule.call_seconds_max or max_call_seconds, max_call_seconds)
    balance = None
    if payer is not None:
        check_suspension(suspended_allowed, payer, plain_number(request.called_number), number)
        check_known(payer, number, catalogue)
        admission = CallAdmission(catalogue)
        seconds_max = admission.seconds_max(payer, seconds_max)
        group = admission.group_of(payer)
        balance = known.available(payer)
        if balance is not None and group is not None and group.call_cost_max is not None:
            balance = min(balance, group.call_cost_max)
    rate = None
    try:
        tariff, _ = catalogue.tariff_for(payer or _STRANGER, Service.VOICE, now)
        rate = tariff.rate_for(number, now, on_net=callee is not None)
    except NoRate:
        if rule.is_bounded:
            raise
    caller = name_caller(request, payer)
    return LedgerlessWish(caller, callee, rule, seconds_max, rate, balance, now, ring_seconds)


def check_known(payer: Subscriber, number: str, catalogue: Catalogue) -> None:
    """Raise `SubscriberDisabled` or `Barred` where a known subscriber may not call a number, ledger or not."""
    if not payer.enabled:
        raise SubscriberDisabled(payer.username)
    groups = {} if payer.group_id is None else {payer.group_id: 0}
    CallAdmission(catalogue, OpenCalls({payer.id: 0}, groups)).check(payer, number)


def name_caller(request: Initiate, payer: Subscriber | None) -> str:
    """Return the name under which the exposure of a caller is counted."""
    if payer is not None:
        return name_subscriber(payer.id)
    return f"unknown {plain_number(request.account_code or request.caller_number)}"


def grant_without_ledger(wish: LedgerlessWish, exposures: Iterable[Exposure]) -> LedgerlessGrant:
    """Return for how long a call may go, beside what is exposed already.

    Raises `TooManyCalls`, `InsufficientBalance` where the balance that is known would not pay for it, and
    `StoreUnavailable` where the exposure has reached its limit.
    """
    rule, calls, own, total = wish.rule, 0, 0, 0
    for each in exposures:
        total += each.credits
        if each.caller == wish.caller:
            own += each.credits
            calls += each.is_open
    if rule.calls_max is not None and calls >= rule.calls_max:
        raise TooManyCalls(f"{rule.calls_max} calls at once without the ledger")
    if not rule.is_bounded or wish.rate is None:
        cost = 0 if wish.rate is None else price(wish.rate, wish.seconds_max, wish.at)
        return LedgerlessGrant(wish.seconds_max, cost)
    limits = [_UNLIMITED if each is None else each for each in (rule.credits_max, rule.total_credits_max)]
    left = max(0, min(limits[0] - own, limits[1] - total))
    balance = left if wish.balance is None else max(0, wish.balance - own)
    seconds, bill = make_grant(wish.rate, (), min(left, balance), wish.at, wish.seconds_max, wish.ring_seconds)
    if seconds:
        return LedgerlessGrant(seconds, bill.balance_amount)
    if balance < left:
        raise InsufficientBalance(f"{balance} were available when the ledger was last heard")
    raise StoreUnavailable(f"{own} credits of the caller and {total} of all are exposed without the ledger")


def extend_without_ledger(
    call: Call, rule: OutageRule, balance: int | None, exposures: Iterable[Exposure], at: datetime
) -> LedgerlessGrant | None:
    """Return to how many seconds since its answer a call in progress may go on whose grant cannot be renewed.

    ``balance`` is what was last known to be available beside what the call holds. ``None``: it ends with its grant.
    """
    own = total = 0
    for each in exposures:
        total += each.credits
        own += each.credits if each.caller == name_subscriber(call.subscriber_id) else 0
    limits = [_UNLIMITED if each is None else each for each in (rule.credits_max, rule.total_credits_max)]
    left = min(limits[0] - own, limits[1] - total, _UNLIMITED if balance is None else balance - own)
    held = price(call.rate, call.granted_seconds, at)
    most = call.granted_seconds + rule.live_seconds_max
    seconds = affordable(call.rate, held + max(0, left), at, most)
    if seconds <= call.granted_seconds:
        return None
    return LedgerlessGrant(seconds, price(call.rate, seconds, at) - held)


def name_subscriber(subscriber_id: int) -> str:
    """Return the name under which the exposure of a subscriber is counted."""
    return f"subscriber {subscriber_id}"
