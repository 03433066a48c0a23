"""Deadlines that are nearly always met: one timer for all of them, where Twisted would make one for each.

A call has a dozen waits, and a timer made and cancelled for each of them was a tenth of its cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Deadlines:
    """The waits, each with its key, until when it lasts, and what is done when that passes."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: dict[Hashable, tuple[float, Callable[[], object]]] = {}
        self._timer: IDelayedCall | None = None
        self._checks_at = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def set(self, key: Hashable, seconds: float, give_up: Callable[[], object]) -> None:
        """Call ``give_up`` in so many seconds unless `met` is called before; a new deadline replaces the old one."""
        due_at = self._clock.seconds() + seconds
        self._waiting[key] = (due_at, give_up)
        if self._timer is None or due_at < self._checks_at:
            self._schedule_check(due_at)

    def met(self, key: Hashable) -> None:
        """Forget the deadline of this key."""
        self._waiting.pop(key, None)

    def stop(self) -> None:
        """Forget all."""
        self._waiting.clear()
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _schedule_check(self, moment: float) -> None:
        # The timer stays when its deadline was met: it finds then the next one, which is seldom.
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._checks_at = moment
        self._timer = self._clock.callLater(max(0.0, moment - self._clock.seconds()), self._check)

    def _check(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for key, (due_at, give_up) in list(self._waiting.items()):
            if due_at <= now and self._waiting.pop(key, None) is not None:
                give_up()
        if self._waiting and self._timer is None:
            self._schedule_check(min(due_at for due_at, _ in self._waiting.values()))
