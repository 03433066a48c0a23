"""How long a thread keeps the GIL while other threads wait for it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

USUAL_SECONDS = sys.getswitchinterval()
SHORT_SECONDS = USUAL_SECONDS / 10
"""The reactor needs the GIL two or three times to serve a call. Each time it waits for up to this interval."""


@contextmanager
def take_short_turns() -> Iterator[None]:
    """Shorten the interval while a thread computes for seconds, so that calls wait less for the GIL.

    The computing thread loses up to a tenth of its time. So the interval is short only for as long as that.
    """
    sys.setswitchinterval(SHORT_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(USUAL_SECONDS)
