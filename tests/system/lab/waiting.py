"""Bounded waits, free ports, and ends of processes. Nothing in here sleeps for a fixed time and hopes."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_SHARE = 20_000 // max(_WORKER + 1, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
PORTS = range(12_000 + _WORKER * _SHARE, 12_000 + (_WORKER + 1) * _SHARE)
"""This process's: others that run tests beside it have their own. The system gives out none of them by itself."""
_given: deque[range] = deque(maxlen=50)  # who was given a port may not listen yet, so it looks free
_kept: list[range] = []


def until(condition: Callable[[], T], what: str, *, seconds: float = 60, every: float = 0.05) -> T:
    """Ask until the answer is true; it is an error when it never is, and a busy machine is not."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(every)
    return answer


def free_ports(count: int, kind: int = socket.SOCK_STREAM, *, for_good: bool = False) -> int:
    """Return the first of so many neighbouring ports that are free and were not given of late.

    Those that are given ``for_good`` are given once: who has them listens now and then.
    """
    for _ in range(200):
        first = random.randrange(PORTS.start, PORTS.stop - count) & ~1
        wanted = range(first, first + count)
        if any(each.start < wanted.stop and wanted.start < each.stop for each in (*_given, *_kept)):
            continue
        with contextlib.ExitStack() as held:
            try:
                for port in wanted:
                    held.enter_context(socket.socket(socket.AF_INET, kind)).bind(("127.0.0.1", port))
            except OSError:
                continue
        (_kept if for_good else _given).append(wanted)
        return first
    raise AssertionError(f"no {count} free ports in a row")


def end(process: subprocess.Popen, *, seconds: float = 30, first: int = signal.SIGTERM) -> int:
    """End a process of ours: politely, then for certain."""
    if process.poll() is None:
        process.send_signal(first)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait(seconds)
