"""Rows of a price list to the values that price a use. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from celcombiller.core.model.tariffs import Calendar, Prices, Rate, Window
from celcombiller.core.rating.windows import parse_window
from celcombiller.core.tariffs.rate_row import decode_steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from celcombiller.core.tariffs.rate_row import RateRow

VALUES_KNOWN = 65_536
"""Prices and windows that are remembered: most rates of a price list share theirs with others."""


class ValidRate(NamedTuple):
    """A rate and when it is valid; ``None``: since ever, and for ever."""

    valid_from: datetime | None
    valid_until: datetime | None
    rate: Rate


def rates_from_rows(rows: Sequence[RateRow], calendar: Calendar) -> Iterator[ValidRate]:
    """Yield the rates of the rows of one destination, one for each time of validity.

    A row with a window belongs to the rates that are valid when it is; where only rows with windows are valid, there is
    no rate.
    """
    first = rows[0]
    if len(rows) == 1 and not first.window:
        yield ValidRate(first.valid_from, first.valid_until, Rate(first.prefix, first.name, _prices_of(first)))
        return
    ends = sorted({at for row in rows for at in (row.valid_from, row.valid_until) if at is not None})
    for start, end in zip((None, *ends), (*ends, None), strict=True):
        valid = [row for row in rows if _is_valid(row, start, end)]
        base = next((row for row in valid if not row.window), None)
        if base is not None:
            windows = tuple((_window_of(row.window), _prices_of(row)) for row in valid if row.window)
            rate = Rate(base.prefix, base.name, _prices_of(base), windows, calendar if windows else Calendar())
            yield ValidRate(start, end, rate)


def _is_valid(row: RateRow, start: datetime | None, end: datetime | None) -> bool:
    """Return whether a row is valid all the time between two ends of validity that follow one another."""
    begins = row.valid_from is None or (start is not None and row.valid_from <= start)
    return begins and (row.valid_until is None or (end is not None and end <= row.valid_until))


def _prices_of(row: RateRow) -> Prices:
    return _make_prices(row.connect_fee, row.steps, row.minimum_charge, row.grace)


@lru_cache(maxsize=VALUES_KNOWN)
def _make_prices(connect_fee: int, steps: str, minimum_charge: int, grace: int) -> Prices:
    return Prices(connect_fee, decode_steps(steps), minimum_charge, grace)


@lru_cache(maxsize=VALUES_KNOWN)
def _window_of(text: str) -> Window:
    return parse_window(text)
