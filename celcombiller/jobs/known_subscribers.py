"""Keeps what the biller remembers of its subscribers fresh, while the ledger can be asked."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from twisted.logger import Logger

from celcombiller.core.errors import BillerError
from celcombiller.core.subscribers.known_reads import PAGE, list_recent, read_page, read_these

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import date, datetime, tzinfo

    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.subscribers.known_subscribers import KnownSubscribers
    from celcombiller.database.reader import Reader

T = TypeVar("T")

REFRESH_SECONDS = 5.0
"""How often some of them are read again: those who called since, and the next page of all."""

_LOG = Logger()


class KnownSubscriberReads:
    """Reads who is known: at first as many as there is room for, then again and again some of them."""

    def __init__(self, known: KnownSubscribers, reader: Reader, zone: tzinfo, now: Callable[[], datetime]) -> None:
        self._known = known
        self._reader = reader
        self._zone = zone
        self._now = now
        self._after = 0
        self._has_begun = False

    async def refresh(self) -> None:
        """Read who called since, and the next page; at the first time, all that there is room for.

        A ledger that does not answer is no fault here: what is known stays.
        """
        try:
            if not self._has_begun:
                await self._begin()
            used = self._known.take_used(PAGE)
            if used:
                self._learn(used, await self._read_these(used))
            await self._read_next()
        except BillerError as error:
            _LOG.debug("Known subscribers are not read again now: {error}", error=str(error))

    async def _begin(self) -> None:
        """Read page after page; where not all have room, those who called or were called last."""
        await self._read_next()
        while self._after and not self._known.is_full:
            await self._read_next()
        if self._known.is_full:
            most = len(self._known)
            recent = (await self._reader.read(partial(list_recent, most=most)))[:most]
            for start in range(0, len(recent), PAGE):
                ids = recent[start : start + PAGE]
                self._learn(ids, await self._read_these(ids))
            self._known.use(*reversed(recent))
        self._has_begun = True

    async def _read_next(self) -> None:
        """Read the next page and begin again after the last: of all, or if not all have room, of those known."""
        if self._known.is_full and not self._known.is_whole:
            ids = sorted(each for each in self._known if each > self._after)[:PAGE]
            self._learn(ids, await self._read_these(ids))
            self._after = ids[-1] if len(ids) == PAGE else 0
            return
        after = self._after
        page = await self._reader.read(partial(read_page, after=after, today=self._today))
        is_last = len(page) < PAGE
        last = max((each.id for each, _ in page), default=after)
        gone = {each for each in self._known if after < each and (each <= last or is_last)}
        room = [(each, left) for each, left in page if not self._known.is_full or each.id in self._known]
        for each, left in room:
            if not self._known.is_full or each.id in self._known:
                self._known.learn(each, left)
        for each_id in gone - {each.id for each, _ in page}:
            self._known.forget(each_id)
        self._after = 0 if is_last else last
        self._known.is_whole = (is_last or self._known.is_whole) and all(each.id in self._known for each, _ in page)

    async def _read_these(self, ids: list[int]) -> list[tuple[Subscriber, int]]:
        return await self._reader.read(partial(read_these, ids=ids, today=self._today)) if ids else []

    def _learn(self, ids: Iterable[int], found: Iterable[tuple[Subscriber, int]]) -> None:
        missing = set(ids)
        for each, left in found:
            missing.discard(each.id)
            self._known.learn(each, left)
        for each_id in missing:
            self._known.forget(each_id)

    @property
    def _today(self) -> date:
        return self._now().astimezone(self._zone).date()
