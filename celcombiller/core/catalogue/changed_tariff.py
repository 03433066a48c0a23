"""A tariff with a few prefixes changed: the new rates of these, and the old tariff for all others. Pure.

So a version of a price list with a million rates, of which one is changed, is ready at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.errors import NoRate
from celcombiller.core.rating.tariff import Tariff

if TYPE_CHECKING:
    from datetime import datetime

    from celcombiller.core.model.tariffs import Rate


class ChangedTariff(Tariff):
    """The rates of ``changed`` for the ``prefixes``, and those of ``base`` for all others.

    The empty prefix has the on-net rates too.
    """

    def __init__(self, base: Tariff, changed: Tariff, prefixes: frozenset[str]) -> None:
        self._base = base
        self._changed = changed
        self._prefixes = prefixes
        self._lengths = sorted(set(map(len, prefixes)))

    def __len__(self) -> int:
        """Return the number of rates: the most that it can be, as those that are no longer in the base count."""
        return len(self._base) + len(self._changed)

    def rate_for(self, number: str, at: datetime | None = None, *, on_net: bool = False) -> Rate:
        """Return the rate of ``number`` as `Tariff.rate_for` does, or raise `NoRate`."""
        digits = number.removeprefix("+")
        if not self._is_changed(digits):
            return self._base.rate_for(digits, at, on_net=on_net)
        if on_net and (rate := self.on_net_rate(at)) is not None:
            return rate
        new, old = _find(self._changed, digits, at), self._find_old(digits, at)
        if new is None or old is None:
            found = old if new is None else new
        else:
            found = new if len(new.prefix) > len(old.prefix) else old
        if found is None:
            raise NoRate("no rate for this number")
        return found

    def _is_changed(self, digits: str) -> bool:
        """Return whether a prefix of the number is changed; the empty one, of all numbers, has the on-net rates."""
        prefixes = self._prefixes
        return any(digits[:length] in prefixes for length in self._lengths)

    def on_net_rate(self, at: datetime | None = None) -> Rate | None:
        """Return the on-net rate that is valid at this time, or None."""
        return (self._changed if "" in self._prefixes else self._base).on_net_rate(at)

    def _find_old(self, digits: str, at: datetime | None) -> Rate | None:
        """Return the rate of the base, of the longest prefix that is not changed."""
        rate = _find(self._base, digits, at)
        while rate is not None and (prefix := rate.prefix.removeprefix("+")) in self._prefixes:
            rate = _find(self._base, digits[: len(prefix) - 1], at) if prefix else None
        return rate


def _find(tariff: Tariff, digits: str, at: datetime | None) -> Rate | None:
    try:
        return tariff.rate_for(digits, at)
    except NoRate:
        return None
