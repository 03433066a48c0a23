"""Notes top-ups, warns subscribers, and takes credit whose time is over. Any number of nodes may do it.

Each piece is a short transaction, so that calls wait for none of them. A fault in one account is logged once and stops
none of the others.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.ledger import bookmarks
from celcombiller.core.notifications import validity_notices
from celcombiller.core.validity import end_dates, expiry
from celcombiller.runtime.log.faults import FaultLog
from celcombiller.runtime.periodic import PeriodicService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from sqlalchemy.engine import Connection
    from twisted.internet.defer import Deferred

    from celcombiller.core.ledger.balance_format import BalanceStyle
    from celcombiller.core.ledger.bookmarks import Watermark
    from celcombiller.core.model.accounts import Kind
    from celcombiller.core.sms.charging import MessagePolicy
    from celcombiller.core.validity.expiry import ExpiredCredit
    from celcombiller.core.validity.validity_terms import ValidityTerms
    from celcombiller.runtime.metrics import Metrics

LOOK_SECONDS = 60.0
"""The interval between two looks."""

CHUNK = 100
"""Accounts of which one transaction takes credit, so that a call request waits for no more."""

OPENING_CHUNK = 1000
"""Accounts that one transaction enters when credit begins to have an end."""


class CreditValidityService(PeriodicService):
    """Ends credit as long as the biller runs. ``transact`` and ``read`` are the ways to the database.

    Without days for any kind, it ends what an earlier setting began, and then does nothing.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        terms: ValidityTerms,
        style: BalanceStyle,
        policy: MessagePolicy,
        *,
        transact: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        super().__init__(clock, LOOK_SECONDS, self.look)
        self._terms, self._style, self._policy = terms, style, policy
        self._top_ups = " ".join(sorted(terms.top_ups))
        self._transact, self._read = transact, read
        self._now, self._metrics = now, metrics.validity
        self._faults = FaultLog(self._log)
        self._horizon: Watermark | None = None
        self._ending = False

    def startService(self) -> None:
        """Begin with a look."""
        self._ending = False
        super().startService()

    def stopService(self) -> Deferred[Any] | None:
        """End after the transaction that is going on; the rest is done at the next start."""
        self._ending = True
        return super().stopService()

    async def look(self) -> None:
        """Do all that is due: the terms first, then the top-ups, so that no credit ends that was topped up."""
        horizon = self._horizon = self._horizon or await self._read(bookmarks.find_watermark)
        if not await self._read(partial(bookmarks.is_complete, seen=horizon)):
            return  # the next look asks again of the same horizon: those who wrote then are done sooner or later
        self._horizon = None
        await self._update_terms(horizon.last_id)
        if not self._terms.days:
            return
        await self._scan(horizon.last_id)
        for kind in self._terms.days:
            await self._repeat(partial(end_dates.open_accounts, kind=kind, limit=OPENING_CHUNK, now=self._now()))
            await self._repeat(partial(self._warn, kind=kind))
            await self._expire(kind)
        if not self._ending:
            self._metrics.looked_at.set(self._now().timestamp())

    async def _update_terms(self, last_id: int) -> None:
        days, now = self._terms.days, self._now()
        if await self._read(partial(end_dates.are_current, days=days, now=now)):
            return
        paused = await self._transact(partial(end_dates.update_terms, days=days, last_id=last_id, now=now))
        for kind in paused:
            text = "The biller stood still for more than a day, or the clock was set: no {kind} credit ends for 2 days"
            self._log.warn(text, kind=kind)

    async def _scan(self, last_id: int) -> None:
        after_id = await self._read(partial(bookmarks.read_bookmark, name=end_dates.BOOKMARK))
        while after_id is not None and after_id < last_id and not self._ending:
            until_id = min(last_id, after_id + end_dates.IDS_PER_SCAN_MAX)
            scan = partial(end_dates.scan, terms=self._terms, after_id=after_id, until_id=until_id, now=self._now())
            if await self._transact(scan):
                after_id = until_id
            else:  # another node was quicker
                after_id = await self._read(partial(bookmarks.read_bookmark, name=end_dates.BOOKMARK))

    async def _repeat(self, work: Callable[[Connection], object]) -> None:
        while not self._ending and await self._transact(work):
            pass

    def _warn(self, tx: Connection, kind: Kind) -> bool:
        done = validity_notices.queue(tx, self._terms, kind, self._style, self._policy, self._now())
        for reference, refusal in done.items():
            self._metrics.count_notice(queued=not refusal)
            if refusal:
                self._log.warn("{reference} cannot be sent: {why}", reference=reference, why=refusal)
        return bool(done)

    async def _expire(self, kind: Kind) -> None:
        while not self._ending:
            due = partial(expiry.due, kind=kind, zone=self._terms.zone, now=self._now(), limit=CHUNK)
            found: list[int] = await self._read(due)
            if not found or await self._take(kind, found) == 0:
                return

    async def _take(self, kind: Kind, account_ids: list[int]) -> int:
        """Take what has ended of some accounts, one by one where that fails; return how many were done."""
        expire = partial(expiry.expire, top_ups=self._top_ups, zone=self._terms.zone, now=self._now())
        try:
            taken, done = await self._transact(partial(expire, kind=kind, account_ids=account_ids))
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  one fault must not stop the others
            if len(account_ids) == 1:
                self._faults.report(f"The end of the credit of account {account_ids[0]}", error)
                return 0
            return sum([await self._take(kind, [each]) for each in account_ids if not self._ending])
        self._report(taken)
        count: int = done
        return count

    def _report(self, taken: list[ExpiredCredit]) -> None:
        for each in taken:
            self._metrics.count_expired(each.kind, each.amount)
            self._log.info(
                "{amount} {kind} credits of account {account} expired: valid until {day}",
                amount=each.amount,
                kind=each.kind,
                account=each.account_id,
                day=each.valid_until,
            )
