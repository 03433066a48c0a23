"""A radio network in memory that can fail in every way that a real one can, and the queue worked without waiting."""

import contextlib
from datetime import UTC, datetime, timedelta

from twisted.internet.defer import Deferred

from celcombiller.core.errors import NetworkUnavailable
from celcombiller.core.provisioning import desired_state, status
from celcombiller.core.provisioning.entries import ProvisioningEntry
from celcombiller.core.provisioning.network import NetworkRefused
from celcombiller.provisioning.worker import LEASE, ProvisioningWorker
from tests.support.deferreds import result_of

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


class FakeNetwork:
    """Two entries of one IMSI are an error at once; two of one number too, where ``unique`` (as OsmoHLR)."""

    def __init__(self, *, keeps_names=True, unique=True):
        self.keeps_names = keeps_names
        self.unique = unique
        self.entries = {}
        self.troubles = []
        self.heard = []
        self.unreadable = None

    async def read(self, imsis, numbers):
        self._trouble("read")
        return [each for each in self.entries.values() if each.imsi in imsis or each.msisdn in numbers]

    async def list_all(self):
        self._trouble("list")
        return list(self.entries.values())

    async def list_seen(self):
        return []

    async def create(self, entry):
        assert entry.imsi not in self.entries, "an entry twice"
        self._write("create", entry.imsi, entry)

    async def change(self, was, entry):
        assert self.entries.get(was.imsi) == was
        self._write("change", was.imsi, entry)

    async def free(self, entry):
        self._write("free", entry.imsi, ProvisioningEntry(entry.imsi, "", entry.name))

    async def delete(self, imsi):
        self._write("delete", imsi, None)

    async def close(self):
        pass

    def _write(self, verb, imsi, entry):
        trouble = self._trouble(verb)
        if trouble == "said, not done":
            return
        if entry is None:
            self.entries.pop(imsi, None)
        else:
            holders = [e.imsi for e in self.entries.values() if e.msisdn == entry.msisdn and e.imsi != imsi]
            if entry.msisdn and holders and self.unique:
                raise NetworkRefused("the number is taken")
            self.entries[imsi] = entry if self.keeps_names else ProvisioningEntry(entry.imsi, entry.msisdn)
        self.heard.append((verb, imsi))
        if trouble == "answer lost":
            raise NetworkUnavailable("no answer")

    def _trouble(self, verb):
        """Take the next trouble, if one is due; it happens here unless it is about what is done."""
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble == "away" or (trouble is not None and verb in ("read", "list")):
            raise NetworkUnavailable("no answer")
        if trouble == "refused":
            raise NetworkRefused("503")
        return trouble


class Crash(Exception):
    """The process dies here."""


class Clockwork:
    """A database, a fake network named ``village`` and its provisioner, with a clock that is moved by hand."""

    def __init__(self, engine, network):
        self.engine = engine
        self.network = network
        self.now = START
        self.crashes_in = None
        self.restart()
        with engine.begin() as tx:
            desired_state.configure(tx, {"village": "openbts"}, self.now)

    def restart(self):
        self.provisioner = ProvisioningWorker(
            "village",
            self.network,
            transact=self._transact,
            read=self._transact,
            now=lambda: self.now,
            retry_seconds_max=300,
        )

    async def _transact(self, work):
        if self.crashes_in is not None:
            self.crashes_in -= 1
            if self.crashes_in < 0:
                self.crashes_in = None
                raise Crash
        with self.engine.begin() as tx:
            return work(tx)

    def do(self, work):
        with self.engine.begin() as tx:
            return work(tx)

    def work(self):
        """Work what is due; what waits for its time, waits."""
        result_of(Deferred.fromCoroutine(self.provisioner.work()))

    def crash(self, after):
        """Work, and die before so many more transactions: the claims stay until their lease is over."""
        self.crashes_in = after

        async def run():
            with contextlib.suppress(Crash):
                await self.provisioner.work()

        result_of(Deferred.fromCoroutine(run()))
        self.crashes_in = None
        self.restart()

    def later(self, **time):
        self.now += timedelta(**time)

    def settle(self):
        """Work until nothing waits any more, with all the time it takes."""
        for _ in range(20):
            self.later(seconds=max(300, LEASE.total_seconds()))
            self.work()
            if self.waiting() == 0:
                return
        raise AssertionError(f"never done: {self.do(lambda tx: status.troubles(tx, 'village', limit=9))}")

    def waiting(self):
        (backlog,) = self.do(status.backlog)
        return backlog.waiting

    def wanted(self):
        """Give what the subscribers' table itself says should be there."""
        entries = self.do(lambda tx: desired_state.desired(tx, "village")).entries
        named = entries if self.network.keeps_names else [ProvisioningEntry(each.imsi, each.msisdn) for each in entries]
        return {each.imsi: each for each in named}
