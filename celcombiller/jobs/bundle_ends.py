"""End bundles whose time is over, and buy those again that renew themselves. Any number of nodes may do it.

Each renewal is a transaction of its own, and so is the end of some bundles. A fault in one bundle is logged once and
stops none of the others.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from celcombiller.core.bundles import expiry
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.notifications.bundle_notices import notify_not_renewed
from celcombiller.core.schedules.due_dates import local_date
from celcombiller.runtime.log.faults import FaultLog
from celcombiller.runtime.periodic import PeriodicService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from sqlalchemy.engine import Connection
    from twisted.internet.defer import Deferred

    from celcombiller.core.bundles.expiry import Renewal
    from celcombiller.core.notifications.bundle_notices import BundleNotices
    from celcombiller.runtime.metrics import Metrics

LOOK_SECONDS = 60.0
"""The interval between two looks. A bundle pays for nothing after its time, even before its end was seen."""

CHUNK = 100
"""Bundles that one transaction ends, so that a call request waits for no more."""


class BundleEndService(PeriodicService):
    """Ends bundles as long as the biller runs. ``zone`` is that of the days in which spending is limited."""

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        notices: BundleNotices,
        zone: str,
        *,
        transact: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        super().__init__(clock, LOOK_SECONDS, self.look)
        self._notices, self._zone = notices, zone
        self._transact, self._now, self._metrics = transact, now, metrics
        self._faults = FaultLog(self._log)
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
        """Renew and end all that is due, those to be renewed first."""
        await self._until_done(expiry.due_renewals, self._renew)
        await self._until_done(expiry.due_ends, self._end)

    async def _until_done(self, due: Callable[..., list[int]], work: Callable[[list[int]], Awaitable[int]]) -> None:
        """Do the work on what is due until there is no more, or none of it can be done."""
        while not self._ending:
            found: list[int] = await self._transact(partial(due, now=self._now(), limit=CHUNK))
            if not found or await work(found) == 0:
                return

    async def _renew(self, account_ids: list[int]) -> int:
        done = 0
        for account_id in account_ids:
            if self._ending:
                break
            try:
                renewal = await self._transact(partial(self._renew_one, account_id=account_id))
            except StoreUnavailable:
                raise
            except Exception as error:  # noqa: BLE001  one fault must not stop the others
                self._faults.report(f"The renewal of bundle {account_id}", error)
                continue
            done += 1
            if renewal is not None:
                self._report(renewal)
        return done

    def _renew_one(self, tx: Connection, account_id: int) -> Renewal | None:
        now = self._now()
        renewal = expiry.renew(tx, account_id, today=local_date(now, self._zone), now=now)
        if renewal is not None and renewal.renewed is None:
            notify_not_renewed(tx, self._notices, renewal.bundle, now)
        return renewal

    def _report(self, renewal: Renewal) -> None:
        bundle = renewal.bundle
        self._metrics.bundles.count_renewal(renewed=renewal.renewed is not None)
        if renewal.renewed is not None:
            text = "Bundle {id} ({name}) of subscriber {subscriber} was bought again: bundle {new}"
            self._log.info(
                text,
                id=bundle.account_id,
                name=bundle.name,
                subscriber=bundle.subscriber_id,
                new=renewal.renewed.account_id,
            )
        else:
            text = "Bundle {id} ({name}) of subscriber {subscriber} was not bought again: {reason}"
            self._log.warn(
                text, id=bundle.account_id, name=bundle.name, subscriber=bundle.subscriber_id, reason=renewal.reason
            )

    async def _end(self, account_ids: list[int]) -> int:
        try:
            done: int = await self._transact(partial(expiry.end_expired, account_ids=account_ids, now=self._now()))
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  one fault must not stop the others
            if len(account_ids) == 1:
                self._faults.report(f"The end of bundle {account_ids[0]}", error)
                return 0
            return sum([await self._end([each]) for each in account_ids if not self._ending])
        self._metrics.bundles.ended.inc(done)
        return done
