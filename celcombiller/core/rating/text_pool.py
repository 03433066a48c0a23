"""Many short texts in one block of memory: with no object for each, garbage collection does not grow with them."""

from __future__ import annotations

from array import array

TEXTS_KNOWN = 16_384
"""The texts of which a copy is found again while a pool is filled. More are stored twice rather than all remembered:
a dictionary of a million stops all threads for as long as it takes to grow."""


class TextPool:
    """Texts by index."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("Q")
        self._known: dict[bytes, int] = {}

    def add(self, text: bytes) -> int:
        """Return the index of a text, of a copy that is there if one is known."""
        index = self._known.get(text)
        if index is None:
            if len(self._known) == TEXTS_KNOWN:
                self._known.clear()
            index = self._known[text] = len(self._ends)
            self._bytes += text
            self._ends.append(len(self._bytes))
        return index

    def get(self, index: int) -> bytes:
        """Return a text."""
        return bytes(self._bytes[self._ends[index - 1] if index else 0 : self._ends[index]])

    def close(self) -> None:
        """Forget what is needed to add texts."""
        self._known = {}
