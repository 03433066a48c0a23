"""Which trunks a call may take, and in which order. Pure: values in, values out."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from math import log
from typing import TYPE_CHECKING

from celcombiller.core.model.routing import TrunkChoice
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.pricing import price, rate_throughout

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from celcombiller.core.model.routing import CallRoute, RouteTrunk, Trunk
    from celcombiller.core.model.tariffs import Prices

COMPARED_SECONDS = (60, 3600)
"""The talks by whose prices two trunks are compared: a minute, then an hour, where a minute costs the same."""

_TWO_TO_64 = 1 << 64


def find_route(routes: Mapping[str, CallRoute], number: str) -> CallRoute | None:
    """Return the route with the longest prefix of a number, with or without ``+``; None: there is none.

    ``routes`` are by their prefixes, without ``+``.
    """
    digits = number.removeprefix("+")
    for length in range(len(digits) if routes else -1, -1, -1):
        found = routes.get(digits[:length])
        if found is not None:
            return found
    return None


def choose_trunks(
    route: CallRoute,
    trunks: Mapping[int, Trunk],
    rate_of: Callable[[Trunk], Rate | None],
    at: datetime,
    lot: str,
    full: Collection[int] = (),
) -> list[Trunk]:
    """Return the trunks of a route in the order in which a call that begins ``at`` this time tries them, each once.

    Those that are disabled or ``full`` are left out. ``rate_of`` returns what a trunk's provider charges for the
    number; a trunk without a rate is taken last where the cheapest is first. ``lot`` is a random word of the call: the
    same word draws the same order by weight.
    """
    places = {each.trunk_id: each for each in reversed(route.trunks)}
    usable = [
        (trunks[each.trunk_id], each)
        for each in route.trunks
        if places[each.trunk_id] is each and is_usable(trunks.get(each.trunk_id), full)
    ]
    if route.choose is TrunkChoice.WEIGHT:
        usable.sort(key=lambda each: _draw(each[1], lot))
    elif route.choose is TrunkChoice.COST:
        usable.sort(key=lambda each: _cost_of(rate_of(each[0]), at))
    return [trunk for trunk, _ in usable]


def is_usable(trunk: Trunk | None, full: Collection[int]) -> bool:
    """Return whether a trunk exists, is enabled and has room."""
    return trunk is not None and trunk.enabled and trunk.id not in full


def _draw(place: RouteTrunk, lot: str) -> float:
    """Return where a trunk stands by lot: in the order of these, each comes first in proportion to its weight.

    They are exponentially distributed with the weight as rate, of which the least is each one with that probability
    (Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006).
    """
    drawn = int.from_bytes(blake2b(f"{lot}:{place.trunk_id}".encode(), digest_size=8).digest(), "big")
    return -log((drawn + 1) / _TWO_TO_64) / place.weight


def _cost_of(rate: Rate | None, at: datetime) -> tuple[bool, list[int]]:
    if rate is None:
        return True, []
    steady = rate_throughout(rate, at, max(COMPARED_SECONDS))
    return False, _compared_prices(steady, at) if steady.windows else _steady_prices(steady.prices)


@lru_cache
def _steady_prices(prices: Prices) -> list[int]:
    return _compared_prices(Rate(prices=prices), _ANY_TIME)


def _compared_prices(rate: Rate, at: datetime) -> list[int]:
    return [price(rate, seconds, at) for seconds in COMPARED_SECONDS]


_ANY_TIME = datetime.min.replace(tzinfo=UTC)
