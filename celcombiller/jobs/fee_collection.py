"""What happens to fees between due dates: they are paid by top-ups, suspend, are undone, and members are reminded.

Any number of nodes may do it. Each step is a short transaction of its own, so that calls wait for none of them; a fault
in one fee is logged once and stops none of the others.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.model.schedules import FeeState
from celcombiller.core.notifications import fee_notices
from celcombiller.core.schedules import fee_periods
from celcombiller.runtime.log.faults import FaultLog
from celcombiller.runtime.periodic import PeriodicService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime, time

    from sqlalchemy.engine import Connection
    from twisted.internet.defer import Deferred

    from celcombiller.core.model.schedules import FeePeriod, Run
    from celcombiller.core.notifications.fee_notices import FeeNotices, Reminder
    from celcombiller.core.schedules.fee_periods import Collected
    from celcombiller.runtime.metrics import Metrics

LOOK_SECONDS = 20.0
"""The interval between two looks: who tops up has paid, and is on again, within it."""

CHUNK = 50
"""Fees that one transaction takes, so that a call request waits for no more."""


class FeePass:
    """Does all that is due of fees now. ``tell`` hears of each fee that was taken and of who was suspended.

    ``transact`` and ``read`` are the ways to the database.
    """

    def __init__(
        self,
        notices: FeeNotices,
        run_at: time,
        *,
        transact: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        now: Callable[[], datetime],
        tell: Callable[[Collected | FeePeriod], None],
        faults: FaultLog,
    ) -> None:
        self._notices, self._run_at = notices, run_at
        self._transact, self._read, self._now, self._tell = transact, read, now, tell
        self._faults = faults
        self._finished: set[int] = set()
        """The runs of which all is undone."""
        self.stopping = False

    async def run(self) -> None:
        """Undo what is to be undone, take what can be paid, suspend who owes too long. Raises `StoreUnavailable`."""
        undone = await self._read(partial(fee_periods.list_undone_runs, finished=self._finished))
        for run, is_left in undone.items():
            if is_left:
                await self._repeat("The undoing of a run", partial(self._undo, run=run))
            else:
                self._finished.add(run.id)
        await self._repeat("The end of fees of what was deleted", self._cancel)
        await self._collect_all()
        await self._repeat("The suspension for unpaid fees", self._suspend)
        due = partial(fee_notices.list_due, notices=self._notices, run_at=self._run_at, now=self._now())
        for reminder in await self._read(due):
            await self._repeat("A reminder of a fee", partial(self._remind, reminder=reminder))

    async def _repeat(self, subject: str, work: Callable[[Connection], int]) -> None:
        """Do the work, each time in a transaction of its own, until it has found nothing more."""
        try:
            while not self.stopping and await self._transact(work):
                pass
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  one fault must not stop the others
            self._faults.report(subject, error)

    async def _collect_all(self) -> None:
        after_id = 0
        while not self.stopping:
            find = partial(fee_periods.list_collectable, now=self._now(), after_id=after_id, limit=CHUNK)
            found: list[int] = await self._read(find)
            if not found:
                return
            await self._collect(found)
            after_id = found[-1]

    async def _collect(self, period_ids: Sequence[int]) -> None:
        def work(tx: Connection) -> list[Collected]:
            now = self._now()
            collected = fee_periods.collect(tx, period_ids, now)
            for each in collected:
                if each.resumed and each.period.state is FeeState.PAID:
                    fee_notices.notify_resumed(tx, self._notices, each.period, now)
            return collected

        try:
            collected = await self._transact(work)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  one fault must not stop the others
            if len(period_ids) == 1:
                self._faults.report(f"The taking of fee {period_ids[0]}", error)
                return
            for each in period_ids:
                await self._collect([each])
            return
        for paid in collected:
            self._tell(paid)

    def _undo(self, tx: Connection, run: Run) -> int:
        return fee_periods.undo_some(tx, run, self._now())

    def _cancel(self, tx: Connection) -> int:
        return fee_periods.cancel_orphans(tx, self._now())

    def _suspend(self, tx: Connection) -> int:
        now = self._now()
        periods, found = fee_periods.suspend_some(tx, now)
        for each in periods:
            fee_notices.notify_suspended(tx, self._notices, each, now)
            self._tell(each)
        return found

    def _remind(self, tx: Connection, reminder: Reminder) -> int:
        return fee_notices.remind_some(tx, self._notices, reminder, self._now())


class FeeCollectionService(PeriodicService):
    """Looks after fees as long as the biller runs."""

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        notices: FeeNotices,
        run_at: time,
        *,
        transact: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        faults = FaultLog(self._log)
        self._pass = FeePass(notices, run_at, transact=transact, read=read, now=now, tell=self._report, faults=faults)
        self._now = now
        super().__init__(clock, LOOK_SECONDS, self.look)

    def startService(self) -> None:
        """Begin with a look."""
        self._pass.stopping = False
        super().startService()

    def stopService(self) -> Deferred[Any] | None:
        """End after the transaction that is going on; the rest is done at the next start."""
        self._pass.stopping = True
        return super().stopService()

    async def look(self) -> None:
        """Do all that is due now."""
        await self._pass.run()
        if not self._pass.stopping:
            self._metrics.fees.looked_at.set(self._now().timestamp())

    def _report(self, event: Collected | FeePeriod) -> None:
        if isinstance(event, fee_periods.Collected):
            period = event.period
            self._metrics.fees.count_collected(event.taken)
            text = "Fee {id} of subscriber {subscriber}, due on {due_on}: {taken} taken later, {left} left"
            facts = {"id": period.id, "subscriber": period.subscriber_id, "due_on": period.due_on}
            self._log.info(text, taken=event.taken, left=period.left, **facts)
        else:
            self._metrics.fees.suspended.inc()
            text = "Subscriber {subscriber} is suspended: fee {id}, due on {due_on}, is unpaid"
            self._log.info(text, subscriber=event.subscriber_id, id=event.id, due_on=event.due_on)
