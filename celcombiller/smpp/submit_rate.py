"""How fast parts are submitted: the rate of the contract, and less while the SMSC says that it is too much."""

from __future__ import annotations

PER_SECOND_MIN = 0.1
WAIT_SECONDS_MAX = 30.0
"""How long a part may wait for its turn; the claims of the parts that wait must not lapse."""
RECOVERY = 0.01
"""Of the rate of the contract, that each accepted part adds to a reduced rate."""


class SubmitRate:
    """Gives each part its turn. A refusal halves the rate, and each acceptance adds a little (AIMD, RFC 5681)."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._contract = per_second
        self._next_at = 0.0
        self._reduced_at = 0.0

    def has_room(self, now: float) -> bool:
        """Return whether a part that comes now gets its turn soon enough."""
        return self._next_at - now <= WAIT_SECONDS_MAX

    def reserve(self, now: float) -> float:
        """Return when the next part may go."""
        at = max(now, self._next_at)
        self._next_at = at + 1 / self.per_second
        return at

    def reduce(self, submitted_at: float, now: float) -> None:
        """Halve the rate; once for all the parts that went before the rate was halved last."""
        if submitted_at < self._reduced_at:
            return
        self.per_second = max(self.per_second / 2, PER_SECOND_MIN)
        self._reduced_at = now
        self._next_at = max(self._next_at, now + 1 / self.per_second)

    def recover(self) -> None:
        """Raise a reduced rate a little."""
        self.per_second = min(self.per_second + self._contract * RECOVERY, self._contract)
