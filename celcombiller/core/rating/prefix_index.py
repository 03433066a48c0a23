"""The longest of a million prefixes of a number, by one bisection of a short part of a sorted array."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right

DIGITS_MAX = 19
"""The digits of a prefix that fit in 64 bits."""

_POWERS = tuple(10**each for each in range(DIGITS_MAX + 1))
_OTHER = re.compile(r"[^0-9].*", re.ASCII | re.DOTALL)


class PrefixIndex:
    """Prefixes of digits in their order. Each has a place, counted from 0; one may be there several times.

    A prefix is kept as the first number of `DIGITS_MAX` digits that begins with it. Beside it is the place of the next
    shorter prefix that is a prefix of it (of the one before, where it comes twice): 13 bytes in all. The leading digits
    of a number say in which part of the array it is; there is one part for 10 to 100 prefixes.
    """

    def __init__(self) -> None:
        self._keys = array("Q")
        self._lengths = array("B")
        self._parents = array("I")  # counted from 1; 0 is none
        self._path: list[tuple[str, int]] = []
        self._part_size = _POWERS[DIGITS_MAX]
        self._starts = array("I", (0, 0))  # the first place of each part, and at last the number of prefixes

    def __len__(self) -> int:
        """Return the number of prefixes."""
        return len(self._keys)

    def add(self, prefix: str) -> int:
        """Add a prefix and return its place. Raises `ValueError` if it comes before the last one."""
        path, place = self._path, len(self._keys)
        key, length = int(prefix.ljust(DIGITS_MAX, "0")), len(prefix)
        if place and (key, length) < (self._keys[-1], self._lengths[-1]):
            raise ValueError(f"the prefix {prefix} is out of order")
        while path and not prefix.startswith(path[-1][0]):
            path.pop()
        self._keys.append(key)
        self._lengths.append(length)
        self._parents.append(path[-1][1] + 1 if path else 0)
        if path and path[-1][0] == prefix:
            path.pop()
        path.append((prefix, place))
        return place

    def close(self) -> None:
        """Divide the prefixes into parts, so that they are found. The index takes no more."""
        self._path = []
        count = len(self._keys)
        digits = max(0, len(str(count)) - 2)
        self._part_size = _POWERS[DIGITS_MAX - digits]
        self._starts = array("I", [0])
        for part in range(1, _POWERS[digits]):
            self._starts.append(bisect_left(self._keys, part * self._part_size, self._starts[-1]))
        self._starts.append(count)

    def find(self, digits: str, below: int | None = None) -> tuple[int, int]:
        """Return place and length of the longest prefix of ``digits``; with ``below``, of the one after that place.

        The place is -1 where there is none. Only the leading digits of a number count.
        """
        if not digits.isdecimal():
            digits = _OTHER.sub("", digits)
        count = len(digits)
        key = int(digits or "0") * _POWERS[DIGITS_MAX - count] if count <= DIGITS_MAX else int(digits[:DIGITS_MAX])
        keys, lengths = self._keys, self._lengths
        if below is None:
            starts, part = self._starts, key // self._part_size
            place = bisect_right(keys, key, starts[part], starts[part + 1]) - 1
        else:
            place = self._parents[below] - 1
        while place >= 0:
            length = lengths[place]
            # The numbers that begin with a prefix are those from its key on, as many as the digits after it count.
            if length <= count and key - keys[place] < _POWERS[DIGITS_MAX - length]:
                return place, length
            place = self._parents[place] - 1
        return -1, 0
