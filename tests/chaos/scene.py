"""All parts of one run: billers, their database, Asterisk, what is between them, and the record of faults."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celcombiller.bench.environment import listens
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy, Credit
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.subscribers import Level
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import migrations
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine
from celcombiller.database.ledger_file import create_ledger_file, path_of
from celcombiller.database.transaction import transact
from tests.chaos.asterisk.plan import CALLEES, CALLERS, FIRST_CALLEE, FIRST_CALLER
from tests.chaos.machine import Clock, Cluster, Service, SmallDisk
from tests.chaos.relay import Relay
from tests.system.lab.asterisk import SECRET
from tests.system.lab.biller import Biller
from tests.system.lab.forking import Parent
from tests.system.lab.waiting import free_ports, until

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import sqlalchemy as sa

LOOK_SECONDS = 0.05
MEGABYTES = {"sqlite": 64, "postgresql": 500}
SLICES = (0, 4, 8, 300)
"""The grants of calls are as long as they can be, or renewed so often."""
RICH, POOR = 100_000, 40
"""Credits of a subscriber: some can talk as they like, some soon have none."""


@dataclass
class FaultEntry:
    """One fault that happened, by ``time.monotonic``."""

    name: str
    began: float
    ended: float | None = None


class Scene:
    """The parts; `end` takes them all away."""

    def __init__(
        self, folder: Path, seed: str, database: str, *, billers: int, every_seconds: float, only: Collection[str] = ()
    ) -> None:
        self.seed = seed
        self.every_seconds = every_seconds
        self.only = only
        """The faults that may happen; empty: all."""
        self.slice_seconds = random.Random(f"{seed} settings").choice(SLICES)
        self.faults: list[FaultEntry] = []
        self.steps: list[tuple[float, float]] = []
        """When Asterisk's clock was set, and by how much."""
        self.database_lock = threading.Lock()
        self.asterisk: Any = None
        self.cluster: Cluster | None = None
        self._is_over = False
        self.clock = Clock(folder)
        self.disk = SmallDisk(folder / "disk", MEGABYTES[database])
        if database == "postgresql":
            try:
                self.cluster = Cluster(self.disk)
            except BaseException:
                self.disk.remove()
                raise
        self.ledger_file = self.disk.folder / "ledger.sqlite"
        self.url = self.cluster.url if self.cluster else f"sqlite:///{self.ledger_file}"
        self.ami_port = free_ports(1, for_good=True)
        self._parent = Parent(self.clock.environment)
        self.billers = [Biller(folder / f"biller{number}", url=self.url) for number in range(billers)]
        self.agi_relays = [Relay(each.agi_port, f"{seed} {n}") for n, each in enumerate(self.billers)]
        self.credit = {str(FIRST_CALLER + number): POOR if number % 4 == 3 else RICH for number in range(CALLERS)}
        self.calls = {"external_dial": "", "decision_seconds": 3, "slice_seconds": self.slice_seconds}
        self.services: list[Service] = []
        self.ami_relays: list[Relay] = []

    def start(self) -> None:
        """Make the ledger, and start the billers with their links to the Asterisk on ``ami_port``."""
        self.ami_relays = [Relay(self.ami_port, f"{self.seed} {n}", is_ami=True) for n in range(len(self.billers))]
        for biller, relay in zip(self.billers, self.ami_relays, strict=True):
            biller.ami_port, biller.secret = relay.port, SECRET
            biller.calls |= self.calls
            biller.write()
        self._make_ledger()
        self.services = [Service(each, self._parent) for each in self.billers]
        threading.Thread(target=self._keep_running, daemon=True).start()
        for each in self.billers:
            until(lambda each=each: listens(each.agi_port), f"a biller listens\n{each.log}")

    def _make_ledger(self) -> None:
        """Make the tables, the callers with their credit, and the callees."""
        path = path_of(self.url)
        if path is not None:
            create_ledger_file(path)
        engine = open_engine(self.url, lock_seconds=5)
        now = datetime.now(UTC)

        def fill(tx: sa.Connection) -> None:
            migrations.upgrade(tx)
            for number in (*self.credit, *(str(FIRST_CALLEE + each) for each in range(CALLEES))):
                subscriber_records.add(
                    tx,
                    username=f"user{number}",
                    name=f"Subscriber {number}",
                    clid=number,
                    imsi=f"72400000000{number}",
                    cpf=None,
                    address="",
                    level=Level.SUBSCRIBER,
                    password_hash=None,
                    now=now,
                )
            first = [
                Credit(f"user{number}", Kind.VOICE, credit, "web", f"first:{number}")
                for number, credit in self.credit.items()
            ]
            process_batch(tx, ChargingPolicy(Tariff(())), first, now)

        transact(engine, fill)
        engine.dispose()

    def _keep_running(self) -> None:
        while not self._is_over:
            for each in self.services:
                each.look()
            time.sleep(LOOK_SECONDS)

    def note_fault(self, name: str) -> FaultEntry:
        """Record that a fault begins."""
        entry = FaultEntry(name, time.monotonic())
        self.faults.append(entry)
        return entry

    def step_asterisk(self, seconds: float) -> None:
        """Set Asterisk's clock."""
        self.steps.append((time.monotonic(), seconds))
        self.asterisk.step(seconds)

    def end(self) -> None:
        """Take all of it away."""
        self._is_over = True
        time.sleep(2 * LOOK_SECONDS)
        for each in self.services:
            each.end()
        self._parent.end()
        for relay in (*self.ami_relays, *self.agi_relays):
            relay.close()
        if self.asterisk is not None:
            self.asterisk.end()
        if self.cluster is not None:
            self.cluster.remove()
        self.disk.remove()
