"""The price of a use that is reported piece by piece, as octets are: each piece at the prices of its report's time.

Unlike talk, octets do not say when they were used. So those of one report are priced by the time of that report.
"""

from __future__ import annotations

from itertools import pairwise
from math import inf, lcm
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from celcombiller.core.model.tariffs import Prices, Step


def price_segments(segments: Iterable[tuple[Prices, int]]) -> int:
    """Return the credits for all units of these segments, one after the other, each with the prices of its time.

    An increment belongs to the segment and the step in which it begins, and counts whole. The fee, the minimum and the
    grace are those of the first segment. Nothing used costs nothing. The sum is rounded up once.
    """
    used = [(prices, units) for prices, units in segments if units > 0]
    total = sum(units for _, units in used)
    if not used or total <= used[0][0].grace:
        return 0
    first = used[0][0]
    common = lcm(*(step.per for prices, _ in used for step in prices.steps))
    place = until = cost = 0
    for prices, units in used:
        until += units
        for step, end in _spans(prices.steps):
            if place < min(until, end):
                increments = -(-(int(min(until, end)) - place) // step.increment)
                cost += increments * step.increment * step.price * (common // step.per)
                place += increments * step.increment
    return max(first.connect_fee - (-cost // common), first.minimum_charge)


def _spans(steps: Sequence[Step]) -> Iterable[tuple[Step, float]]:
    """Return each step with the unit at which the next one starts."""
    return [*((step, after.start) for step, after in pairwise(steps)), (steps[-1], inf)]
