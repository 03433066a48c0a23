"""Looks every few seconds for balances that became low, and has their owners told. Any number of nodes may do it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from celcombiller.core.ledger import bookmarks
from celcombiller.core.notifications import low_balance
from celcombiller.core.notifications.low_balance import BOOKMARK
from celcombiller.runtime.periodic import PeriodicService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from sqlalchemy.engine import Connection
    from twisted.internet.defer import Deferred

    from celcombiller.core.ledger.bookmarks import Watermark
    from celcombiller.core.notifications.low_balance import NoticeResult, NoticeRules
    from celcombiller.core.sms.charging import MessagePolicy
    from celcombiller.runtime.metrics import Metrics

LOOK_SECONDS = 5.0
"""How often is looked; a look at nothing new is three reads by index."""


class LowBalanceService(PeriodicService):
    """Has low balances noticed as long as the biller runs. ``transact`` and ``read`` are the ways to the database."""

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        rules: NoticeRules,
        terms: MessagePolicy,
        *,
        transact: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        super().__init__(clock, LOOK_SECONDS, self.scan)
        self._rules, self._terms = rules, terms
        self._transact, self._read = transact, read
        self._now, self._metrics = now, metrics
        self._horizon: Watermark | None = None
        self._ending = False

    def startService(self) -> None:
        """Begin with a look."""
        self._ending = False
        super().startService()

    def stopService(self) -> Deferred[Any] | None:
        """End after the transaction that is going on; what is not looked at yet, is at the next start."""
        self._ending = True
        return super().stopService()

    async def scan(self) -> None:
        """Look through the transfers up to a horizon, once all of them are there."""
        horizon = self._horizon = self._horizon or await self._read(bookmarks.find_watermark)
        if not await self._read(partial(bookmarks.is_complete, seen=horizon)):
            return  # the next look asks again of the same horizon: those who wrote then are done sooner or later
        self._horizon = None
        after_id = await self._read(partial(bookmarks.read_bookmark, name=BOOKMARK))
        if after_id is None:
            await self._transact(partial(bookmarks.begin_bookmark, name=BOOKMARK, last_id=horizon.last_id))
        while after_id is not None and after_id < horizon.last_id and not self._ending:
            after_id = await self._scan_batch(after_id, horizon.last_id)
        if not self._ending:
            self._metrics.notices.record_progress(self._now())

    async def _scan_batch(self, after_id: int, last_id: int) -> int | None:
        """Look through some, and give how far it came."""
        now = self._now()
        found = await self._read(
            partial(low_balance.find, rules=self._rules, after_id=after_id, last_id=last_id, now=now)
        )
        queue = partial(low_balance.queue, rules=self._rules, terms=self._terms, found=found, now=now)
        noticed = await self._transact(queue)
        if noticed is None:  # another node was quicker
            until_id: int | None = await self._read(partial(bookmarks.read_bookmark, name=BOOKMARK))
            return until_id
        for each in noticed:
            self._tell(each)
        done_until: int = found.until_id
        return done_until

    def _tell(self, noticed: NoticeResult) -> None:
        crossing = noticed.crossing
        self._metrics.notices.count(queued=noticed.reference is not None)
        if noticed.reference is not None:
            self._log.info(
                "Notice of {threshold} queued for …{last}: transfer {id} left {posted} credits",
                threshold=crossing.threshold,
                last=crossing.to_number[-4:],
                id=crossing.transfer_id,
                posted=crossing.posted,
            )
        else:
            self._log.warn(
                "Notice of {threshold} for …{last} cannot be sent: {why}",
                threshold=crossing.threshold,
                last=crossing.to_number[-4:],
                why=noticed.note,
            )
