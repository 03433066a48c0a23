"""How many lines of the log a peer may cause: what anybody can repeat at will must not fill a disk."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from twisted.logger import Logger

from celcombiller.core.model.addresses import network_of

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_SECONDS = 60.0
LINES_MAX = 600
PEERS_MAX = 10_000

_LOG = Logger(namespace="celcombiller.runtime.peer_lines.PeerLines")  # the name that operators filter by
"""Addresses that are counted apart. More of them in a minute share what one may cause."""


class PeerLines:
    """Counts the lines of each address (of IPv6: of each /64) within a minute.

    ``count`` is called for each line that is left out. At the end of the minute one line says how many there were.
    """

    def __init__(
        self, seconds: Callable[[], float], lines_max: int = LINES_MAX, count: Callable[[], object] = lambda: None
    ) -> None:
        self._seconds = seconds
        self._lines_max = lines_max
        self._count = count
        self._lines: Counter[str] = Counter()
        self._ends_at = 0.0

    def admits(self, peer: str) -> bool:
        """Return whether one more line about this peer may be written."""
        now = self._seconds()
        if now >= self._ends_at:
            self._report()
            self._lines.clear()
            self._ends_at = now + WINDOW_SECONDS
        network = network_of(peer)
        if network not in self._lines and len(self._lines) >= PEERS_MAX:
            network = "others"
        self._lines[network] += 1
        if self._lines[network] <= self._lines_max:
            return True
        self._count()
        return False

    def _report(self) -> None:
        for peer, lines in self._lines.items():
            if lines > self._lines_max:
                _LOG.warn(
                    "{count} more lines about {peer} were left out within a minute (service.log_lines_per_peer)",
                    count=lines - self._lines_max,
                    peer=peer,
                )
