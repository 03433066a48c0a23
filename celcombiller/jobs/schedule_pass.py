"""One pass over all due schedules."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from sqlalchemy.exc import DataError, IntegrityError

from celcombiller.core.errors import StoreUnavailable, UnknownSchedule
from celcombiller.core.schedules import runs, schedule_records
from celcombiller.core.schedules.due_dates import last_come
from celcombiller.core.schedules.runs import Advance, Decision

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.schedules import Run, Schedule
    from celcombiller.core.schedules.runs import ScheduleRules

T = TypeVar("T")


CHUNK_SECONDS = 0.025
"""How long a chunk should take with its commit: a call that asks meanwhile waits for no more than the one before it."""


SIZE_FIRST, SIZE_LEAST, SIZE_MOST = 200, 20, 5000
"""Members in a chunk: the first one, and the bounds between which the measured time moves the next ones."""


class Transact(Protocol):
    """How the round reaches the database: the store's own, or one that does the work here and now."""

    def __call__(self, work: Callable[[Connection], T], /) -> Awaitable[T]:
        """Do the work in a transaction of its own, perhaps twice."""


@dataclass(frozen=True, slots=True)
class PassFailure:
    """What could not be done for one schedule, and why; the round went on with the others and will come back."""

    schedule_id: int
    error: Exception


PassEvent = Decision | Advance | PassFailure


class SchedulePass:
    """Looks for what is due and credits it. ``tell`` hears each decision, each chunk, and what broke."""

    def __init__(
        self,
        transact: Transact,
        rules: ScheduleRules,
        *,
        clock: Callable[[], datetime],
        seconds: Callable[[], float],
        tell: Callable[[PassEvent], None],
    ) -> None:
        self._transact = transact
        self._rules = rules
        self._clock = clock
        self._seconds = seconds
        self._tell = tell
        self._size = SIZE_FIRST
        self.stopping = False

    async def run(self, only: int | None = None) -> None:
        """Do all that is due by now, of one schedule where it is named. Raises when the database is away."""
        for schedule in await self._transact(schedule_records.list_all):
            if only in (None, schedule.id) and not self.stopping:
                await self._alone(schedule.id, self._decide(schedule))
        for run in await self._transact(runs.open_runs):
            if only in (None, run.schedule_id) and not self.stopping:
                await self._alone(run.schedule_id, self._carry_out(run))
        while not self.stopping and await self._transact(partial(schedule_records.end_orphans, now=self._clock())) > 0:
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
            self._tell(PassFailure(schedule_id, error))

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
