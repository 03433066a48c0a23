"""The price of use, the use that credit buys, and the pieces of a price.

A use is counted in the units of its service, from 0 on. Its increments follow one another: each belongs to the step,
and to the window, in which it begins, and counts whole. The sum is exact until its end, where it is rounded up to a
whole credit, once. The connect fee, the minimum and the grace are those in force when the use begins.

- A use of at most ``grace`` units (where that is not 0) costs 0, without a fee; a longer one counts from unit 0.
- A use of 0 units that is charged (a call that was answered and ended at once) pays its first increment.
- Talk moves through the windows second by second. A message or an octet does not: for them `rate_at` takes the prices
  of one moment out of a rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from celcombiller.core.model.tariffs import Rate, Step, Window
from celcombiller.core.rating.windows import find_window, list_stretches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from celcombiller.core.model.tariffs import Prices

LATE_CUT_MS = 1000
"""Asterisk's limit cuts a call up to a few milliseconds late (measured: 0 to 10). Talk beyond the grant by no more than
this is not charged; more is an overrun and is charged whole."""


STRETCH_SECONDS = 86_400
"""How far ahead the next change of prices is looked for at least: until it comes, the calendar is not read again."""

STRETCHES_KNOWN = 4096
"""The lists of windows whose stretch is remembered."""


class PieceKind(StrEnum):
    """What a piece of a price is for."""

    GRACE = "grace"
    CONNECT_FEE = "connect fee"
    USE = "use"
    MINIMUM = "minimum"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a price: what was used from unit ``start`` on, at one step of one window; or the fee, or the minimum.

    ``units`` are those that count: whole increments. ``window`` is ``None`` for the prices of all other times, ``step``
    for what is no use. ``exact`` is its share before rounding, ``credits`` the whole credits of it: their sum is the
    price. The piece of the minimum is what the others lack of it. ``account_id``: the bundle whose units pay for it.
    """

    kind: PieceKind
    start: int
    units: int
    step: Step | None
    window: Window | None
    at: datetime
    exact: Fraction
    credits: int
    account_id: int | None = None


class Run(msgspec.Struct, frozen=True):
    """Increments of one step and one window that follow one another: the first unit, and how many increments."""

    start: int
    increments: int
    step: Step
    window: Window | None

    @property
    def end(self) -> int:
        """The unit after the last."""
        return self.start + self.increments * self.step.increment


def price(rate: Rate, used: int, at: datetime) -> int:
    """Return the credits for ``used`` units of a use that began at ``at``."""
    rate = rate_throughout(rate, at, used)
    prices = prices_at(rate, at)
    if is_in_grace(prices, used):
        return 0
    if len(prices.steps) == 1 and not rate.windows:
        step = prices.steps[0]
        increments = max(1, -(-used // step.increment))
        cost = prices.connect_fee - (-increments * step.increment * step.price // step.per)
    else:
        total, parts = prices.connect_fee, 1
        for run in list_runs(rate, at, max(used, 1)):
            total, parts = add_share(total, parts, run.increments * run.step.increment * run.step.price, run.step.per)
        cost = -(-total // parts)
    return max(cost, prices.minimum_charge)


def affordable(rate: Rate, available: int, at: datetime, most: int) -> int:
    """Return the units that ``available`` credits buy from ``at`` on, at most ``most``: whole increments, or ``most``.

    0 means that not even the first increment can be paid, nor the least use that is no longer within the grace: the
    grace alone is no reason to begin.
    """
    prices = prices_at(rate, at)
    if available < price(rate, prices.grace + 1, at):
        return 0
    if len(prices.steps) == 1 and not rate.windows:
        step = prices.steps[0]
        share = step.increment * step.price
        count = (available - prices.connect_fee) * step.per // share if share else most
        return min(count * step.increment, most)
    total, parts, used = prices.connect_fee, 1, 0
    for run in list_runs(rate, at, most):
        step = run.step
        share = step.increment * step.price
        if share:
            total, parts = add_share(total, parts, 0, step.per)
            share *= parts // step.per
            count = (available * parts - total) // share
            if count < run.increments:
                return min(run.start + count * step.increment, most)
            total += run.increments * share
        used = run.end
    return min(used, most)


def next_step(rate: Rate, used: int, at: datetime) -> int:
    """Return the units of the increment that follows those of ``used`` units; for 0 units, of the first increment."""
    end = 0
    for run in list_runs(rate, at, used):
        end = run.end
    *_, last = list_runs(rate, at, end + 1)
    return last.step.increment


def list_pieces(rate: Rate, used: int, at: datetime) -> tuple[Piece, ...]:
    """Return the pieces of a price in the order of their use; their whole credits sum to `price`."""
    window, prices = window_at(rate, at), prices_at(rate, at)
    if is_in_grace(prices, used):
        return (Piece(PieceKind.GRACE, 0, used, None, window, at, Fraction(0), 0),)
    runs = [(run, None) for run in list_runs(rate, at, max(used, 1))]
    return make_pieces(runs, at, window, prices.connect_fee, prices.minimum_charge)


def make_pieces(
    runs: Iterable[tuple[Run, int | None]], at: datetime, window: Window | None, connect_fee: int, minimum_charge: int
) -> tuple[Piece, ...]:
    """Return the pieces of a charged use: of its runs, each with the account of the bundle that pays, and the rest."""
    pieces: list[Piece] = []
    total = Fraction(0)

    def add(kind: PieceKind, share: Fraction, run: Run | None = None, account_id: int | None = None) -> None:
        nonlocal total
        whole = -(-(total + share) // 1) + (-total // 1)
        total += share
        if run is None:
            pieces.append(Piece(kind, 0, 0, None, window, at, share, whole))
            return
        moment = at + timedelta(seconds=run.start)
        units = run.end - run.start
        pieces.append(Piece(kind, run.start, units, run.step, run.window, moment, share, whole, account_id))

    if connect_fee:
        add(PieceKind.CONNECT_FEE, Fraction(connect_fee))
    for run, account_id in runs:
        share = Fraction((run.end - run.start) * run.step.price, run.step.per) if account_id is None else Fraction(0)
        add(PieceKind.USE, share, run, account_id)
    if total < minimum_charge:
        add(PieceKind.MINIMUM, minimum_charge - total)
    return tuple(pieces)


def is_in_grace(prices: Prices, used: int) -> bool:
    """Return whether so short a use costs nothing; a grace of 0 is none, also for a use of 0 units."""
    return 0 < prices.grace >= used


def window_at(rate: Rate, at: datetime) -> Window | None:
    """Return the window of a rate that is in force at ``at``; ``None``: none of them."""
    if not rate.windows:
        return None
    place = find_window(_windows_of(rate), rate.calendar, at)
    return None if place is None else rate.windows[place][0]


def prices_at(rate: Rate, at: datetime) -> Prices:
    """Return the prices of a rate that are in force at ``at``."""
    if not rate.windows:
        return rate.prices
    place = find_window(_windows_of(rate), rate.calendar, at)
    return rate.prices if place is None else rate.windows[place][1]


def rate_throughout(rate: Rate, at: datetime, units: int) -> Rate:
    """Return a rate without windows that prices ``units`` from ``at`` on the same, as long as they fall in one window.

    It has no prefix and no name. A use that goes beyond them, or from one window into the next, needs the rate itself:
    then that is returned. Most uses begin and end in one window, so what is asked of their rate several times need not
    look at the clock again.
    """
    if not rate.windows:
        return rate
    until = at + timedelta(seconds=units)
    key = id(rate.windows), id(rate.calendar)
    known = _STRETCHES.get(key)
    if known is None or not known.start <= at < known.end or (until > known.end and not known.is_whole):
        known = _find_stretch(rate, at, units)
        if len(_STRETCHES) >= STRETCHES_KNOWN:
            _STRETCHES.clear()
        _STRETCHES[key] = known
    if until > known.end:
        return rate
    return known.steady or Rate(prices=rate.prices)


class Stretch(msgspec.Struct, frozen=True):
    """A time in which one window of a rate is in force, or none of them.

    ``is_whole``: the prices change at its end; else it may go on.
    """

    start: datetime
    end: datetime
    is_whole: bool
    of: Rate
    """A rate with the windows and the calendar of this stretch: as long as it is kept, no others have their ids."""
    steady: Rate | None
    """The prices of this window at any time; ``None`` outside all windows, where each rate has its own."""


_STRETCHES: dict[tuple[int, int], Stretch] = {}
"""The stretches of the windows that were used last, by the identity of windows and calendar.

The rates of many destinations share them, as `Tariff` makes them. Their hash would be that of all in them.
"""


def _find_stretch(rate: Rate, at: datetime, units: int) -> Stretch:
    """Return the stretch from ``at`` on: to the next change of the prices, or a day or ``units`` long."""
    start, most = at.replace(microsecond=0), max(units + 1, STRETCH_SECONDS)  # prices change at whole seconds
    seconds, place = next(iter(list_stretches(_windows_of(rate), rate.calendar, start, most)))
    steady = None if place is None else Rate(prices=rate.windows[place][1])
    return Stretch(start, start + timedelta(seconds=seconds), seconds < most, rate, steady)


def _windows_of(rate: Rate) -> tuple[Window, ...]:
    windows: tuple[Window, ...] = next(zip(*rate.windows, strict=True))
    return windows


def list_dearest_moments(rate: Rate, at: datetime, wait: int, units: int) -> list[datetime]:
    """Return moments from ``at`` to ``wait`` seconds later, one of which is the dearest to begin a use of ``units``.

    Prices change at whole seconds, so a use costs the same from any moment of one second on. The later it begins, the
    more of it is behind the next change of prices. Where that comes after the wait, and is the only one, and makes all
    steps dearer or all cheaper, the first moment is the dearest or the last one; else it may be any.
    """
    stretches = [*_list_prices(rate, at, wait + units)] if wait else []
    if len(stretches) <= 1:
        return [at]
    (end, _, before), (_, _, after), *more = stretches
    second = at.replace(microsecond=0)
    is_last_enough = end > wait and not more and _is_dearer_or_cheaper(before, after)
    return [at, *(second + timedelta(seconds=each) for each in range(wait if is_last_enough else 1, wait + 1))]


def _is_dearer_or_cheaper(before: Prices, after: Prices) -> bool:
    """Return whether the same steps cost more, each of them, or each less."""
    shapes = [[(step.start, step.increment, step.per) for step in each.steps] for each in (before, after)]
    changes = [new.price - old.price for old, new in zip(before.steps, after.steps, strict=False)]
    return shapes[0] == shapes[1] and not min(changes) < 0 < max(changes)


def rate_at(rate: Rate, at: datetime) -> Rate:
    """Return a rate with the prices of one moment only: for what does not last, a message or octets."""
    return structs.replace(rate, prices=prices_at(rate, at), windows=()) if rate.windows else rate


def list_runs(rate: Rate, at: datetime, units: int) -> Iterator[Run]:
    """Return the increments of the first ``units`` of a use, as runs of one step and one window; none for 0 units."""
    return step_through(_list_prices(rate, at, units))


def count_units(prices: Prices, units: int) -> int:
    """Return the units of the whole increments that the first ``units`` of a use begin, outside all windows."""
    unit, steps = 0, prices.steps
    for place, step in enumerate(steps, 1):
        end = units if place == len(steps) else min(units, steps[place].start)
        if unit < end:
            unit -= (unit - end) // step.increment * step.increment
    return unit


def step_through(stretches: Iterable[tuple[int, Window | None, Prices]]) -> Iterator[Run]:
    """Yield the increments of a use whose stretches have these prices, each up to the unit before which it ends."""
    unit = 0
    for end, window, prices in stretches:
        last = len(prices.steps) - 1
        for place, step in enumerate(prices.steps):
            step_end = end if place == last else min(end, prices.steps[place + 1].start)
            if unit < step_end:
                count = -((unit - step_end) // step.increment)
                yield Run(unit, count, step, window)
                unit += count * step.increment


def _list_prices(rate: Rate, at: datetime, units: int) -> Iterable[tuple[int, Window | None, Prices]]:
    """Return the prices of the first ``units`` of a use, with the unit before which each ends."""
    if not rate.windows:
        return ((units, None, rate.prices),)
    return _list_window_prices(rate, at, units) if units > 0 else ()


def _list_window_prices(rate: Rate, at: datetime, units: int) -> Iterator[tuple[int, Window | None, Prices]]:
    for end, place in list_stretches(_windows_of(rate), rate.calendar, at, units):
        window, prices = (None, rate.prices) if place is None else rate.windows[place]
        yield end, window, prices


def add_share(total: int, parts: int, share: int, per: int) -> tuple[int, int]:
    """Return ``total / parts + share / per`` as a fraction, not reduced: its denominator is a multiple of both."""
    if parts % per:
        common = lcm(parts, per)
        total, parts = total * (common // parts), common
    return total + share * (parts // per), parts


def seconds_of(talk_ms: int) -> int:
    """Return the seconds of talk that are charged: a second that has begun counts."""
    return -(-talk_ms // 1000)


def charged_ms(talk_ms: int, granted_seconds: int) -> int:
    """Return the milliseconds to charge of ``talk_ms``: a late cut counts as the grant, an overrun counts whole."""
    granted_ms = granted_seconds * 1000
    return granted_ms if granted_ms < talk_ms <= granted_ms + LATE_CUT_MS else talk_ms


def octets_price(octets: int, octets_per_credit: int) -> int:
    """Return the credits for all octets of a session; a started credit counts whole."""
    return -(-octets // octets_per_credit)


def affordable_octets(available: int, octets_per_credit: int) -> int:
    """Return the octets that ``available`` credits pay for."""
    return available * octets_per_credit
