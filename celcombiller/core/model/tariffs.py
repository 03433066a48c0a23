"""Price lists as values: steps, prices, time windows, rates.

One unit of use is a second of talk, a part of a message or an octet. All amounts are whole credits.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum

import msgspec


class Service(StrEnum):
    """What a rate is for; it decides what one unit of use is: a second, a part of a message, an octet."""

    VOICE = "voice"
    SMS = "sms"
    DATA = "data"


HOLIDAY = 7
"""The day of a window that stands for the holidays of its calendar; 0 is Monday, 6 is Sunday."""

DAY_MINUTES = 24 * 60


class Step(msgspec.Struct, frozen=True):
    """From ``start`` units of use on, ``price`` credits buy ``per`` units, in increments of ``increment`` units.

    An increment belongs to the step in which it begins, and counts whole. So 30/6 is two steps, ``(0, 30)`` and
    ``(30, 6)``, and a free first minute is a step of 60 seconds at price 0.
    """

    start: int = 0
    increment: int = 1
    price: int = 1
    per: int = 1


class Prices(msgspec.Struct, frozen=True):
    """What use costs: a fee at its start, then steps in order of their start, the first at 0.

    A use of at most ``grace`` units is free; a longer one is charged from its first unit, and at least
    ``minimum_charge``.
    """

    connect_fee: int = 0
    steps: tuple[Step, ...] = (Step(),)
    minimum_charge: int = 0
    grace: int = 0


class Window(msgspec.Struct, frozen=True):
    """A time of the week in the zone of a calendar: on ``days``, from one minute of the day to before another.

    On a holiday only the windows that have `HOLIDAY` among their days apply.
    """

    days: frozenset[int]
    start_minute: int = 0
    end_minute: int = DAY_MINUTES


class Calendar(msgspec.Struct, frozen=True):
    """The time zone (IANA) in which windows are read, and the holidays there."""

    time_zone: str = "UTC"
    holidays: frozenset[date] = frozenset()


class Rate(msgspec.Struct, frozen=True):
    """The prices of use towards numbers that begin with ``prefix``, a destination called ``name``.

    ``windows`` have prices of their own; at all other times ``prices`` apply. The connect fee, the minimum and the
    grace are those of the time when the use begins.
    """

    prefix: str = ""
    name: str = ""
    prices: Prices = Prices()
    windows: tuple[tuple[Window, Prices], ...] = ()
    calendar: Calendar = Calendar()

    @property
    def connect_fee(self) -> int:
        """The credits, once, of a use outside all windows."""
        return self.prices.connect_fee

    @property
    def price(self) -> int:
        """The price of the first step outside all windows: all of it, where the rate is flat."""
        return self.prices.steps[0].price

    @property
    def increment_seconds(self) -> int:
        """The increment of the first step outside all windows."""
        return self.prices.steps[0].increment


def flat_rate(prefix: str = "", name: str = "", connect_fee: int = 0, price: int = 1, increment: int = 1) -> Rate:
    """Return a rate with one price for each started increment, at all times."""
    return Rate(prefix, name, Prices(connect_fee, (Step(0, increment, price, increment),)))
