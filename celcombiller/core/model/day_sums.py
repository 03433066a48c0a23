"""Sums by day: what kinds of movements of credit there are, and which way they go."""

from __future__ import annotations

from enum import StrEnum


class Movement(StrEnum):
    """A kind of movement, by the origin of its transfer. ``operator``: any other, an operator's own word."""

    OPERATOR = "operator"
    SALE = "sale"
    VOUCHER = "voucher"
    PAYMENT = "payment"
    SCHEDULE = "schedule"
    OFFER = "offer"
    BUNDLE = "bundle"
    REFILL = "refill"
    COMMISSION = "commission"
    VOUCHERS = "vouchers"
    CREDIT_TRANSFER = "credit_transfer"
    TRANSFER_FEE = "transfer_fee"
    CALL = "call"
    SMS = "sms"
    DATA = "data"
    FEE = "fee"
    EXPIRY = "expiry"
    RERATE = "rerate"
    REVERSAL = "reversal"
    UNDO = "undo"


class Direction(StrEnum):
    """Which way credit of a kind moved: to subscribers, from subscribers, or from one to another.

    A sale goes to a subscriber: the seller's stock is no credit that could be used.
    """

    IN = "in"
    OUT = "out"
    BETWEEN = "between"
