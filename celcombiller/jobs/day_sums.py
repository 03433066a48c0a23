"""Adds up transfers by day, every few seconds and in small pieces. Any number of nodes may do it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from celcombiller.core.ledger import bookmarks, day_sums
from celcombiller.runtime.periodic import PeriodicService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from zoneinfo import ZoneInfo

    from sqlalchemy.engine import Connection
    from twisted.internet.defer import Deferred

    from celcombiller.core.ledger.bookmarks import Watermark

LOOK_SECONDS = 5.0
"""How often is looked; a look at nothing new is three reads by index."""


class DaySumService(PeriodicService):
    """Keeps the sums by day as long as the biller runs. ``transact`` and ``read`` are the ways to the database.

    At its first look it begins in the time zone ``zone``, and drops the sums of another one. When another node does so
    later, this one leaves the sums alone.
    """

    def __init__(
        self,
        clock: Any,
        zone: ZoneInfo,
        *,
        transact: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
    ) -> None:
        super().__init__(clock, LOOK_SECONDS, self.look)
        self._zone, self._transact, self._read = zone, transact, read
        self._read_bookmark = partial(bookmarks.read_bookmark, name=day_sums.bookmark_of(zone))
        self._horizon: Watermark | None = None
        self._begun = self._ending = False

    def startService(self) -> None:
        """Begin with a look."""
        self._ending = False
        super().startService()

    def stopService(self) -> Deferred[Any] | None:
        """End after the transaction that is going on; the rest is added up at the next start."""
        self._ending = True
        return super().stopService()

    async def look(self) -> None:
        """Add up the transfers up to a horizon, once all of them are there."""
        horizon = self._horizon = self._horizon or await self._read(bookmarks.find_watermark)
        if not await self._read(partial(bookmarks.is_complete, seen=horizon)):
            return  # the next look asks again of the same horizon: those who wrote then are done sooner or later
        self._horizon = None
        if not self._begun:
            await self._transact(partial(day_sums.begin, zone=self._zone))
            self._begun = True
        after_id: int | None = await self._read(self._read_bookmark)
        while after_id is not None and after_id < horizon.last_id and not self._ending:
            find = partial(day_sums.find, zone=self._zone, after_id=after_id, last_id=horizon.last_id)
            found = await self._read(find)
            if await self._transact(partial(day_sums.add, zone=self._zone, found=found)):
                after_id = found.until_id
            else:  # another node was quicker
                after_id = await self._read(self._read_bookmark)
