"""What a new list of rates changes: which are new, changed, gone, and which look like a slip of the pen."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from celcombiller.core.tariffs.price_format import UNITS_OF_PRICE
from celcombiller.core.tariffs.rate_row import decode_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celcombiller.core.model.tariffs import Service
    from celcombiller.core.tariffs.rate_row import RateRow
    from celcombiller.core.tariffs.versions import VersionChanges

SHOWN_MAX = 1000
"""Rates of each kind of difference that are kept to be shown; all are counted."""

SUSPICIOUS_TIMES = 10


@dataclass(frozen=True, slots=True)
class RateChange:
    """A rate before and after; ``per_cent`` is of the cost of a minute, a message or a MiB, `None` from 0."""

    before: RateRow
    after: RateRow
    per_cent: int | None
    reason: str = ""


@dataclass(slots=True)
class Differences:
    """How many rates are new, changed, gone or the same, and the first of each kind.

    ``overlapping`` are new rates for part of another rate's numbers, with that rate. ``suspicious`` are changes of a
    price to ten times as much, to a tenth, or to nothing.
    """

    new: list[RateRow] = field(default_factory=list)
    changed: list[RateChange] = field(default_factory=list)
    gone: list[RateRow] = field(default_factory=list)
    overlapping: list[tuple[RateRow, RateRow]] = field(default_factory=list)
    suspicious: list[RateChange] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("new", "changed", "gone", "same", "overlapping", "suspicious"), 0)
    )

    def add(self, kind: str, item: Any) -> None:
        """Count a difference, and keep it if it is one of the first."""
        self.counts[kind] += 1
        kept: list[Any] = getattr(self, kind)
        if len(kept) < SHOWN_MAX:
            kept.append(item)


def find_differences(changes: VersionChanges, given: Sequence[RateRow]) -> Differences:
    """Return what a version changes, for people; ``given`` are the rates that it was made of."""
    found = Differences()
    for rate in changes.added:
        found.add("new", rate)
    for before, after in changes.changed:
        change = _compare(before, after)
        found.add("changed", change)
        if change.reason:
            found.add("suspicious", change)
    for rate in changes.removed:
        found.add("gone", rate)
    found.counts["same"] = len(given) - len(changes.added) - len(changes.changed)
    _find_overlapping(changes.added, given, found)
    return found


def _compare(before: RateRow, after: RateRow) -> RateChange:
    old, new = cost_of_use(before), cost_of_use(after)
    reason = ""
    if old and not new:
        reason = "is free now"
    elif old and new >= old * SUSPICIOUS_TIMES:
        reason = f"costs {_round(new / old)} times as much"
    elif new and old >= new * SUSPICIOUS_TIMES:
        reason = f"costs 1/{_round(old / new)} of what it did"
    return RateChange(before, after, _round((new - old) * 100 / old) if old else None if new else 0, reason)


def _round(value: Fraction) -> int:
    return int(value + Fraction(1, 2)) if value >= 0 else -int(Fraction(1, 2) - value)


def cost_of_use(rate: RateRow) -> Fraction:
    """Return what a minute, a message or a MiB costs exactly, with the fee of its beginning."""
    units, steps, cost, at = UNITS_OF_PRICE[rate.service], decode_steps(rate.steps), Fraction(0), 0
    for step, end in zip(steps, [*(each.start for each in steps[1:]), units], strict=True):
        if at >= units:
            break
        used = -(-(min(max(end, at), units) - at) // step.increment) * step.increment
        cost += Fraction(used * step.price, step.per)
        at += used
    return max(rate.connect_fee + cost, Fraction(rate.minimum_charge)) if units > rate.grace else Fraction(0)


def _find_overlapping(new_rates: list[RateRow], after: Sequence[RateRow], found: Differences) -> None:
    """Add the new rates for part of the numbers of another destination, with the rate that those had before."""
    by_prefix = {(each.service, each.prefix): each for each in after if not each.on_net}
    seen: set[tuple[Service, str]] = set()
    for rate in new_rates:
        if rate.on_net or (rate.service, rate.prefix) in seen:
            continue
        seen.add((rate.service, rate.prefix))
        for length in range(len(rate.prefix) - 1, 0, -1):
            wider = by_prefix.get((rate.service, rate.prefix[:length]))
            if wider is not None:
                if wider.name != rate.name:
                    found.add("overlapping", (rate, wider))
                break
