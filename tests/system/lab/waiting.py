"""Bounded waits, free ports, and ends of processes. Nothing in here sleeps for a fixed time and hopes."""

import contextlib
import random
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_given: deque[range] = deque(maxlen=50)  # who was given a port may not listen yet, so it looks free


def until(condition: Callable[[], T], what: str, *, seconds: float = 10, every: float = 0.05) -> T:
    """Ask until the answer is true; it is an error when it never is."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(every)
    return answer


def free_ports(count: int, kind: int = socket.SOCK_STREAM) -> int:
    """Give the first of so many neighbouring ports that are free and were not given of late.

    They are below those that the system gives out itself.
    """
    for _ in range(200):
        first = random.randrange(12000, 32000 - count) & ~1
        wanted = range(first, first + count)
        if any(each.start < wanted.stop and wanted.start < each.stop for each in _given):
            continue
        with contextlib.ExitStack() as held:
            try:
                for port in wanted:
                    held.enter_context(socket.socket(socket.AF_INET, kind)).bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.append(wanted)
        return first
    raise AssertionError(f"no {count} free ports in a row")


def listens(port: int) -> bool:
    """Whether something accepts TCP connections on the loopback port: asked of the kernel, so it is not disturbed."""
    wanted = f":{port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:  # noqa: PTH123
        return any(row[1].endswith(wanted) and row[3] == "0A" for row in map(str.split, table))


def end(process: subprocess.Popen, *, seconds: float = 10, first: int = signal.SIGTERM) -> int:
    """End a process of ours: politely, then for certain."""
    if process.poll() is None:
        process.send_signal(first)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait(seconds)
