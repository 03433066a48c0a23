"""What usage costs, and how much usage a balance buys. All rounding of the program is here, all of it in integers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.errors import NoRate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celcombiller.core.model.calls import Rate

LATE_CUT_MS = 1000
"""Asterisk's limit cuts a call up to a few milliseconds late (measured: 0 to 10). Talk beyond the grant by no more than
this is not charged; more is an overrun and is charged whole."""


class Tariff:
    """A price list: the rate of a number is the row with the longest prefix of it."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        self._by_prefix = {rate.prefix.removeprefix("+"): rate for rate in rates}
        self._longest = max(map(len, self._by_prefix), default=0)

    def rate_for(self, number: str) -> Rate:
        """Return the rate of ``number`` (with or without ``+``), or raise `NoRate`."""
        digits = number.removeprefix("+")
        for length in range(min(len(digits), self._longest), -1, -1):
            rate = self._by_prefix.get(digits[:length])
            if rate is not None:
                return rate
        raise NoRate("no rate for this number")


def price(rate: Rate, talk_ms: int) -> int:
    """Return the credits for ``talk_ms`` of answered talk: each started increment counts, the first always."""
    increment_ms = rate.increment_seconds * 1000
    increments = max(1, -(-talk_ms // increment_ms))
    return rate.connect_fee + increments * rate.price


def affordable_seconds(rate: Rate, available: int, seconds_max: int) -> int:
    """Return the whole seconds that ``available`` credits pay for, at most ``seconds_max``; 0: not one increment."""
    if available < rate.connect_fee + rate.price:
        return 0
    if rate.price == 0:
        return seconds_max
    return min((available - rate.connect_fee) // rate.price * rate.increment_seconds, seconds_max)


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
