"""A text message and its life cycle."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class Route(StrEnum):
    """How a text message leaves: by Asterisk's MessageSend, or by SMPP to an SMSC; none: it cannot."""

    NONE = "none"
    ASTERISK = "asterisk"
    SMPP = "smpp"


class MessageState(StrEnum):
    """Where a text message is; only the first two are open, with its credit held.

    Queued: the biller will send it. Sending: Asterisk sends it for a phone, and its script reports the outcome. Then
    accepted (by the network: charged), refused (not charged) or expired (never reported: not charged). A receipt may
    report that an accepted message was delivered, or that it failed: then its charge is refunded.
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
        """Whether its outcome is still to be reported."""
        return self in (MessageState.QUEUED, MessageState.SENDING)


class MessageOrigin(StrEnum):
    """Where a message comes from: a phone (of another network, if free), the API, or the biller itself (a notice)."""

    PHONE = "phone"
    API = "api"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Message:
    """One text message, from authorization to its receipt. ``subscriber_id`` pays; ``None``: it is free.

    ``reference`` is the id that its sender made; its hold and its transfer have it too. ``text`` is kept only until the
    biller has sent it; ``digest`` then still identifies the same message. ``charge`` is what the balance pays, where
    that is not ``price`` for each part; ``bundles`` are the accounts of the bundles that pay, and how much.
    ``broadcast_id``: the broadcast that it is a part of.
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
    tariff_version_id: int | None = None
    charge: int | None = None
    bundles: tuple[tuple[int, int], ...] = ()
    broadcast_id: int | None = None

    @property
    def cost(self) -> int:
        """The credits that the payer's balance is charged once it is accepted."""
        if self.account_id is None:
            return 0
        return self.price * self.parts if self.charge is None else self.charge
