"""The measurements: each is a run of the load generator against a server, with the CPU and memory that it used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from celcombiller.bench.environment import cpu_seconds, memory_bytes
from celcombiller.bench.load_generator import DRAIN_SECONDS, Plan, Tally

if TYPE_CHECKING:
    from celcombiller.bench.environment import Process
    from celcombiller.bench.postgresql import PostgreSQL

WARM_SECONDS = 1.0
LEAD_SECONDS = 0.4
"""The time from the start of a load generator to its first call, in which Python starts."""

HELD_IN_A_PROCESS = 7500
"""Held calls in one driver; it has an open file for each."""


class Run(msgspec.Struct, kw_only=True):
    """One measurement. Times in milliseconds, memory in KiB, CPU of the server's own process and of its database."""

    name: str
    database: str
    in_flight: int = 0
    offered: float = 0.0
    calls_per_second: float = 0.0
    dial_p50_ms: float = 0.0
    dial_p95_ms: float = 0.0
    dial_p99_ms: float = 0.0
    cpu_ms_per_call: float = 0.0
    database_cpu_ms_per_call: float = 0.0
    kib_per_call: float = 0.0
    all_dialled_seconds: float = 0.0
    refused: int = 0
    broken: int = 0
    driver_late_ms: float = 0.0


def percentile(values: list[int], share: float) -> float:
    """Return the value that ``share`` of them do not exceed, in milliseconds."""
    if not values:
        return 0.0
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] / 1000


def play(plans: list[Plan]) -> list[subprocess.Popen[bytes]]:
    """Start a load generator for each plan."""
    drivers = []
    for plan in plans:
        driver = subprocess.Popen(
            [sys.executable, "-m", "celcombiller.bench.load_generator"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert driver.stdin is not None
        driver.stdin.write(msgspec.json.encode(plan))
        driver.stdin.close()
        drivers.append(driver)
    return drivers


def tallies(drivers: list[subprocess.Popen[bytes]], seconds: float) -> list[Tally]:
    """Wait for the load generators, and return their results."""
    found = []
    for driver in drivers:
        assert driver.stdout is not None
        said = driver.stdout.read()
        driver.stdout.close()
        driver.wait(seconds)
        found.append(msgspec.json.decode(said, type=Tally))
    return found


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def run(
    name: str,
    database: str,
    server: Process,
    seconds: float,
    *,
    in_flight: int = 0,
    rate: float = 0.0,
    subscribers: int,
    called_prefix: str = "",
    cluster: PostgreSQL | None = None,
) -> Run:
    """Load a server for ``seconds``, in a closed loop or at an offered rate."""
    begins_at = time.monotonic() + LEAD_SECONDS
    counts_from = begins_at + WARM_SECONDS
    ends_at = counts_from + seconds
    plan = Plan(
        port=server.port,
        begins_at=begins_at,
        counts_from=counts_from,
        ends_at=ends_at,
        in_flight=in_flight,
        rate=rate,
        subscribers=subscribers,
        called_prefix=called_prefix,
        name=f"{name}{in_flight or int(rate)}",
    )
    drivers = play([plan])
    _sleep_until(counts_from)
    own, others = cpu_seconds(server.id), cluster.cpu_seconds() if cluster else 0.0
    _sleep_until(ends_at)
    own, others = cpu_seconds(server.id) - own, (cluster.cpu_seconds() if cluster else 0.0) - others
    (tally,) = tallies(drivers, 2 * DRAIN_SECONDS)
    calls = max(tally.calls, 1)
    return Run(
        name=name,
        database=database,
        in_flight=in_flight,
        offered=rate,
        calls_per_second=tally.calls / seconds,
        dial_p50_ms=percentile(tally.to_dial_us, 0.50),
        dial_p95_ms=percentile(tally.to_dial_us, 0.95),
        dial_p99_ms=percentile(tally.to_dial_us, 0.99),
        cpu_ms_per_call=1000 * own / calls,
        database_cpu_ms_per_call=1000 * others / calls,
        refused=tally.refused,
        broken=tally.broken,
        driver_late_ms=tally.latest_us / 1000,
    )


def hold(name: str, database: str, server: Process, calls: int, *, seconds: float, subscribers: int) -> Run:
    """Begin ``calls`` calls at once and hold them in their Dial, which they must reach within ``seconds``."""
    processes = -(-calls // HELD_IN_A_PROCESS)
    begins_at = time.monotonic() + LEAD_SECONDS * processes
    before = memory_bytes(server.id)
    plans = [
        Plan(
            port=server.port,
            begins_at=begins_at,
            counts_from=begins_at,
            ends_at=begins_at + seconds,
            hold=calls // processes,
            subscribers=subscribers,
            source=f"127.0.0.{number + 2}",
            name=f"{name}{number}",
        )
        for number in range(processes)
    ]
    drivers = play(plans)
    _sleep_until(begins_at + seconds)
    after = memory_bytes(server.id)
    found = tallies(drivers, 8 * DRAIN_SECONDS)
    to_dial = [each for tally in found for each in tally.to_dial_us]
    return Run(
        name=name,
        database=database,
        in_flight=len(to_dial),
        dial_p50_ms=percentile(to_dial, 0.50),
        dial_p95_ms=percentile(to_dial, 0.95),
        dial_p99_ms=percentile(to_dial, 0.99),
        kib_per_call=(after - before) / 1024 / max(len(to_dial), 1),
        all_dialled_seconds=max(each.all_dialled_at for each in found) - begins_at,
        refused=sum(each.refused for each in found),
        broken=sum(each.broken for each in found),
    )


def load() -> float:
    """Return the load of the machine in the last minute: figures from a busy machine mean little."""
    return os.getloadavg()[0]
