"""Who pays for a use: bundles first, in their order, then credit.

A bundle of seconds, messages or octets pays whole increments, from the first one on. A bundle that cannot pay the next
increment whole is passed over for the rest of the use; the next one goes on, and at last credit. Increments that cost
nothing are taken from no bundle. The connect fee and the minimum are charged where credit pays the first increment.
A bundle of money pays what is left to credit, before the balance does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from celcombiller.core.model.accounts import AccountKind, BundleKind
from celcombiller.core.rating.pricing import (
    Piece,
    Run,
    add_share,
    affordable,
    count_units,
    is_in_grace,
    list_dearest_moments,
    list_pieces,
    list_runs,
    make_pieces,
    price,
    prices_at,
    rate_throughout,
    window_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from celcombiller.core.model.tariffs import Rate


class Pot(msgspec.Struct, frozen=True):
    """What is left of a bundle: an amount on its account, in units or, of `BundleKind.MONEY`, in credits."""

    account_id: int
    kind: AccountKind
    amount: int


class Bill(msgspec.Struct, frozen=True):
    """What each pays for a use: the credits of the balance, and the amount of each bundle by account."""

    balance_amount: int
    takes: Mapping[int, int] = {}


def make_bill(rate: Rate, used: int, at: datetime, pots: Sequence[Pot] = ()) -> Bill:
    """Return who pays for ``used`` units of a use that began ``at`` this time; without pots the balance pays all."""
    if not pots:
        return Bill(price(rate, used, at))
    rate = rate_throughout(rate, at, used)
    prices = prices_at(rate, at)
    if is_in_grace(prices, used):
        return Bill(0)
    whole = _bill_one_pot(rate, max(used, 1), pots)
    if whole is not None:
        return whole
    takes: dict[int, int] = {}
    total, parts, least = 0, 1, 0
    for run, pot in assign_runs(rate, max(used, 1), at, pots):
        if pot is not None:
            takes[pot.account_id] = takes.get(pot.account_id, 0) + run.end - run.start
            continue
        if run.start == 0:
            total, least = prices.connect_fee * parts, prices.minimum_charge
        total, parts = add_share(total, parts, (run.end - run.start) * run.step.price, run.step.per)
    left = max(-(-total // parts), least)
    for pot in pots:
        if pot.kind is BundleKind.MONEY and left and pot.amount > 0:
            takes[pot.account_id] = min(left, pot.amount)
            left -= takes[pot.account_id]
    return Bill(left, takes)


def list_bill_pieces(rate: Rate, used: int, at: datetime, pots: Sequence[Pot]) -> tuple[Piece, ...]:
    """Return the pieces of a bill in the order of the use, each with the bundle that pays for it in units, if one does.

    Their credits sum to what bundles of money and the balance pay.
    """
    prices = prices_at(rate, at)
    if is_in_grace(prices, used):
        return list_pieces(rate, used, at)
    runs = [(run, None if pot is None else pot.account_id) for run, pot in assign_runs(rate, max(used, 1), at, pots)]
    by_credit = runs[0][1] is None
    fee, minimum = (prices.connect_fee, prices.minimum_charge) if by_credit else (0, 0)
    return make_pieces(runs, at, window_at(rate, at), fee, minimum)


def affordable_with(rate: Rate, pots: Sequence[Pot], available: int, at: datetime, most: int) -> int:
    """Return the units that bundles and ``available`` credits pay for, at most ``most``; 0: not even the least use."""
    if not pots:
        return affordable(rate, max(available, 0), at, most)
    credit = max(available, 0) + sum(max(pot.amount, 0) for pot in pots if pot.kind is BundleKind.MONEY)
    if all(pot.kind is BundleKind.MONEY for pot in pots):
        return affordable(rate, credit, at, most)
    prices = prices_at(rate, at)
    least = prices.grace + 1
    is_checked = False  # where bundles pay the least use, credit need not
    total, parts, used = 0, 1, 0
    for run, pot in assign_runs(rate, max(most, least), at, pots):
        if pot is None and not is_checked:
            if make_bill(rate, least, at, pots).balance_amount > max(available, 0):
                return 0
            is_checked = True
        if pot is None and run.start == 0:
            total = prices.connect_fee * parts
        share = 0 if pot is not None else run.step.increment * run.step.price
        if share:
            total, parts = add_share(total, parts, 0, run.step.per)
            share *= parts // run.step.per
            count = (credit * parts - total) // share
            if count < run.increments:
                return min(run.start + count * run.step.increment, most)
            total += run.increments * share
        used = run.end
    return min(used, most)


def make_grant(
    rate: Rate, pots: Sequence[Pot], available: int, at: datetime, most: int, wait_seconds: int
) -> tuple[int, Bill]:
    """Return the units that can be granted to a use, at most ``most``, and who has to pay how much for them.

    The use begins ``at`` this time or up to ``wait_seconds`` later, as a call that rings: the units and the bill are
    good for any moment of that time.
    """
    steady = rate_throughout(rate, at, wait_seconds + most)
    if not steady.windows and steady.prices.grace < most:
        whole = _bill_one_pot(steady, most, pots)
        if whole is not None:
            return most, whole
        units = affordable_with(steady, pots, available, at, most)
        return units, make_bill(steady, units, at, pots)
    moments = list_dearest_moments(rate, at, wait_seconds, most)
    units = min(affordable_with(rate, pots, available, moment, most) for moment in moments)
    bills = [make_bill(rate, units, moment, pots) for moment in moments]
    takes = {
        account_id: max(bill.takes.get(account_id, 0) for bill in bills) for bill in bills for account_id in bill.takes
    }
    return units, Bill(max(bill.balance_amount for bill in bills), takes)


def _bill_one_pot(rate: Rate, units: int, pots: Sequence[Pot]) -> Bill | None:
    """Return the bill of a use that one bundle pays whole, at one window's prices; None: no bundle does.

    It is what the runs of `assign_runs` come to where the first bundle is large enough, as it is for most uses.
    """
    if rate.windows:
        return None
    for step in rate.prices.steps:
        if not step.price:
            return None
    for pot in pots:
        if pot.kind is not BundleKind.MONEY:
            counted = count_units(rate.prices, units)
            return Bill(0, {pot.account_id: counted}) if counted <= pot.amount else None
    return None


def assign_runs(rate: Rate, units: int, at: datetime, pots: Sequence[Pot]) -> Iterator[tuple[Run, Pot | None]]:
    """Yield the increments of the first ``units``, in runs, each with the pot that pays for it; ``None``: credit."""
    waiting = [pot for pot in reversed(pots) if pot.kind is not BundleKind.MONEY]
    for whole in list_runs(rate, at, units):
        run = whole
        while waiting and run.step.price:
            pot = waiting[-1]
            count = max(pot.amount, 0) // run.step.increment
            if count >= run.increments:
                yield run, pot
                waiting[-1] = Pot(pot.account_id, pot.kind, pot.amount - (run.end - run.start))
                break
            if count:
                part = Run(run.start, count, run.step, run.window)
                yield part, pot
                run = Run(part.end, run.increments - count, run.step, run.window)
            waiting.pop()
        else:
            yield run, None
