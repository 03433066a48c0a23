"""What a delivery receipt says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celcombiller.core.model.messages import MessageState


@dataclass(frozen=True, slots=True)
class DeliveryReceipt:
    """The state of one part. ``outcome``: ``DELIVERED``, ``FAILED``, or ``None`` while a later receipt may say more.

    ``network_ids`` are the ids that it may mean, the surest first. ``numbers`` are those between which the message
    went. ``note`` says the same for the same receipt, sent again.
    """

    network_ids: tuple[str, ...]
    outcome: MessageState | None
    note: str
    numbers: frozenset[str] = frozenset()
