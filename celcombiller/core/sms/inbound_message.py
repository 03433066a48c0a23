"""A message an SMSC delivered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """A message that a message centre brings; ``key`` is the same of the same message, as far as it can be told."""

    key: str
    from_number: str
    to_number: str
    text: str
