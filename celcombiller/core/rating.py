"""What talk costs, and how much talk a balance buys. All rounding of the program is here, all of it in integers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.errors import NoRate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celcombiller.core.model.calls import Rate

LATE_CUT_MS = 1000
"""A limit cuts up to a few milliseconds late (measured: 0 to 10). Talk over the grant by no more than this is the
limit's lateness, not talk that was asked for, and is not charged; more is an overrun and is."""


class Tariff:
    """A price list: the rate of a number is the row with the longest prefix of it."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        self._by_prefix = {rate.prefix.removeprefix("+"): rate for rate in rates}
        self._longest = max(map(len, self._by_prefix), default=0)

    def rate_for(self, number: str) -> Rate:
        """Give the rate of ``number`` (``+`` in front or not), or raise `NoRate`."""
        digits = number.removeprefix("+")
        for length in range(min(len(digits), self._longest), -1, -1):
            rate = self._by_prefix.get(digits[:length])
            if rate is not None:
                return rate
        raise NoRate("no rate for this number")


def price(rate: Rate, talk_ms: int) -> int:
    """Credits for ``talk_ms`` of answered talk: every started increment counts, and an answer starts the first."""
    increment_ms = rate.increment_seconds * 1000
    increments = max(1, -(-talk_ms // increment_ms))
    return rate.connect_fee + increments * rate.price


def affordable_seconds(rate: Rate, available: int, seconds_max: int) -> int:
    """Whole seconds of talk that ``available`` credits pay for, at most ``seconds_max``; 0 when not one increment."""
    if available < rate.connect_fee + rate.price:
        return 0
    if rate.price == 0:
        return seconds_max
    return min((available - rate.connect_fee) // rate.price * rate.increment_seconds, seconds_max)


def charged_ms(talk_ms: int, granted_seconds: int) -> int:
    """Milliseconds to charge of ``talk_ms``: a cut that came late counts as the grant, an overrun counts whole."""
    granted_ms = granted_seconds * 1000
    return granted_ms if granted_ms < talk_ms <= granted_ms + LATE_CUT_MS else talk_ms


def octets_price(octets: int, octets_per_credit: int) -> int:
    """Credits for so many octets of a session, in all: a credit that is begun counts."""
    return -(-octets // octets_per_credit)


def affordable_octets(available: int, octets_per_credit: int) -> int:
    """Octets that ``available`` credits pay for."""
    return available * octets_per_credit
