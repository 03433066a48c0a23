"""The rates of a file as they are read, each with the row that it stands in; none twice, and none beside another."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.tariffs import DAY_MINUTES
from celcombiller.core.rating.windows import check_windows, parse_window

if TYPE_CHECKING:
    from datetime import datetime

    from celcombiller.core.model.tariffs import Service
    from celcombiller.core.tariffs.files.findings import Findings
    from celcombiller.core.tariffs.rate_row import RateRow

ROWS_MAX = 2_000_000
"""Rates of one file; each takes about half a KiB of memory until all are written."""
WEEK_MINUTES = 7 * DAY_MINUTES
ROWS_OF_A_PREFIX_MAX = 50
"""Rates of one prefix: its windows and its times of validity. Each is compared with the others."""


class RateList:
    """The rates of one file. What contradicts another rate is a fault of the later row."""

    def __init__(self, findings: Findings) -> None:
        self.rows: list[RateRow] = []
        self.row_numbers: list[int] = []
        self._findings = findings
        self._places: dict[tuple[Service, str, bool], int | list[int]] = {}

    def add(self, rate: RateRow, row: int) -> None:
        """Add a rate; the same one again is left out."""
        key = (rate.service, rate.prefix, rate.on_net)
        known = self._places.get(key)
        if known is None:
            self._places[key] = len(self.rows)
        else:
            places = [known] if isinstance(known, int) else known
            if not self._fits(rate, row, places):
                return
            self._places[key] = [*places, len(self.rows)]
        if len(self.rows) >= ROWS_MAX:
            if len(self.rows) == ROWS_MAX:
                self._findings.add_fault(row, f"the file has more than {ROWS_MAX} rates")
            return
        self.rows.append(rate)
        self.row_numbers.append(row)

    def check_windows(self, *, may_cover_week: bool) -> None:
        """Record a fault for each prefix that has prices in windows only.

        ``may_cover_week``: where the windows cover the week, the prices of most of it become those without a window.
        Files of others have no holidays, so this changes no price.
        """
        dropped: set[int] = set()
        for (service, prefix, on_net), known in self._places.items():
            places = [known] if isinstance(known, int) else known
            if not all(self.rows[place].window for place in places):
                continue
            if may_cover_week and self._make_base(places, dropped):
                continue
            what = "the on-net rate" if on_net else f"{service}, {f'prefix {prefix}' if prefix else 'all numbers'}"
            self._findings.add_fault(
                self.row_numbers[places[0]], f"{what}: has prices in windows only; add a row without a window"
            )
        if dropped:
            kept = [place for place in range(len(self.rows)) if place not in dropped]
            self.rows = [self.rows[place] for place in kept]
            self.row_numbers = [self.row_numbers[place] for place in kept]

    def _make_base(self, places: list[int], dropped: set[int]) -> bool:
        """Take the window off the prices that most of a week has; return whether the windows cover the week."""
        minutes: dict[RateRow, int] = {}
        for place in places:
            prices = self.rows[place]._replace(window="")
            minutes[prices] = minutes.get(prices, 0) + _count_minutes(self.rows[place].window)
        if sum(minutes.values()) != WEEK_MINUTES or len({each[5:7] for each in minutes}) > 1:
            return False
        base = max(minutes, key=lambda each: minutes[each])
        for place in places:
            if self.rows[place]._replace(window="") == base:
                self.rows[place] = base
                dropped.add(place)
        dropped.discard(next(place for place in places if self.rows[place] is base))
        return True

    def _fits(self, rate: RateRow, row: int, places: list[int]) -> bool:
        """Return whether a rate is not one of its prefix again, and contradicts none."""
        what = (
            "the on-net rate" if rate.on_net else f"prefix {rate.prefix}" if rate.prefix else "the rate of all numbers"
        )
        if len(places) >= ROWS_OF_A_PREFIX_MAX:
            self._findings.add_fault(row, f"{what}: has more than {ROWS_OF_A_PREFIX_MAX} rates")
            return False
        for place in places:
            other, at = self.rows[place], self.row_numbers[place]
            if not _is_at_once(rate, other):
                continue
            if rate.window == other.window:
                if rate == other:
                    self._findings.add_remark(row, f"{what}: is the same as in row {at}; it was taken once")
                elif rate._replace(name="") == other._replace(name=""):
                    self._findings.add_fault(row, f"{what}: is in row {at} already, with another name")
                else:
                    self._findings.add_fault(row, f"{what}: is in row {at} already, with other prices")
                return False
            overlap = _find_overlap(rate.window, other.window)
            if overlap:
                self._findings.add_fault(row, f"{what}: {overlap} (row {at})")
                return False
        return True


@lru_cache(maxsize=4096)
def _find_overlap(one: str, other: str) -> str:
    """Return a sentence about the overlap of two windows; empty, if they have none. No window overlaps none."""
    if not one or not other:
        return ""
    try:
        check_windows([parse_window(one), parse_window(other)])
    except InvalidValue as error:
        return str(error)
    return ""


@lru_cache(maxsize=4096)
def _count_minutes(text: str) -> int:
    window = parse_window(text)
    return len(window.days) * ((window.end_minute - window.start_minute) % DAY_MINUTES or DAY_MINUTES)


def _is_at_once(one: RateRow, other: RateRow) -> bool:
    """Return whether there is a time at which both are valid."""
    return _begins_before_end(one.valid_from, other.valid_until) and _begins_before_end(
        other.valid_from, one.valid_until
    )


def _begins_before_end(begin: datetime | None, end: datetime | None) -> bool:
    return begin is None or end is None or begin < end
