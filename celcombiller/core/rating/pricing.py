"""The price of use, and the use that credit buys.

A use is counted in the units of its service, from 0 on. Each increment that is begun counts whole, at the price of the
step in which it begins. The sum is exact until its end, where it is rounded up to a whole credit, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from celcombiller.core.model.tariffs import Rate

LATE_CUT_MS = 1000
"""Asterisk's limit cuts a call up to a few milliseconds late (measured: 0 to 10). Talk beyond the grant by no more than
this is not charged; more is an overrun and is charged whole."""


def price(rate: Rate, used: int, at: datetime) -> int:  # noqa: ARG001  windows come
    """Return the credits for ``used`` units of a use that began ``at`` this time; the first increment always counts."""
    prices = rate.prices
    step = prices.steps[0]
    increments = max(1, -(-used // step.increment))
    return prices.connect_fee + -(-increments * step.increment * step.price // step.per)


def affordable(rate: Rate, available: int, at: datetime, most: int) -> int:
    """Return the units that ``available`` credits buy from ``at`` on, at most ``most``; 0: not even one increment."""
    prices = rate.prices
    step = prices.steps[0]
    if available < price(rate, 1, at):
        return 0
    if step.price == 0:
        return most
    return min((available - prices.connect_fee) * step.per // step.price // step.increment * step.increment, most)


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
