"""What was made of the rates that were used last, found by their identity: the hash of a rate is that of all in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from celcombiller.core.model.tariffs import Rate

T = TypeVar("T")

RATES_KNOWN = 16_384
"""A network calls some thousand destinations at most; each may have a rate, one of each trunk, and those in rows."""


class RateMemo(Generic[T]):
    """A value for each of the rates that were used last.

    A price list gives the same object for the same destination. What is remembered keeps it, so no other has its id.
    """

    def __init__(self) -> None:
        self._values: dict[int, tuple[Rate, T]] = {}

    def get(self, rate: Rate) -> T | None:
        """Return the value of this very object, or None."""
        known = self._values.get(id(rate))
        return None if known is None else known[1]

    def put(self, rate: Rate, value: T) -> T:
        """Remember a value, and return it. When there are many, all others are forgotten."""
        if len(self._values) >= RATES_KNOWN:
            self._values.clear()
        self._values[id(rate)] = rate, value
        return value
