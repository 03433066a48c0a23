"""How long a thread keeps Python's lock while others wait for it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

USUAL_SECONDS = sys.getswitchinterval()
SHORT_SECONDS = USUAL_SECONDS / 10
"""A reactor takes the lock two or three times before it serves a call, and waits for so long each time."""


@contextmanager
def take_short_turns() -> Iterator[None]:
    """Have threads hand over the lock sooner while one of them computes for seconds, so that calls do not wait for it.

    It costs that one up to a tenth of its time. Where nothing computes for long it would only cost.
    """
    sys.setswitchinterval(SHORT_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(USUAL_SECONDS)
