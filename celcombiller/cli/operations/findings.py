"""What ``celcombiller doctor`` found, and the limits that it applies everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

CLOCK_SKEW = timedelta(seconds=5)
"""A difference between two clocks from which times of calls are wrong."""

ANSWER_SECONDS = 5.0
"""How long a peer may take for an answer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was tried, what was found, and what to do about it; an empty ``remedy``: it is right."""

    subject: str
    found: str
    remedy: str = ""
