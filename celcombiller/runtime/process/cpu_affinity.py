"""Which processor cores threads run on: the two that work on calls share one.

The reactor and the writing thread take turns at the GIL, dozens of times for a batch, so that two cores never
serve them at once; but each turn on another core has to wake that core, and finds its caches cold. On one core the same
calls took a quarter less CPU. Threads that work for long without that lock (searches, password hashes, the audit) may
run on any core.
"""

from __future__ import annotations

import os
import threading

_ALL = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()  # Linux only


def pin_to_one_core(number: int | None) -> int | None:
    """Keep this thread, and those it starts, to one core of those it may run on, and give its number.

    The last, as interrupts come to the first; the workers of a machine, by their numbers, to each another one. Where
    there is no choice nothing is done, and ``None`` given.
    """
    if len(_ALL) < 2:  # noqa: PLR2004  one is no choice
        return None
    core = sorted(_ALL)[-(number or 1) % len(_ALL)]
    os.sched_setaffinity(0, {core})
    return core


def find_other_cores() -> set[int]:
    """Return the cores that the process began with, without the one of this thread, unless there is no other."""
    return _ALL - os.sched_getaffinity(0) or set(_ALL) if _ALL else set()


def run_on(cores: set[int]) -> None:
    """Let this thread, and those it starts, run on these cores only; on any, where none is given."""
    if cores:
        os.sched_setaffinity(0, cores)


class UnpinnedThread(threading.Thread):
    """A thread that may run on every core the process began with."""

    def run(self) -> None:
        """Leave the core of who started it, then do its work."""
        run_on(_ALL)
        super().run()
