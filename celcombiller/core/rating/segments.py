"""The price of a use that is reported piece by piece, as octets are: each piece at the prices of its report's time.

Unlike talk, octets do not say when they were used. So those of one report are priced by the time of that report.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from celcombiller.core.rating.pricing import add_share, step_through

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celcombiller.core.model.tariffs import Prices


def price_segments(segments: Iterable[tuple[Prices, int]]) -> int:
    """Return the credits for all units of these segments, one after the other, each with the prices of its time.

    An increment belongs to the segment and the step in which it begins, and counts whole. The fee, the minimum and the
    grace are those of the first segment. Nothing used costs nothing. The sum is rounded up once.
    """
    used = [(prices, units) for prices, units in segments if units > 0]
    ends = [*accumulate(units for _, units in used)]
    if not used or ends[-1] <= used[0][0].grace:
        return 0
    first = used[0][0]
    total, parts = first.connect_fee, 1
    for run in step_through((end, None, prices) for end, (prices, _) in zip(ends, used, strict=True)):
        total, parts = add_share(total, parts, (run.end - run.start) * run.step.price, run.step.per)
    return max(-(-total // parts), first.minimum_charge)
