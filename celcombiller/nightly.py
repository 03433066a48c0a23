"""The round that credits what is due: decide each schedule, then advance each open run, chunk after chunk.

It is driven by what is due in the database, never by what time it was the last time. Each step is a transaction of its
own through the door, so calls get in between; one that breaks spoils no other schedule and no other member.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy.exc import DataError, IntegrityError
from twisted.logger import Logger
from twisted.python.failure import Failure

from celcombiller import runs, schedules
from celcombiller.calendar import last_come
from celcombiller.errors import StoreUnavailable, UnknownSchedule
from celcombiller.metrics import Metrics
from celcombiller.periodic import PeriodicService
from celcombiller.runs import Advance, Decision

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from sqlalchemy.engine import Connection
    from twisted.internet.defer import Deferred

    from celcombiller.model import Run, Schedule
    from celcombiller.runs import Rules

T = TypeVar("T")

LOOK_SECONDS = 60.0
"""How often the service looks for what is due, so a date is credited within a minute of its run time."""

CHUNK_SECONDS = 0.025
"""How long a chunk should take with its commit: a call that asks meanwhile waits for no more than the one before it."""

SIZE_FIRST, SIZE_LEAST, SIZE_MOST = 200, 20, 5000
"""Members in a chunk: the first one, and the bounds between which the measured time moves the next ones."""

PROGRESS_SECONDS = 10.0
"""How often a long run says in the log how far it is."""

FAILURES_TOLD = 20
"""Members of one run whose failure has a line of its own in the log; all are in the run's history."""


class Transact(Protocol):
    """How the round reaches the database: the store's own, or one that does the work here and now."""

    def __call__(self, work: Callable[[Connection], T], /) -> Awaitable[T]:
        """Do the work in a transaction of its own, perhaps twice."""


@dataclass(frozen=True, slots=True)
class Broken:
    """What could not be done for one schedule, and why; the round went on with the others and will come back."""

    schedule_id: int
    error: Exception


Told = Decision | Advance | Broken


class Round:
    """Looks for what is due and credits it. ``tell`` hears each decision, each chunk, and what broke."""

    def __init__(
        self,
        transact: Transact,
        rules: Rules,
        *,
        clock: Callable[[], datetime],
        seconds: Callable[[], float],
        tell: Callable[[Told], None],
    ) -> None:
        self._transact = transact
        self._rules = rules
        self._clock = clock
        self._seconds = seconds
        self._tell = tell
        self._size = SIZE_FIRST
        self.stopping = False

    async def go(self, only: int | None = None) -> None:
        """Do all that is due by now, of one schedule where it is named. Raises when the database is away."""
        for schedule in await self._transact(schedules.everything):
            if only in (None, schedule.id) and not self.stopping:
                await self._alone(schedule.id, self._decide(schedule))
        for run in await self._transact(runs.open_runs):
            if only in (None, run.schedule_id) and not self.stopping:
                await self._alone(run.schedule_id, self._carry_out(run))
        while not self.stopping and await self._transact(partial(schedules.end_orphans, now=self._clock())) > 0:
            pass

    async def _alone(self, schedule_id: int, work: Awaitable[None]) -> None:
        """Keep what breaks in one schedule from the others; a database that is away is everybody's."""
        try:
            await work
        except StoreUnavailable:
            raise
        except UnknownSchedule:
            pass  # deleted between our look and our turn
        except Exception as error:  # noqa: BLE001  whatever it is, the other groups get their credit
            self._tell(Broken(schedule_id, error))

    async def _decide(self, schedule: Schedule) -> None:
        now = self._clock()
        today = last_come(now, self._rules.run_at, schedule.time_zone)
        if today > schedule.done_until:
            decide = partial(runs.decide, schedule_id=schedule.id, rules=self._rules, today=today, now=now)
            self._tell(await self._transact(decide))

    async def _carry_out(self, run: Run) -> None:
        more = True
        while more and not self.stopping:
            size = self._size
            try:
                more = self._told(await self._advance(run, size))
            except (IntegrityError, DataError):
                more = await self._one_by_one(run, size)

    async def _one_by_one(self, run: Run, size: int) -> bool:
        """Do a chunk again that failed as a whole: whoever breaks it alone is recorded as failed, and passed over."""
        for _ in range(size):
            try:
                advance = await self._advance(run, 1)
            except (IntegrityError, DataError) as error:
                advance = await self._advance(run, 1, fault=str(error.orig).strip().splitlines()[0])
            if not self._told(advance):
                return False
        return True

    def _told(self, advance: Advance) -> bool:
        self._tell(advance)
        return advance.more

    async def _advance(self, run: Run, size: int, fault: str = "") -> Advance:
        def work(tx: Connection) -> tuple[Advance, float]:
            began = self._seconds()
            return runs.advance(tx, run.id, self._rules, self._clock(), size=size, fault=fault), began

        advance, began = await self._transact(work)
        took = self._seconds() - began  # with its commit, which a call that asks meanwhile waits for as well
        if size == self._size and advance.more:
            fitting = round(size * CHUNK_SECONDS / max(took, CHUNK_SECONDS / 10))
            self._size = max(SIZE_LEAST, min(fitting, 2 * size, SIZE_MOST))
        return advance


class CreditService(PeriodicService):
    """Goes on its round at the start and every minute, and tells the log. It stops between two chunks."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        transact: Transact,
        rules: Rules,
        clock: Callable[[], datetime],
        metrics: Metrics | None = None,
    ) -> None:
        self._transact, self._rules, self._clock = transact, rules, clock
        self._metrics = metrics or Metrics()
        self._round = Round(transact, rules, clock=clock, seconds=reactor.seconds, tell=self._tell)
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
            await self._round.go()
            if not self._round.stopping:
                await self._measure()
        except StoreUnavailable as error:
            if not self._away:
                self._log.warn("Schedules wait for the database: {error}", error=error)
            self._away = True
        else:
            self._away = False

    async def _measure(self) -> None:
        """Tell the metrics how late the schedules are, before a round, which may be long, and after it."""
        now = self._clock()
        since = await self._transact(partial(runs.owed_since, rules=self._rules, now=now))
        self._metrics.scheduled(0.0 if since is None else (now - since).total_seconds(), now)

    def _tell(self, told: Told) -> None:
        match told:
            case Decision():
                self._tell_decision(told)
            case Advance():
                self._tell_advance(told)
            case Broken():
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
                what=run.note or f"{run.value} to each member",
            )

    def _tell_advance(self, advance: Advance) -> None:
        run, now = advance.run, self._uptime()
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
