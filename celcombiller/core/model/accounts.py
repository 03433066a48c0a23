"""Double-entry values: account, transfer, hold."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What a credit buys: by default one voice credit is one second, one data credit one byte, one sms credit a part.

    Sms credit pays for text messages only where the operator chose so; else voice credit does.
    """

    VOICE = "voice"
    DATA = "data"
    SMS = "sms"


class BundleKind(StrEnum):
    """What a bundle holds: seconds of talk, parts of messages, octets, or voice credit that is spent first.

    Each is a kind of account of its own, so that no transfer can turn a bundle into a balance.
    """

    SECONDS = "seconds"
    MESSAGES = "messages"
    OCTETS = "octets"
    MONEY = "money"


class SellerKind(StrEnum):
    """What a seller has to sell: voice credit, which calls cannot spend until it is sold."""

    SELLER = "seller"


AccountKind = Kind | BundleKind | SellerKind

ACCOUNT_KINDS: dict[str, AccountKind] = {each.value: each for each in (*Kind, *BundleKind, *SellerKind)}
"""The kind of an account, by its name in the database."""


def is_same_credit(kind: AccountKind, other: AccountKind) -> bool:
    """Return whether credit may move between accounts of these kinds: a seller's is voice credit."""
    return kind is other or {kind, other} == _SOLD


_SOLD: set[AccountKind] = {Kind.VOICE, SellerKind.SELLER}


class HoldState(StrEnum):
    """A hold is open, then ends once, in one of the other states."""

    OPEN = "open"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


class Account(msgspec.Struct, frozen=True):
    """Credit of one kind. A system account (no subscriber) stores no balance: its total is summed.

    ``spending_left`` is what the limits of its spending leave for today; ``None``: it has none.
    """

    id: int
    kind: AccountKind
    subscriber_id: int | None
    posted: int
    held: int
    floor: int
    spending_left: int | None = None

    @property
    def spendable(self) -> int:
        """Credits that a use may hold or take: what is available, and within the limits of spending."""
        available = self.posted - self.held - self.floor
        return available if self.spending_left is None else min(available, self.spending_left - self.held)

    @property
    def available(self) -> int:
        """Credits that may still be held or taken, down to the floor."""
        return self.posted - self.held - self.floor

    @property
    def is_system(self) -> bool:
        """Whether this is the operator's side of movements, not a subscriber's account."""
        return self.subscriber_id is None


class Transfer(msgspec.Struct, frozen=True):
    """An immutable movement of ``amount`` credits out of the debit account into the credit account.

    ``reference`` is the id that its sender made. The two ``posted`` values are the balances after it, ``None`` for a
    system account. ``note`` is the reason, where one is required (an overrun, a correction).
    """

    reference: str
    debit_account_id: int
    credit_account_id: int
    amount: int
    origin: str
    at: datetime
    debit_posted: int | None
    credit_posted: int | None
    note: str = ""


class Hold(msgspec.Struct, frozen=True):
    """Credit set aside for a call, message or data session, under a reference of its own."""

    reference: str
    account_id: int
    amount: int
    state: HoldState
    opened_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
