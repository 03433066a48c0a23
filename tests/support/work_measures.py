"""How much a piece of work costs, whatever else the machine does: CPU time against another, and calls of functions."""

import contextlib
import sys
import time

from celcombiller.core.errors import BillerError


def is_cheap(work, usual, times=1000):
    """Report whether ``work`` ever takes less than ``times`` the CPU time of ``usual``.

    Either may raise. Other load only adds to a single measurement, so the least of ``usual`` counts and one good
    measurement of ``work`` is enough.
    """
    limit = times * min(_cpu_seconds(usual) for _ in range(10))
    return any(_cpu_seconds(work) < limit for _ in range(5))


def _cpu_seconds(work):
    began = time.thread_time()
    with contextlib.suppress(BillerError, ValueError):
        work()
    return time.thread_time() - began


def count_function_calls(work):
    """Return how many functions of Python `work` calls, itself included."""
    calls = 0

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls
