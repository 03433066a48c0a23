"""How many files this process may have open, and their shares: calls first, then the API."""

from __future__ import annotations

import resource
from dataclasses import dataclass

OWN_FILES = 100
"""Open files that are no connections of others: databases, AMI, SMPP, logs."""


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """How many connections of each sort may be open, so that all of them together have files."""

    rest: int
    agi: int


def find_limit() -> int | None:
    """Return how many files this process may open once `raise_limit` was called; None: any number."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if most == resource.RLIM_INFINITY else most


def raise_limit() -> int:
    """Raise the limit as far as the system allows without rights. Return what it was."""
    was, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return was


def share_files(limit: int | None, *, rest: int, agi: int) -> OpenFiles:
    """Return the shares of ``rest`` and ``agi`` connections, as many as the settings want where the files suffice.

    Of what is left beside the biller's own files the API gets a quarter at most, and calls all the rest: a call that
    finds no file is refused, and a client of the API comes again.
    """
    if limit is None:
        return OpenFiles(rest, agi)
    free = limit - min(OWN_FILES, limit // 4)
    api = max(1, min(rest, free // 4))
    return OpenFiles(api, max(1, min(agi, free - api)))
