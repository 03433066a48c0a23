"""Limits how many unknown cookies and tokens are looked up in a second.

Each takes a look into the database, beside the calls; anybody can send them. Those that were right a moment ago are
looked up without a limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachetools import TTLCache

from celcombiller.core.errors import Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from celcombiller.http.route import Request

KNOWN_MAX = 10_000
KNOWN_SECONDS = 60.0
"""How long a cookie or token counts as known. It admits to nothing but the look-up."""


class CredentialLimit:
    """Knows the cookies and tokens that were right lately, and counts the look-ups of all others.

    ``count_refusal`` is called for each request that is refused.
    """

    def __init__(
        self, seconds: Callable[[], float], per_second_max: int, count_refusal: Callable[[], object] = lambda: None
    ) -> None:
        self._seconds = seconds
        self._most = per_second_max
        self._count_refusal = count_refusal
        self._known: TTLCache[tuple[Any, ...], None] = TTLCache(KNOWN_MAX, KNOWN_SECONDS, timer=seconds)
        self._second, self._looks = 0, 0

    def is_known(self, request: Request) -> bool:
        """Return whether what the request shows was right lately, or it shows nothing."""
        shown = (request.bearer, request.secrets)
        return shown in self._known or shown == (None, ())

    def admit(self) -> None:
        """Count the look-up of an unknown cookie or token. Raises `Overloaded` when there were too many this second."""
        second = int(self._seconds())
        if second != self._second:
            self._second, self._looks = second, 0
        self._looks += 1
        if self._looks > self._most:
            self._count_refusal()
            raise Overloaded("too many unknown cookies and tokens at once: send it again in a second")

    def remember(self, request: Request) -> None:
        """Remember that what the request shows is right."""
        self._known[request.bearer, request.secrets] = None
