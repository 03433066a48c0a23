"""The environment of a measurement: ledgers, server processes, and their figures from the kernel.

Everything is in one temporary folder and ends with the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import sqlalchemy as sa

from celcombiller.bench.load_generator import FIRST_NUMBER
from celcombiller.core.audit import report as audit_report
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy, Credit
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.subscribers import Level
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import migrations, tables
from celcombiller.database.engine import open_engine
from celcombiller.database.ledger_file import create_ledger_file, path_of
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

START_SECONDS = 60.0
STOP_SECONDS = 30.0
CREDIT = 10**9
"""The balance of each subscriber: enough for all calls at once."""

_UNBATCHED = (
    "from celcombiller.database import batch_writer; batch_writer.BATCH_MAX = 1;"
    " from twisted.scripts.twistd import run; run()"
)
_TICKS = os.sysconf("SC_CLK_TCK")
NOTHING: Mapping[str, str] = MappingProxyType({})
_SHIM = Path(__file__).with_name("slow_sync.c")


class Process:
    """A server program that this run starts, and ends. It listens when the constructor returns."""

    def __init__(
        self, command: Sequence[str], port: int, folder: Path, environment: Mapping[str, str] = NOTHING
    ) -> None:
        self.port = port
        self._log = folder / f"log-{port}"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own programs
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment() | dict(environment),
            )
        wait_until = time.monotonic() + START_SECONDS
        while not listens(port):
            if self._process.poll() is not None or time.monotonic() > wait_until:
                self.kill()
                said = self._log.read_text(errors="replace")[-2000:]
                raise StoreUnavailable(f"{' '.join(command)[:80]} does not listen: {said}")
            time.sleep(0.02)

    @property
    def id(self) -> int:
        """Return its process id."""
        return self._process.pid

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End it by a signal; kill it when it does not end in time."""
        if self._process.poll() is None:
            self._process.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill it, as a crash would."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def biller(
    url: str, folder: Path, environment: Mapping[str, str] = NOTHING, *, unbatched: bool = False, settings: str = ""
) -> Process:
    """Start ``twistd celcombiller`` on a database; when ``unbatched``, with a transaction for each request."""
    port, rest_port = free_port(), free_port()
    lines = [
        "[database]",
        f"url = {json.dumps(url)}",
        "[rest]",
        f'listen = "tcp:{rest_port}:interface=127.0.0.1"',
        "[agi]",
        f'listen = "tcp:{port}:interface=127.0.0.1"',
        'allow = ["127.0.0.0/8"]',
        "connections_max = 20000",
        "idle_seconds = 60",
        "[calls]",
        "decision_seconds = 60",
        settings,
    ]
    file = folder / f"celcombiller-{port}.toml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    start = ["-c", _UNBATCHED] if unbatched else [str(Path(sys.executable).with_name("twistd"))]
    options = ["--nodaemon", "--pidfile=", "celcombiller", "--config", str(file)]
    return Process([sys.executable, *start, *options], port, folder, environment)


def floor(folder: Path) -> Process:
    """Start the baseline of the wire."""
    port = free_port()
    return Process([sys.executable, "-m", "celcombiller.bench.wire_baseline", str(port)], port, folder)


def slow_sync(folder: Path, milliseconds: int) -> dict[str, str]:
    """Return the environment in which a sync takes this much longer. Raises `StoreUnavailable` without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise StoreUnavailable("no C compiler (cc), so a slower disk cannot be simulated")
    library = folder / "slow_sync.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_SHIM), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    return {"LD_PRELOAD": str(library), "CELCOMBILLER_SYNC_MS": str(milliseconds)}


# -- the database ----------------------------------------------------------------------------------------------------


def fill(url: str, subscribers: int, *, first: int = 0) -> None:
    """Make the tables, and subscribers with credit up to this number, as the biller does. ``first`` exist already."""
    path = path_of(url)
    if path is not None:
        create_ledger_file(path)
    engine = open_engine(url, lock_seconds=5)
    transact(engine, migrations.upgrade)
    now = datetime.now(UTC)
    for start in range(first, subscribers, 10_000):
        numbers = range(FIRST_NUMBER + start, FIRST_NUMBER + min(start + 10_000, subscribers))

        def work(tx: sa.Connection, numbers: range = numbers) -> None:
            add_subscribers(tx, numbers, now)
            credit = [Credit(f"u{each}", Kind.VOICE, CREDIT, "bench", f"bench:{each}") for each in numbers]
            process_batch(tx, ChargingPolicy(Tariff(())), credit, now)

        transact(engine, work)
    look_over(engine)
    engine.dispose()


def look_over(engine: sa.Engine) -> None:
    """Let PostgreSQL analyze its tables now; by itself it does so within a minute."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("vacuum analyze")


def add_subscribers(tx: sa.Connection, numbers: range, now: datetime) -> None:
    """Add subscribers with these numbers and empty accounts, by set-wise SQL."""
    table = tables.subscriber
    rows = [
        {
            "username": f"u{each}",
            "name": f"Subscriber {each}",
            "clid": str(each),
            "imsi": f"72400{each:010}",
            "level": Level.SUBSCRIBER,
            "enabled": True,
            "created_at": now,
        }
        for each in numbers
    ]
    tx.execute(sa.insert(table), rows)
    first, last = (f"u{each}" for each in (numbers[0], numbers[-1]))
    bounds = [tx.execute(sa.select(table.c.id).where(table.c.username == each)).scalar_one() for each in (first, last)]
    tx.execute(
        sa.insert(tables.account).from_select(
            ["subscriber_id", "kind", "posted", "held"],
            sa.union_all(
                *(
                    sa.select(table.c.id, sa.literal(str(kind)), sa.literal(0), sa.literal(0)).where(
                        table.c.id.between(*bounds)
                    )
                    for kind in Kind
                )
            ),
        )
    )


def count(url: str) -> int:
    """Count the subscribers."""
    engine = open_engine(url, lock_seconds=5)
    found: int = transact(engine, lambda tx: tx.execute(sa.select(sa.func.count(tables.subscriber.c.id))).scalar_one())
    engine.dispose()
    return found


def differences(url: str) -> int:
    """Audit the ledger; return the number of differences."""
    engine = open_engine(url, lock_seconds=5)
    report = transact(engine.execution_options(reading=True), audit_report.audit)
    engine.dispose()
    return len(report.differences)


def commits_per_second(url: str, seconds: float) -> float:
    """Return how many commits of one row a single writer gets per second from this disk and database."""
    engine = open_engine(url, lock_seconds=5)
    statement = sa.text("update account set floor = floor where id = 1")
    done, ends_at = 0, time.monotonic() + seconds
    with engine.connect() as connection:
        while time.monotonic() < ends_at:
            with connection.begin():
                connection.execute(statement)
            done += 1
    engine.dispose()
    return done / seconds


# -- the kernel ------------------------------------------------------------------------------------------------------


def cpu_seconds(process: int) -> float:
    """Return the user and system time of all threads of a process, and of its ended children, in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def memory_bytes(process: int) -> int:
    """Return the resident memory of a process, in bytes."""
    return int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def children(parent: int) -> list[int]:
    """Return the processes that this one started and that have not ended."""
    return [int(each) for each in Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()]


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Return whether something listens on the loopback port. The kernel is asked, so no connection disturbs it."""
    wanted = f":{port:04X}"
    table = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()
    return any(row[1].endswith(wanted) and row[3] == "0A" for row in map(str.split, table))


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CELCOMBILLER_")}
