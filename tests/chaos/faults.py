"""The faults: each is a generator that begins one, yields how many seconds it lasts, and ends it.

Those of the database are one at a time. All else may happen at once.
"""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.scene import Scene

Fault = Callable[["Scene", random.Random], Iterator[float]]


def kill_biller(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """SIGKILL; it is started again."""
    drawn.choice(scene.services).signal(signal.SIGKILL)
    yield 1.0


def restart_biller(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """SIGTERM, as an upgrade does."""
    drawn.choice(scene.services).signal(signal.SIGTERM)
    yield 2.0


def biller_stands_still(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """SIGSTOP, and SIGCONT after a while."""
    service = drawn.choice(scene.services)
    service.signal(signal.SIGSTOP)
    yield drawn.uniform(0.5, 7.0)
    service.signal(signal.SIGCONT)


def cut_ami(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """Cut AMI; sometimes it can be connected again only after a while."""
    relay = drawn.choice(scene.ami_relays)
    relay.is_closed = drawn.random() < 0.5
    relay.cut()
    yield drawn.uniform(0.1, 4.0)
    relay.is_closed = False


def cut_agi(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """Cut some AGI sessions, or all; sometimes no new one comes through for a while."""
    relay = drawn.choice(scene.agi_relays)
    relay.is_closed = drawn.random() < 0.3
    relay.cut(drawn.choice((0.1, 0.5, 1.0)))
    yield drawn.uniform(0.1, 3.0)
    relay.is_closed = False


def slow_network(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """Every segment to and from one biller is late."""
    relays = [drawn.choice(scene.ami_relays), drawn.choice(scene.agi_relays)]
    for each in relays:
        each.delay_seconds = drawn.choice((0.02, 0.2, 0.5))
    yield drawn.uniform(1.0, 4.0)
    for each in relays:
        each.delay_seconds = 0.0


def network_stands_still(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """Nothing comes through, and no connection ends."""
    relay = drawn.choice(scene.ami_relays + scene.agi_relays)
    relay.stands = True
    yield drawn.uniform(0.5, 4.0)
    relay.stands = False


def events_twice_and_swapped(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """Events of AMI come twice, and in another order."""
    for each in scene.ami_relays:
        each.shares = (drawn.choice((0.1, 0.5, 1.0)), drawn.choice((0.1, 0.5)))
    yield drawn.uniform(2.0, 6.0)
    for each in scene.ami_relays:
        each.shares = (0.0, 0.0)


def restart_asterisk(scene: Scene, _drawn: random.Random) -> Iterator[float]:
    """``core restart now``."""
    scene.asterisk.restart()
    yield 3.0


def kill_asterisk(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """``kill -9`` of Asterisk, which is started again after a while."""
    seconds = drawn.uniform(0.2, 2.0)
    scene.asterisk.kill(seconds)
    yield seconds + 1.5


def restart_database(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """Stop PostgreSQL, and start it again."""
    scene.cluster.primary.stop()
    yield drawn.uniform(0.0, 4.0)
    scene.cluster.primary.start()


def kill_database(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """Kill all processes of PostgreSQL, and start it again."""
    scene.cluster.primary.kill()
    yield drawn.uniform(0.0, 3.0)
    scene.cluster.primary.start()


def fail_over(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """Kill the primary, promote the standby, and make a new standby."""
    scene.cluster.primary.kill()
    yield drawn.uniform(0.0, 2.0)
    scene.cluster.fail_over()
    yield 1.0
    scene.cluster.renew_standby()


def lock_database(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """Another program locks the SQLite file."""
    with closing(sqlite3.connect(scene.ledger_file, timeout=5, isolation_level=None)) as other:
        try:
            other.execute("begin exclusive")
        except sqlite3.OperationalError:
            return
        yield drawn.uniform(0.5, 5.0)
        other.execute("rollback")


def fill_disk(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """No block is free on the disk of the database."""
    scene.disk.fill()
    yield drawn.uniform(0.5, 3.0)
    scene.disk.clear()
    if scene.cluster is not None:
        scene.cluster.revive()


def set_biller_clock(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """The biller's clock is set, forward or back."""
    scene.clock.step(_step(drawn))
    yield 0.1


def set_asterisk_clock(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """Asterisk's clock is set, forward or back."""
    scene.step_asterisk(_step(drawn))
    yield 0.1


def set_both_clocks(scene: Scene, drawn: random.Random) -> Iterator[float]:
    """The clock of the one machine on which both run is set."""
    seconds = _step(drawn)
    scene.clock.step(seconds)
    scene.step_asterisk(seconds)
    yield 0.1


def _step(drawn: random.Random) -> float:
    return drawn.choice((-1, 1)) * drawn.choice((75.0, 600.0, 3600.0))


DATABASE_FAULTS = (restart_database, kill_database, fail_over, lock_database, fill_disk)
WEIGHTS: dict[Fault, int] = {
    kill_biller: 4,
    restart_biller: 2,
    biller_stands_still: 3,
    cut_ami: 3,
    cut_agi: 3,
    slow_network: 2,
    network_stands_still: 2,
    events_twice_and_swapped: 3,
    restart_asterisk: 1,
    kill_asterisk: 1,
    restart_database: 2,
    kill_database: 2,
    fail_over: 1,
    lock_database: 2,
    fill_disk: 2,
    set_biller_clock: 1,
    set_asterisk_clock: 1,
    set_both_clocks: 1,
}


def choose(scene: Scene) -> dict[Fault, int]:
    """Return the faults that this scene can have, with their weights."""
    without: set[Fault] = set()
    if scene.cluster is None:
        without |= {restart_database, kill_database, fail_over}
    else:
        without |= {lock_database}
    if not scene.disk.is_small:
        without.add(fill_disk)
    if not scene.clock.can_step:
        without |= {set_biller_clock, set_both_clocks}
    if not scene.asterisk.can_step:
        without |= {set_asterisk_clock, set_both_clocks}
    if scene.only:
        without |= {fault for fault in WEIGHTS if fault.__name__ not in scene.only}
    return {fault: weight for fault, weight in WEIGHTS.items() if fault not in without}


def draw(scene: Scene, seed: str, seconds: float) -> list[tuple[float, Fault, str]]:
    """Draw which faults begin when, each with a seed of its own."""
    drawn = random.Random(f"{seed} faults")
    kinds = choose(scene)
    at, plan = 2.0, []
    while (at := at + drawn.expovariate(1 / scene.every_seconds)) < seconds:
        fault = drawn.choices(list(kinds), list(kinds.values()))[0]
        plan.append((at, fault, f"{seed} fault {len(plan)}"))
    return plan


def befall(scene: Scene, fault: Fault, seed: str) -> None:
    """Let one fault happen, from its beginning to its end; meant for a thread of its own."""
    drawn = random.Random(seed)
    lock = scene.database_lock if fault in DATABASE_FAULTS else None
    if lock is not None:
        lock.acquire()
    entry = scene.note_fault(fault.__name__)
    try:
        for seconds in fault(scene, drawn):
            time.sleep(seconds)
    finally:
        entry.ended = time.monotonic()
        if lock is not None:
            lock.release()
