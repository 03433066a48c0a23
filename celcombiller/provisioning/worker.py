"""Brings one network where the queue says it should be: reads, does what is lacking, reads again, and says what became.

A row is claimed, worked and finished in three parts; a crash between them leaves it to be worked again, which is
harmless, because what there is to do is found by looking at the network and not by remembering.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from celcombiller.core.errors import InvalidValue, NetworkUnavailable, StoreUnavailable
from celcombiller.core.provisioning import work_queue
from celcombiller.core.provisioning.entries import describe_unreadable
from celcombiller.core.provisioning.network import NetworkRefused, check_digits, check_imsi
from celcombiller.core.provisioning.plan import Step, Verb, apply_step, plan_steps
from celcombiller.runtime.periodic import PeriodicService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from sqlalchemy.engine import Connection

    from celcombiller.core.provisioning.entries import ProvisioningEntry
    from celcombiller.core.provisioning.network import Network
    from celcombiller.core.provisioning.work_queue import ProvisioningTask

T = TypeVar("T")

POLL_SECONDS = 1.0
"""How often the queue is looked at; a look at an empty one is one read by index."""

BATCH_MAX = 100
"""Rows worked together: OpenBTS gives its whole list for each look, so a look must serve many."""

LEASE = timedelta(seconds=90)
"""How long a claimed row belongs to the process that claimed it; if the process dies, the row waits until then."""

WORK = timedelta(seconds=30)
"""How long a batch may be worked. What is not begun by then is given back, so that no step comes near the lease."""

HOLDERS_ROUNDS_MAX = 5


@dataclass(slots=True)
class _Batch:
    """What was claimed, what the network knows of it, and what became of each row (``None``: nothing to complain)."""

    due: list[ProvisioningTask]
    there: list[ProvisioningEntry] = field(default_factory=list)
    said: dict[tuple[str, int], str | None] = field(default_factory=dict)
    away: str | None = None


class ProvisioningWorker:
    """The one who works the queue of one network. Several, on several nodes, do not get in each other's way.

    ``transact`` does a unit of work in the database, ``read`` one that only reads; ``now`` is the time.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        network: Network,
        *,
        transact: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        now: Callable[[], datetime],
        retry_seconds_max: float,
    ) -> None:
        self.name = name
        self.network = network
        self._transact = transact
        self._read = read
        self._now = now
        self._retry_seconds_max = retry_seconds_max
        self._ending = False
        self._is_away = False
        self._warned_of = ""

    async def work(self) -> None:
        """Work batch after batch, until nothing is due or the network is away."""
        try:
            while not self._ending and await self._read(partial(work_queue.is_due, name=self.name, now=self._now())):
                if not await self.batch():
                    break
        except StoreUnavailable as error:
            self._log.warn("Network {name}: {error}; its queue waits", name=self.name, error=str(error))

    async def close(self) -> None:
        """End after the step that is going on."""
        self._ending = True
        await self.network.close()

    async def batch(self) -> bool:
        """Work one batch; tell whether to go on."""
        owner = uuid.uuid4().hex
        now = self._now()
        claim = partial(work_queue.claim, name=self.name, owner=owner, now=now, limit=BATCH_MAX, lease=LEASE)
        due: list[ProvisioningTask] = await self._transact(claim)
        if not due:
            return False
        batch = _Batch([self._as_kept(each) for each in due])
        try:
            _refuse_wrong(batch)
            await self._look(batch, owner)
            await self._bring(batch, now + WORK)
            await self._look_again(batch)
        except NetworkUnavailable as error:
            batch.away = str(error)
        await self._transact(partial(self._finish, owner=owner, batch=batch, now=self._now()))
        self._tell(batch)
        return batch.away is None

    def _as_kept(self, due: ProvisioningTask) -> ProvisioningTask:
        if due.entry is None or self.network.keeps_names:
            return due
        return replace(due, entry=replace(due.entry, name=""))

    async def _look(self, batch: _Batch, owner: str) -> None:
        """Read what the network knows of the batch; who waits with a number that is wanted here comes in too."""
        for _ in range(HOLDERS_ROUNDS_MAX):
            batch.there = await self.network.read(*_named(batch.due))
            _, numbers = _named(batch.due)
            known = {each.imsi for each in batch.due}
            holders = {each.imsi for each in batch.there if each.msisdn in numbers and each.imsi not in known}
            if not holders:
                return
            claim = partial(
                work_queue.claim_these, name=self.name, imsis=holders, owner=owner, now=self._now(), lease=LEASE
            )
            more: list[ProvisioningTask] = await self._transact(claim)
            if not more:
                return
            batch.due += map(self._as_kept, more)

    async def _bring(self, batch: _Batch, until: datetime) -> None:
        """Do what is lacking, row by row; one that is refused spoils no other."""
        for due in batch.due:
            if self._ending or self._now() > until:
                return
            key = (due.imsi, due.version)
            try:
                for step in plan_steps(due, batch.there, _movable(batch.due, due)):
                    await self._do(step)
                    batch.there = apply_step(batch.there, step)
            except (NetworkRefused, InvalidValue) as error:
                batch.said[key] = str(error)
            except NetworkUnavailable as error:
                batch.said[key] = str(error)  # it may be this very row that the network does not bear
                raise
            else:
                batch.said[key] = None

    async def _do(self, step: Step) -> None:
        match step:
            case Step(Verb.CREATE, entry=entry) if entry is not None:
                await self.network.create(entry)
            case Step(Verb.CHANGE, was=was, entry=entry) if was is not None and entry is not None:
                await self.network.change(was, entry)
            case Step(Verb.FREE, was=was) if was is not None:
                await self.network.free(was)
            case _:
                await self.network.delete(step.imsi)

    async def _look_again(self, batch: _Batch) -> None:
        """Believe what the network knows and not what it answered."""
        done = [each for each in batch.due if batch.said.get((each.imsi, each.version), "") is None]
        if not done:
            return
        try:
            there = await self.network.read({each.imsi for each in done}, set())
        except BaseException:
            for each in done:  # nothing is known of them: no fault of theirs, and not done
                del batch.said[each.imsi, each.version]
            raise
        for each in done:
            mine = [entry for entry in there if entry.imsi == each.imsi]
            if mine != ([] if each.entry is None else [each.entry]):
                batch.said[each.imsi, each.version] = "the network said it did this, and did not"

    def _finish(self, tx: Connection, owner: str, batch: _Batch, now: datetime) -> None:
        said = batch.said
        if batch.away is None:
            unreadable = self.network.unreadable
            warning = None if unreadable is None else describe_unreadable(unreadable)
            work_queue.record_answer(tx, self.name, now, warning)
        elif self._ending:
            said = {}
        else:  # what was done before is not confirmed
            said = {key: why for key, why in said.items() if why is not None}
            work_queue.record_failure(tx, self.name, batch.away, now, retry_seconds_max=self._retry_seconds_max)
        work_queue.finish(tx, self.name, owner, said, now, retry_seconds_max=self._retry_seconds_max)

    def _tell(self, batch: _Batch) -> None:
        """Log what an operator wants to know: once when a network goes away, and once when it is back."""
        if self._ending:
            return
        if batch.away is not None:
            if not self._is_away:
                self._log.warn("Network {name} is away: {why}; its queue waits", name=self.name, why=batch.away)
            self._is_away = True
            return
        if self._is_away:
            self._log.info("Network {name} is back", name=self.name)
        self._is_away = False
        warning = describe_unreadable(self.network.unreadable or ())
        if warning and warning != self._warned_of:
            self._log.warn("Network {name}: {warning}", name=self.name, warning=warning)
        self._warned_of = warning
        for (imsi, _), why in batch.said.items():
            if why is None:
                self._log.info("Network {name}: IMSI …{last} is as it should be", name=self.name, last=imsi[-4:])
            else:
                self._log.warn("Network {name}: IMSI …{last}: {why}", name=self.name, last=imsi[-4:], why=why)


def _refuse_wrong(batch: _Batch) -> None:
    """Take out of the batch what cannot be said to a network: somebody wrote it into the tables by hand."""
    right = []
    for each in batch.due:
        try:
            check_imsi(each.imsi)
            if each.entry is not None:
                check_digits(each.entry)
        except InvalidValue as error:
            batch.said[each.imsi, each.version] = str(error)
        else:
            right.append(each)
    batch.due = right


def _named(due: Sequence[ProvisioningTask]) -> tuple[set[str], set[str]]:
    """Return the IMSIs and the numbers of a batch."""
    return {each.imsi for each in due}, {each.entry.msisdn for each in due if each.entry is not None}


def _movable(batch: Sequence[ProvisioningTask], due: ProvisioningTask) -> Collection[str]:
    """Return the IMSIs of the batch that should not have the number that this row wants."""
    wanted = None if due.entry is None else due.entry.msisdn
    return {each.imsi for each in batch if each.entry is None or each.entry.msisdn != wanted}


class ProvisioningService(PeriodicService):
    """Has one network's queue worked as long as the biller runs."""

    def __init__(self, clock: Any, provisioner: ProvisioningWorker) -> None:
        super().__init__(clock, POLL_SECONDS, provisioner.work)
        self._provisioner = provisioner

    def stopService(self) -> Deferred[Any]:
        """End after the step that is going on; what waits, waits for the next start."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        over = super().stopService()
        await self._provisioner.close()
        if over is not None:
            await over
