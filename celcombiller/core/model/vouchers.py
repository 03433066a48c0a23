"""Vouchers: cards with a secret code, which were made in batches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  `value_from_row` reads the types of the fields
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celcombiller.core.model.accounts import BundleKind, Kind


class VoucherState(StrEnum):
    """A card is made, then active; then it is redeemed, or revoked, or its time is over."""

    MADE = "made"
    ACTIVE = "active"
    REDEEMED = "redeemed"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class VoucherBatch:
    """Cards that were made together, with the serial numbers from 1 to ``cards``.

    Each gives ``value`` credits of its ``kind``, which are valid for ``credit_days`` (``None``: for ever); or, with an
    ``offer_id``, a bundle of ``value`` for ``valid_hours``, as the offer was when the cards were made. A card can be
    redeemed before ``valid_until`` (``None``: for ever).
    """

    id: int
    name: str
    cards: int
    kind: Kind | BundleKind
    value: int
    credit_days: int | None
    offer_id: int | None
    bundle_name: str
    services: tuple[str, ...]
    destinations: tuple[str, ...]
    priority: int
    call_seconds_max: int | None
    valid_hours: int | None
    valid_until: datetime | None
    note: str
    author: str
    made_at: datetime

    def is_over(self, now: datetime) -> bool:
        """Return whether its cards can no longer be redeemed."""
        return self.valid_until is not None and now >= self.valid_until


@dataclass(frozen=True, slots=True)
class VoucherRange:
    """Cards of a batch that were activated, or revoked, together; maybe for a seller, who maybe paid a ``price``."""

    id: int
    batch_id: int
    first_serial: int
    last_serial: int
    state: VoucherState
    at: datetime
    author: str
    seller_id: int | None
    price: int
    note: str


@dataclass(frozen=True, slots=True)
class Redemption:
    """A card that a subscriber has redeemed. ``is_new``: this request did it, not an earlier one of the same words."""

    batch: VoucherBatch
    serial: int
    subscriber_id: int
    at: datetime
    is_new: bool

    @property
    def reference(self) -> str:
        """The id of the transfer that it made."""
        return reference_of(self.batch.id, self.serial)


def reference_of(batch_id: int, serial: int) -> str:
    """Return the id of the transfer that a card makes when it is redeemed."""
    return f"voucher:{batch_id}:{serial}"
