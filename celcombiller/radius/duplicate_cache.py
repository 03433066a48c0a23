"""Requests that come again (RFC 5080, 2.2.2): a NAS that did not receive the response gets the same one again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachetools import TTLCache

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

KEPT_SECONDS = 15.0
KEPT_MAX = 4096
"""So many responses of some hundred octets: a megabyte or two."""


class DuplicateCache:
    """The requests of the last seconds, each with its response once there is one."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        # A list, so that a response joins its request and does not outlive it.
        self._responses: TTLCache[Hashable, list[bytes]] = TTLCache(KEPT_MAX, KEPT_SECONDS, timer=seconds)

    def __len__(self) -> int:
        return len(self._responses)

    def add_request(self, key: Hashable) -> bool:
        """Record a request, and return whether it is new."""
        if key in self._responses:
            return False
        self._responses[key] = []
        return True

    def response_to(self, key: Hashable) -> bytes | None:
        """Return the response to a recorded request; None: there is none yet."""
        return next(iter(self._responses.get(key, ())), None)

    def record_response(self, key: Hashable, response: bytes) -> None:
        """Record the response to a request, for as long as the request is kept."""
        self._responses.get(key, []).append(response)

    def forget_request(self, key: Hashable) -> None:
        """Forget a request without a response, so that its repeat is new."""
        self._responses.pop(key, None)
