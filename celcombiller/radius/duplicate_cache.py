"""Requests that come again (RFC 5080, 2.2.2): who did not hear an answer gets the same one, not another."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

KEPT_SECONDS = 15.0
KEPT_MAX = 4096
"""So many answers of some hundred octets: a megabyte or two."""


class DuplicateCache:
    """What was asked a moment ago, with its answer, or without as long as there is none."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._kept: OrderedDict[Hashable, tuple[float, bytes | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def is_new(self, key: Hashable) -> bool:
        """Return whether this was not asked before, and remember that it is now."""
        now = self._seconds()
        while self._kept:
            oldest = next(iter(self._kept))
            if self._kept[oldest][0] + KEPT_SECONDS > now and len(self._kept) < KEPT_MAX:
                break
            del self._kept[oldest]
        if key in self._kept:
            return False
        self._kept[key] = (now, None)
        return True

    def answer(self, key: Hashable) -> bytes | None:
        """Return the answer to what was asked before; None: it is not there yet."""
        kept = self._kept.get(key)
        return None if kept is None else kept[1]

    def answered(self, key: Hashable, answer: bytes) -> None:
        """Keep an answer, for as long as its question."""
        if key in self._kept:
            self._kept[key] = (self._kept[key][0], answer)

    def forget(self, key: Hashable) -> None:
        """Forget a request that could not be answered, so that a repeat is new."""
        self._kept.pop(key, None)
