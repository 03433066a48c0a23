"""Check of the sums by day: each is what the transfers of its day come to, up to the last that was counted."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from celcombiller.core.audit.difference import Difference
from celcombiller.core.ledger import day_sums

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from sqlalchemy.engine import Connection


def check_day_sums(tx: Connection) -> Iterator[Difference]:
    """Check that the sums of each day are those of its transfers."""
    name, last_id, sums = day_sums.read_sums(tx)
    zone = ZoneInfo(name or "UTC")
    day: date | None = None
    while last_id and (day := day_sums.find_next_day(tx, zone, day, last_id)) is not None:
        yield from _compare(day_sums.recount(tx, zone, day, last_id), sums.pop(day, {}))
    for left in sums.values():
        yield from _compare({}, left)


def _compare(
    expected: dict[day_sums.SumKey, day_sums.Total], found: dict[day_sums.SumKey, day_sums.Total]
) -> Iterator[Difference]:
    for key in sorted(expected.keys() | found.keys()):
        right, is_ = expected.get(key, (0, 0)), found.get(key, (0, 0))
        for place, what in enumerate(("transfers", "credits")):
            if right[place] != is_[place]:
                subject = f"{what} of {key[0]}, {key[1]}, {key[2]}, {key[3]}"
                yield Difference("sums of a day are its transfers", subject, right[place], is_[place])
