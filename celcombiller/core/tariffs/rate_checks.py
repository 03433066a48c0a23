"""What a rate must be, by itself and beside the other rates of its prefix. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.rating.windows import check_windows, format_window, parse_window
from celcombiller.core.tariffs.rate_row import RateRow, decode_steps, encode_steps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from celcombiller.core.model.tariffs import Step

AMOUNT_MAX = 2**53 - 1
"""The largest amount of a rate, as of a transfer: JSON's programs keep it exactly."""

STEPS_MAX = 20
PREFIX_DIGITS_MAX = 20

_PREFIX = re.compile(rf"\+?([0-9*#]{{0,{PREFIX_DIGITS_MAX}}})", re.ASCII)
_NAME = re.compile(rf"[^{UNPRINTABLE}]{{0,200}}")


def normalise_rate(rate: RateRow) -> RateRow:
    """Return a rate in the form in which it is stored. Raises `InvalidValue`, which names the rate and the field."""
    found = _PREFIX.fullmatch(rate.prefix)
    if found is None or (rate.on_net and rate.prefix):
        what = "an on-net rate has none" if rate.on_net else f"has at most {PREFIX_DIGITS_MAX} digits, * or #"
        raise _wrong(rate, "prefix", what)
    if not _NAME.fullmatch(rate.name):
        raise _wrong(rate, "name", "must be at most 200 characters on one line")
    for field in ("connect_fee", "minimum_charge", "grace"):
        if not 0 <= getattr(rate, field) <= AMOUNT_MAX:
            raise _wrong(rate, field, f"must be a whole number from 0 to {AMOUNT_MAX}")
    if rate.valid_from is not None and rate.valid_until is not None and rate.valid_from >= rate.valid_until:
        raise _wrong(rate, "valid_until", "must be later than valid_from")
    check_steps(rate, decode_steps(rate.steps))
    return rate._replace(
        prefix=found[1], window=normalise_window(rate.window), steps=encode_steps(decode_steps(rate.steps))
    )


@lru_cache(maxsize=4096)
def normalise_window(text: str) -> str:
    """Return a time of the week in the form in which it is stored; empty: no window. Raises `InvalidValue`."""
    return text and format_window(parse_window(text))


def check_steps(rate: RateRow, steps: Sequence[Step]) -> None:
    """Raise `InvalidValue` unless the steps are in order from unit 0 on."""
    starts = [each.start for each in steps]
    if not 1 <= len(steps) <= STEPS_MAX or starts[0] != 0 or starts != sorted(set(starts)):
        raise _wrong(rate, "steps", f"must be 1 to {STEPS_MAX}, in order, the first from unit 0 on")
    for each in steps:
        if not (1 <= each.increment <= AMOUNT_MAX and 0 <= each.price <= AMOUNT_MAX and 1 <= each.per <= AMOUNT_MAX):
            raise _wrong(rate, "steps", "have an increment and a per of at least 1, and a price of at least 0")


def check_destination(rates: Sequence[RateRow]) -> None:
    """Raise `InvalidValue` unless the rates of one service and prefix go together.

    No two are valid at once in one window, windows do not overlap, and one has no window: it is for all other times.
    """
    if len(rates) == 1 and not rates[0].window:
        return
    if all(each.window for each in rates):
        raise InvalidValue(f"{name_rate(rates[0])} has prices in windows only: add those of all other times")
    for place, rate in enumerate(rates):
        for other in rates[:place]:
            if not _are_at_once(rate, other):
                continue
            if rate.window == other.window:
                raise InvalidValue(
                    f"{name_rate(rate)} has two rates at one time{f' ({rate.window})' * bool(rate.window)}"
                )
            if rate.window and other.window:
                try:
                    check_windows([parse_window(rate.window), parse_window(other.window)])
                except InvalidValue as error:
                    raise InvalidValue(f"{name_rate(rate)}: {error}") from None


def name_rate(rate: RateRow) -> str:
    """Return what a rate is for, in words."""
    if rate.on_net:
        return f"the on-net rate of {rate.service}"
    return (
        f"the {rate.service} rate of prefix {rate.prefix}" if rate.prefix else f"the {rate.service} rate of all numbers"
    )


def _are_at_once(one: RateRow, other: RateRow) -> bool:
    return _begins_before(one.valid_from, other.valid_until) and _begins_before(other.valid_from, one.valid_until)


def _begins_before(begin: datetime | None, end: datetime | None) -> bool:
    return begin is None or end is None or begin < end


def _wrong(rate: RateRow, field: str, what: str) -> InvalidValue:
    return InvalidValue(f"{name_rate(rate)}: {field} {what}", {field: what})
