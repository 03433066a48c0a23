"""Sellers, and the receipts of what they sell and are refilled with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  `value_from_row` reads the types of the fields
from enum import StrEnum

RATE_WHOLE = 10_000
"""A rate is in hundredths of a percent: this is all of an amount."""


class Commission(StrEnum):
    """How a seller earns: by paying less for a refill, or by credit that the operator adds to each sale."""

    NONE = "none"
    DISCOUNT = "discount"
    BONUS = "bonus"


class ReceiptKind(StrEnum):
    """What a receipt is for: a sale, a refill of a seller, stock that a seller gives back, an operator's credit."""

    SALE = "sale"
    REFILL = "refill"
    RETURN = "return"
    CREDIT = "credit"


@dataclass(frozen=True, slots=True)
class Seller:
    """A subscriber who sells voice credit from an account of their own.

    ``commission_rate`` is in hundredths of a percent. ``sale_max``: the most credits of one sale, ``None``: no limit.
    ``parent_id``: the seller who may refill them, beside the operator. ``seller_class`` is the operator's own word.
    """

    subscriber_id: int
    account_id: int
    username: str
    name: str
    clid: str
    parent_id: int | None
    seller_class: str
    commission: Commission
    commission_rate: int
    sale_max: int | None
    enabled: bool
    posted: int
    held: int
    floor: int
    day_limit: int | None

    @property
    def available(self) -> int:
        """Credits that they may still sell, down to their credit line."""
        return self.posted - self.held - self.floor

    def bonus_of(self, amount: int) -> int:
        """Return the credits that the operator adds to a sale, rounded down."""
        return amount * self.commission_rate // RATE_WHOLE if self.commission is Commission.BONUS else 0

    def price_of(self, amount: int) -> int:
        """Return what a refill costs them, in credits, rounded up."""
        discounted = self.commission_rate if self.commission is Commission.DISCOUNT else 0
        return -(-amount * (RATE_WHOLE - discounted) // RATE_WHOLE)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A numbered receipt of one transfer, the one of ``reference``. A void one keeps its number.

    ``giver_id`` is the seller whose stock it came from, ``None``: the operator; of a return ``giver_id`` is who returns
    it. ``commission`` is the bonus of a sale, in credits; ``paid`` what was paid for a refill, in credits.
    ``tax_rate`` is the share of tax in what was paid for the credit, in hundredths of a percent on top of the net
    price. ``origin`` says by which way it was made: ``sms``, ``keypad``, ``rest``, ``command``.
    """

    id: int
    series: str
    number: int
    kind: ReceiptKind
    reference: str
    giver_id: int | None
    taker_id: int
    to_number: str
    amount: int
    commission: int
    paid: int | None
    tax_rate: int
    origin: str
    at: datetime
    voided_at: datetime | None

    @property
    def label(self) -> str:
        """The number as it is printed: the series and six digits or more."""
        return f"{self.series}-{self.number:06}"
