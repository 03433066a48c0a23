"""One run of chaos: calls and faults for a while, then rest, then the judgement."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tests.chaos import faults
from tests.chaos.asterisk.plan import Plan
from tests.chaos.played import PlayedAsterisk
from tests.chaos.real import RealAsterisk
from tests.chaos.scene import Scene
from tests.chaos.verdict import Judge, open_calls, read_ledger
from tests.system.lab.asterisk import SECRET
from tests.system.lab.waiting import until

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from tests.chaos.asterisk.plan import CallRecord
    from tests.system.lab.asterisk import Asterisk

TRANSFER_SHARE = 0.03
SETTLE_SECONDS = 90.0
"""How long after the last fault and call something may still be open: an end is tried again after up to 30 s."""


@dataclass
class Outcome:
    """What came of a run."""

    seed: str
    records: list[CallRecord]
    broken: list[str]
    counts: dict[str, int]
    faults: Counter[str]
    settled_after: float
    slice_seconds: int

    def __str__(self) -> str:
        answered = [each for each in self.records if each.answered is not None]
        seconds = sum(each.talk_ms for each in answered) / 1000
        lines = [
            f"seed {self.seed}, slices of {self.slice_seconds} s: {len(self.records)} calls, {len(answered)} answered, {seconds:.0f} s of talk, "
            f"{sum(self.faults.values())} faults, settled {self.settled_after:.1f} s after the last call",
            "faults: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.faults.most_common()),
            "calls: " + ", ".join(f"{count} {why}" for why, count in sorted(self.counts.items())),
            *(f"BROKEN {each}" for each in self.broken[:20]),
        ]
        if len(self.broken) > 20:
            lines.append(f"and {len(self.broken) - 20} more")
        return "\n".join(lines)


def run(
    folder: Path,
    seed: str,
    seconds: float,
    database: str,
    *,
    pbx: Asterisk | None = None,
    rate: float = 20.0,
    talk_seconds: tuple[float, float] = (1.0, 20.0),
    every_seconds: float = 1.5,
    only: Collection[str] = (),
) -> Outcome:
    """Make calls and faults for so many seconds, and judge what the ledger has then.

    The calls are those of a played Asterisk, or on a real one (``pbx``).
    """
    billers = 2 if database == "postgresql" else 1
    scene = Scene(folder, seed, database, billers=billers, every_seconds=every_seconds, only=only)
    if pbx is not None:
        scene.ami_port = pbx.ami_port
        scene.calls["internal_dial"] = "Local/{clid}@chaos-callees/n"
    try:
        scene.start()
        plan = Plan(
            seed=seed,
            seconds=seconds,
            rate=rate,
            ami_port=scene.ami_port,
            agi_ports=tuple(relay.port for relay in scene.agi_relays),
            secret=SECRET,
            talk_seconds=talk_seconds,
            transfer_share=0.0 if pbx else TRANSFER_SHARE,
        )
        if pbx is not None:
            pbx.ask(*plan.agi_ports)
        scene.asterisk = PlayedAsterisk(plan) if pbx is None else RealAsterisk(pbx, plan)
        return _play(scene, seed, seconds)
    finally:
        scene.end()


def _play(scene: Scene, seed: str, seconds: float) -> Outcome:
    scene.asterisk.begin()
    began = time.monotonic()
    threads = []
    for at, fault, own_seed in faults.draw(scene, seed, seconds):
        time.sleep(max(0.0, began + at - time.monotonic()))
        threads.append(threading.Thread(target=faults.befall, args=(scene, fault, own_seed), daemon=True))
        threads[-1].start()
    for each in threads:
        each.join(120)
    assert not any(each.is_alive() for each in threads), "a fault does not end"
    until(lambda: scene.asterisk.is_over, "all calls are over", seconds=seconds + 120, every=0.2)
    over = time.monotonic()
    while time.monotonic() < over + SETTLE_SECONDS and not _is_settled(scene.url):
        time.sleep(0.5)
    settled_after = time.monotonic() - over
    time.sleep(2.0)  # reports that confirm come a moment later, and none may move anything
    records = list(scene.asterisk.records)
    judge = Judge(scene, records, read_ledger(scene.url), scene.billers[0].json("audit"))
    broken = judge.judge()
    for biller in scene.billers:
        for word in ("Traceback", "Unhandled"):
            if word in biller.log:
                at = biller.log.index(word)
                broken.append(f"a {word} in the log of a biller:\n{biller.log[max(0, at - 500) : at + 3000]}")
    happened = Counter(each.name for each in scene.faults)
    return Outcome(seed, records, broken, dict(judge.counts), happened, settled_after, scene.slice_seconds)


def _is_settled(url: str) -> bool:
    try:
        return open_calls(url) == 0
    except sa.exc.DBAPIError:  # it comes back just now
        return False
