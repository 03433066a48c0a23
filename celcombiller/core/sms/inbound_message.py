"""A message that an SMSC delivered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """A message that an SMSC delivered. A repeat has the same ``key``, as far as a repeat can be recognized."""

    key: str
    from_number: str
    to_number: str
    text: str
