"""CPU time of one piece of work against another, for input that is made to be slow."""

import contextlib
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
