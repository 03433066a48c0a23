"""A text message and its life cycle."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class Route(StrEnum):
    """By which way a text message leaves: Asterisk's MessageSend, or SMPP to a message centre; none: it cannot."""

    NONE = "none"
    ASTERISK = "asterisk"
    SMPP = "smpp"


class MessageState(StrEnum):
    """Where a text message is; only the first two are open, with its credit held.

    Queued: the biller is to send it. Sending: Asterisk does, for a phone, and its script tells. Then accepted (by the
    network: charged), refused (not charged) or expired (nobody ever told: not charged). Of an accepted one a receipt
    may tell that it was delivered, or that it failed: then its charge is given back.
    """

    QUEUED = "queued"
    SENDING = "sending"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"

    @property
    def is_open(self) -> bool:
        """Whether what becomes of it is still to be told."""
        return self in (MessageState.QUEUED, MessageState.SENDING)


class MessageOrigin(StrEnum):
    """Whose message it is: a phone's (of one elsewhere, if nobody pays), the API's, or a notice of the biller's own."""

    PHONE = "phone"
    API = "api"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Message:
    """One text message, from authorization to its receipt. ``subscriber_id`` pays; ``None``: it is free.

    ``reference`` is the id its sender made, under which its hold and its transfer stand too. ``text`` is there only
    while the biller has yet to send it; ``digest`` is what is left to know the same message by.
    """

    reference: str
    origin: MessageOrigin
    subscriber_id: int | None
    account_id: int | None
    from_number: str
    to_number: str
    callee_id: int | None
    route: Route
    text: str | None
    digest: str
    encoding: str
    parts: int
    price: int
    state: MessageState
    queued_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    note: str = ""

    @property
    def cost(self) -> int:
        """What it costs who pays, once it is accepted."""
        return 0 if self.account_id is None else self.price * self.parts
