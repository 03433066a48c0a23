"""The subscribers that a biller remembers, for the time in which it cannot ask the ledger. Pure.

Bounded: whoever was used longest ago is forgotten first. A balance here may be some seconds old.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from celcombiller.core.rating.numbering import AS_DIALLED
from celcombiller.core.subscribers.directory import Directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.rating.numbering import NumberingPlan


class KnownSubscribers:
    """At most ``most`` subscribers, with the voice credits that were available to each when they were last read."""

    def __init__(self, most: int, numbering: NumberingPlan = AS_DIALLED) -> None:
        self._most = most
        self.directory = Directory((), numbering)
        self._known: OrderedDict[int, tuple[Subscriber, int]] = OrderedDict()
        self.is_whole = False
        """Whether these were all subscribers when they were last read."""
        self._used: set[int] = set()

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[int]:
        """Yield the ids, whoever was used longest ago first."""
        return iter(self._known)

    def __contains__(self, subscriber_id: object) -> bool:
        return subscriber_id in self._known

    @property
    def is_full(self) -> bool:
        """Whether another one would take the place of the one that was used longest ago."""
        return len(self._known) >= self._most

    def available(self, subscriber: Subscriber) -> int | None:
        """Return the credits that were last known to be available; ``None``: not known."""
        return self.find(subscriber.id)

    def find(self, subscriber_id: int) -> int | None:
        """Return the credits that were last known to be available to the subscriber of an id; ``None``: not known."""
        known = self._known.get(subscriber_id)
        return None if known is None else known[1]

    def learn(self, subscriber: Subscriber, available: int) -> None:
        """Remember what was read of a subscriber, in place of what was known."""
        known = self._known.get(subscriber.id)
        if known is not None:
            self.directory.remove(known[0])
        elif self._most < 1:
            return
        elif self.is_full:
            self.forget(next(iter(self._known)))
        self._known[subscriber.id] = (subscriber, available)
        self.directory.add(subscriber)

    def use(self, *subscriber_ids: int) -> None:
        """Keep these longer than others, and read them again soon: they called, or were called, just now."""
        for each in subscriber_ids:
            if each in self._known:
                self._known.move_to_end(each)
            if len(self._used) < self._most:
                self._used.add(each)

    def take_used(self, most: int) -> list[int]:
        """Return at most so many of those that were used since they were last read; each is returned once."""
        return [self._used.pop() for _ in range(min(most, len(self._used)))]

    def forget(self, subscriber_id: int) -> None:
        """Forget a subscriber, as far as known."""
        known = self._known.pop(subscriber_id, None)
        if known is not None:
            self.directory.remove(known[0])
