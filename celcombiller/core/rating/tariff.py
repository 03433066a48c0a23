"""A price list in memory: the rate of a number is the one with the longest prefix of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.errors import NoRate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from celcombiller.core.model.tariffs import Rate


class Tariff:
    """The rates of one service, found by prefix."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        self._by_prefix = {rate.prefix.removeprefix("+"): rate for rate in rates}
        self._longest = max(map(len, self._by_prefix), default=0)

    def rate_for(self, number: str, at: datetime | None = None, *, on_net: bool = False) -> Rate:  # noqa: ARG002  to come
        """Return the rate of ``number`` (with or without ``+``) at a time, or raise `NoRate`."""
        digits = number.removeprefix("+")
        for length in range(min(len(digits), self._longest), -1, -1):
            rate = self._by_prefix.get(digits[:length])
            if rate is not None:
                return rate
        raise NoRate("no rate for this number")
