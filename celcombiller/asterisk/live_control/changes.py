"""Finds what has happened that live calls must follow, on every node: one look, several times a second, for all."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from celcombiller.core.errors import BillerError
from celcombiller.core.voice.live_changes import LiveChanges, read_changes

if TYPE_CHECKING:
    from collections.abc import Callable

    from celcombiller.core.catalogue.catalogue import CatalogueHolder
    from celcombiller.core.voice.live_changes import Marks
    from celcombiller.database.reader import Reader

LOOK_SECONDS = 0.3
"""The interval between two looks: what an operator changes acts within a second."""

IDLE_LOOKS = 10
"""While no call is in progress, only each of so many looks is made: an order may be of a call that has ended."""

WINDOW_SECONDS = 5.0
"""So long after a row one with a lower id may become visible."""

_LOG = Logger(namespace="celcombiller.asterisk.live_control.LiveControl")


class ChangeWatch:
    """Looks at the ledger, often while ``is_wanted``, and hands on each row once; an order until it is done."""

    def __init__(
        self,
        clock: Any,
        reader: Reader,
        catalogue: CatalogueHolder,
        is_wanted: Callable[[], bool],
        follow: Callable[[LiveChanges], object],
    ) -> None:
        self._clock = clock
        self._reader = reader
        self._catalogue = catalogue
        self._is_wanted = is_wanted
        self._follow = follow
        self._marks: deque[tuple[float, Marks]] = deque()
        self._seen = LiveChanges()
        self._put_off = LiveChanges()
        self._fault, self._idle_looks = "", 0
        self._loop = LoopingCall(self._begin_look)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin to look."""
        self._loop.start(LOOK_SECONDS, now=False)

    def stop(self) -> None:
        """End."""
        if self._loop.running:
            self._loop.stop()

    def _begin_look(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.look())

    async def look(self) -> None:
        """Look once. What cannot be read now is read later, and acts at the next renewal at the latest."""
        self._idle_looks = 0 if self._is_wanted() else self._idle_looks + 1
        if self._idle_looks % IDLE_LOOKS:
            return
        after = self._marks[0][1] if self._marks else None
        try:
            self._hand_on(await self._reader.read(partial(read_changes, after=after)))
            self._fault = ""
        except BillerError as error:
            self._report(str(error))
        except Exception as error:  # noqa: BLE001  whatever is wrong, the next look may succeed
            self._report(f"{type(error).__name__}: {error}")

    def _keep(self, last: Marks) -> None:
        """Keep the highest ids; those of a while ago are the ones after which everything is read."""
        now = self._clock.seconds()
        self._marks.append((now, last))
        while len(self._marks) > 1 and self._marks[1][0] <= now - WINDOW_SECONDS:
            self._marks.popleft()

    def _hand_on(self, found: LiveChanges) -> None:
        """Hand on what was not seen before; changes of groups when the catalogue that is in use has them."""
        credited = {each: found.credited[each] for each in found.credited.keys() - self._seen.credited.keys()}
        changed = {each: found.changed[each] for each in found.changed.keys() - self._seen.changed.keys()}
        self._seen = found
        if found.too_many:
            self._marks.clear()
        self._keep(found.last)
        waiting = self._put_off.changed | changed
        number = max(self._put_off.catalogue_number, found.catalogue_number)
        if number > self._catalogue.current.number and not self._catalogue.fault:
            self._put_off, waiting = LiveChanges(changed=waiting, catalogue_number=number), {}
        else:
            self._put_off = LiveChanges()
        self._follow(replace(found, credited=credited, changed=waiting))

    def _report(self, fault: str) -> None:
        if fault != self._fault:
            _LOG.warn("Changes do not act on live calls before their next renewal: {fault}", fault=fault)
        self._fault = fault
