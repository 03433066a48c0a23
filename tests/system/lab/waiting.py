"""Bounded waits, free ports, and ends of processes. Nothing in here sleeps for a fixed time and hopes."""

import contextlib
import fcntl
import functools
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

T = TypeVar("T")
PORTS = range(10_000, 32_700)
"""The system gives out none of them by itself."""
_MANY, _FOR_MANY = 100, 16_000
"""So many in a row come from the last ports only, one range after the other: an Asterisk needs 900 of them."""
_GIVEN_AT_MOST = 100
_given: deque[range] = deque()  # who was given a port may not listen yet, so it looks free
_reserved = set[int]()


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

    No other process of tests on this machine is given them meanwhile. Those that are given ``for_good`` are given once:
    who has them listens now and then.
    """
    many = PORTS.stop - _FOR_MANY
    if count >= _MANY:
        places = range(PORTS.stop - count, many, -20)
    else:
        places = random.choices(range(PORTS.start, many - count, 2), k=1000)
    for first in places:
        wanted = range(first, first + count)
        if _reserved.isdisjoint(wanted) and _reserve(wanted):
            if _can_be_bound(wanted, kind):
                if not for_good:
                    _given.append(wanted)
                    if len(_given) > _GIVEN_AT_MOST:
                        give_back(_given.popleft())
                return first
            give_back(wanted)
    raise AssertionError(f"no {count} free ports in a row")


def _can_be_bound(ports: range, kind: int) -> bool:
    with contextlib.ExitStack() as held:
        try:
            for port in ports:
                held.enter_context(socket.socket(socket.AF_INET, kind)).bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@functools.cache
def _reservations() -> BinaryIO:
    """Return the file in which each process of tests locks the bytes of its ports: the system ends a lock with it."""
    return (Path(tempfile.gettempdir()) / f"celcombiller-test-ports-{os.getuid()}").open("ab")


def _reserve(ports: range) -> bool:
    try:
        fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, len(ports), ports.start)
    except OSError:
        return False
    _reserved.update(ports)
    return True


def give_back(ports: range) -> None:
    """Let others have ports that were given for good."""
    fcntl.lockf(_reservations(), fcntl.LOCK_UN, len(ports), ports.start)
    _reserved.difference_update(ports)


def is_running(pid: int) -> bool:
    """Return whether a process is there; one that has ended counts until its parent has asked for its status."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def end(process: subprocess.Popen, *, seconds: float = 30, first: int = signal.SIGTERM) -> int:
    """End a process of ours: politely, then for certain."""
    if process.poll() is None:
        process.send_signal(first)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait(seconds)
