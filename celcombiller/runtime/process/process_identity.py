"""Which process wrote something, so that another can see later whether that one still runs."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def identify_process(pid: int | None = None) -> str:
    """Return a word that no other process has: its number, when it began, and since which boot; this one's by default.

    Empty where there is no such process.
    """
    number = os.getpid() if pid is None else pid
    with suppress(OSError, IndexError):
        began = Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
        return f"{number}-{began}-{_BOOT.read_text()[:8]}"
    return ""


def is_running(identity: str) -> bool:
    """Return whether the process of this identity runs."""
    number = identity.partition("-")[0]
    return number.isdecimal() and identify_process(int(number)) == identity
