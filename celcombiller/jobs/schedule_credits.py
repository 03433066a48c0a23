"""The round that credits what is due: decide each schedule, then advance each open run, chunk after chunk.

It is driven by what is due in the database, never by what time it was the last time. Each step is a transaction of its
own through the door, so calls get in between; one that breaks spoils no other schedule and no other member.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.schedules import runs
from celcombiller.core.schedules.runs import Advance, Decision
from celcombiller.jobs.schedule_pass import PassEvent, PassFailure, SchedulePass, Transact
from celcombiller.runtime.metrics import Metrics
from celcombiller.runtime.periodic import PeriodicService

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from twisted.internet.defer import Deferred

    from celcombiller.core.schedules.runs import ScheduleRules

LOOK_SECONDS = 60.0
"""How often the service looks for what is due, so a date is credited within a minute of its run time."""


PROGRESS_SECONDS = 10.0
"""How often a long run says in the log how far it is."""


FAILURES_TOLD = 20
"""Members of one run whose failure has a line of its own in the log; all are in the run's history."""


class ScheduleCreditService(PeriodicService):
    """Goes on its round at the start and every minute, and tells the log. It stops between two chunks."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        transact: Transact,
        rules: ScheduleRules,
        clock: Callable[[], datetime],
        metrics: Metrics | None = None,
    ) -> None:
        self._transact, self._rules, self._clock = transact, rules, clock
        self._metrics = metrics or Metrics()
        self._round = SchedulePass(transact, rules, clock=clock, seconds=reactor.seconds, tell=self._tell)
        self._uptime: Callable[[], float] = reactor.seconds
        self._told_at: dict[int, float] = {}
        self._absent: set[tuple[int, int]] = set()
        self._away = False
        super().__init__(reactor, LOOK_SECONDS, self._look)

    def startService(self) -> None:
        """Go on the first round at once."""
        self._round.stopping = False
        super().startService()

    def stopService(self) -> Deferred[Any] | None:
        """End after the chunk that is going on."""
        self._round.stopping = True
        return super().stopService()

    async def _look(self) -> None:
        try:
            await self._measure()
            await self._round.run()
            if not self._round.stopping:
                await self._measure()
        except StoreUnavailable as error:
            if not self._away:
                self._log.warn("Schedules wait for the database: {error}", error=error)
            self._away = True
        else:
            self._away = False

    async def _measure(self) -> None:
        """Record how late the schedules are, before a pass, which may be long, and after it."""
        now = self._clock()
        since = await self._transact(partial(runs.owed_since, rules=self._rules, now=now))
        self._metrics.schedules.record_lag(0.0 if since is None else (now - since).total_seconds(), now)

    def _tell(self, told: PassEvent) -> None:
        match told:
            case Decision():
                self._tell_decision(told)
            case Advance():
                self._tell_advance(told)
            case PassFailure():
                text = "Schedule {id} could not be credited; the next look tries again"
                self._log.failure(text, Failure(told.error), id=told.schedule_id)

    def _tell_decision(self, decision: Decision) -> None:
        schedule = decision.schedule
        if decision.absent_days is not None:
            if (schedule.id, decision.absent_days) not in self._absent:
                self._absent.add((schedule.id, decision.absent_days))
                self._log.warn(
                    "Schedule {id} ({name}) waits: nothing was credited for {days} days since {since}. If the clock is "
                    "right, `celcombiller schedules run --overdue` catches up.",
                    id=schedule.id,
                    name=schedule.name,
                    days=decision.absent_days,
                    since=schedule.done_until,
                )
            return
        for run in decision.runs:
            self._log.info(
                "Schedule {id} ({name}), due on {due_on}: {what}",
                id=schedule.id,
                name=schedule.name,
                due_on=run.due_on,
                what=run.note or f"{run.value} {'to' if run.when_short is None else 'from'} each member",
            )

    def _tell_advance(self, advance: Advance) -> None:
        run, now = advance.run, self._uptime()
        if run.when_short is not None:
            self._metrics.fees.count_run(taken=advance.done, unpaid=advance.unpaid, value=run.value)
        if run.failed - len(advance.failures) < FAILURES_TOLD:
            for failure in advance.failures:
                self._log.warn(
                    "Schedule {id}, due on {due_on}: subscriber {subscriber} was not credited: {reason}",
                    id=run.schedule_id,
                    due_on=run.due_on,
                    subscriber=failure.subscriber_id,
                    reason=failure.reason,
                )
        if advance.more and now - self._told_at.setdefault(run.id, now) < PROGRESS_SECONDS:
            return
        if advance.more or self._told_at.pop(run.id, None) is not None:
            self._log.info(
                "Schedule {id}, due on {due_on}: {credited} credited, {passed} passed over, {failed} failed {so_far}",
                id=run.schedule_id,
                due_on=run.due_on,
                credited=run.credited,
                passed=run.passed,
                failed=run.failed,
                so_far="so far" if advance.more else "in all",
            )
        if advance.more:
            self._told_at[run.id] = now
