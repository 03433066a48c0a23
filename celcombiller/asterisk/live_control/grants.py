"""When the grant of a live call is looked at again, and how much of it can be left to others. Pure.

Times are seconds of talk that are left of the grant, so they grow smaller; a negative one is talk beyond it.
"""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

from celcombiller.core.rating.pricing import affordable, price

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from celcombiller.core.model.tariffs import Rate

LEAD_SECONDS = 30.0
"""How many seconds before its end a grant is renewed. With short slices it is half of a slice."""

LAST_TRY_SECONDS = 1.5
"""How many seconds before its end a final grant is asked about for the last time."""

OVERRUN_SECONDS = 1.0
"""A call that is still alive this many seconds after the end of its grant has lost its limit."""

KEPT_SECONDS = 2
"""A call that leaves credit to others keeps at least this many seconds of talk."""


def lead_seconds(slice_seconds: int, warnings: Iterable[int] = ()) -> float:
    """Return how long before the end of a grant it is renewed: in time for the first warning, where there are any."""
    lead = max(LEAD_SECONDS, *(each + 5 for each in warnings), 0)
    return min(lead, slice_seconds / 2) if slice_seconds else lead


def next_look(left_seconds: float, lead: float, *, is_final: bool, warnings: Iterable[int] = ()) -> float:
    """Return in how many seconds a grant is looked at next, of which so many seconds are left.

    A grant that can grow is looked at ``lead`` seconds before its end; a final one at each of its ``warnings``. Both
    are before the last try, and once it is over.
    """
    marks = [LAST_TRY_SECONDS, -OVERRUN_SECONDS, *(warnings if is_final else (lead,))]
    return left_seconds - max((mark for mark in marks if mark < left_seconds), default=left_seconds - 1)


def due_warning(left_seconds: float, warnings: Iterable[int], played: int | None) -> int | None:
    """Return the warning to be played now, if one is; ``played`` was the last one."""
    due = [each for each in warnings if left_seconds <= each and (played is None or each < played)]
    return min(due) if due and left_seconds > min(due) - 1 else None


def shared_grant(rate: Rate, at: datetime, granted: int, used: float, sharers: int) -> int:
    """Return the seconds that one of so many calls keeps of its grant when one call more is to share.

    Each keeps the same part of what it has left. That part ends with an increment, as a call pays for whole increments.
    The answer is the whole ``granted`` where nothing can be left to others.
    """
    kept = floor(used) + KEPT_SECONDS
    part = max(kept, floor(used + (granted - used) * sharers / (sharers + 1)))
    if part >= granted:
        return granted
    whole = affordable(rate, price(rate, part, at), at, granted)
    if whole < granted:
        return whole
    fewer = affordable(rate, price(rate, part, at) - 1, at, granted)
    return fewer if fewer >= kept else granted
