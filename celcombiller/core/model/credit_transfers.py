"""Credit that a subscriber hands to another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime  # noqa: TC003  `value_from_row` reads the types of the fields
from enum import StrEnum


class CreditTransferState(StrEnum):
    """Asked: it waits for its confirmation. Then made, or cancelled: not confirmed in time, or with wrong codes."""

    ASKED = "asked"
    MADE = "made"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class CreditTransfer:
    """``amount`` voice credits from the payer to the recipient, and the payer's ``fee`` to the operator.

    ``made_on`` is the operator's day on which it was made, and ``day_limit`` what the payer might transfer on that day
    (``None``: there was no limit, or staff made it).
    """

    id: int
    reference: str
    payer_id: int
    recipient_id: int
    amount: int
    fee: int
    state: CreditTransferState
    asked_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    made_on: date | None
    day_limit: int | None
    note: str
