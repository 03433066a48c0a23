"""The operator's conditions for transfers between subscribers. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from celcombiller.core.errors import InvalidValue, NotOffered
from celcombiller.core.ledger.balance_format import BalanceStyle, format_balance
from celcombiller.core.model.accounts import Kind


class Confirmation(StrEnum):
    """How the payer confirms: by a code that is sent to their phone, by their PIN where they have one, or not."""

    CODE = "code"
    PIN = "pin"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class CreditTransferTerms:
    """Amounts are voice credits. ``most`` and ``day_limit``: ``None`` is no limit.

    The fee is ``fee`` and ``fee_percent`` of the amount, rounded up.
    """

    enabled: bool = False
    least: int = 1
    most: int | None = None
    day_limit: int | None = None
    fee: int = 0
    fee_percent: int = 0
    confirmation: Confirmation = Confirmation.CODE
    validity: timedelta = timedelta(minutes=10)
    asked_text: str = "Send {code} to this number to give {amount} to {number}. It costs you {fee}."
    pin_text: str = "Send your PIN to this number to give {amount} to {number}. It costs you {fee}."
    made_text: str = "You have given {amount} to {number}. Your balance is {balance}."
    received_text: str = "{number} has given you {amount}. Your balance is {balance}."
    style: BalanceStyle = field(default_factory=BalanceStyle)

    def fee_of(self, amount: int) -> int:
        """Return the fee for an amount."""
        return self.fee + -(-amount * self.fee_percent // 100)

    def check_offered(self) -> None:
        """Raise `NotOffered` where the operator has no transfers between subscribers."""
        if not self.enabled:
            raise NotOffered("transfers between subscribers are switched off (credit_transfers.enabled)")

    def check_amount(self, amount: int) -> None:
        """Raise `InvalidValue` unless one transfer may have this amount."""
        if amount < self.least or (self.most is not None and amount > self.most):
            least, most = self.format_amount(self.least), self.format_amount(self.most or 0)
            what = f"must be at least {least}" if self.most is None else f"must be from {least} to {most}"
            raise InvalidValue(f"the amount {what}", {"amount": what})

    def format_amount(self, amount: int) -> str:
        """Return an amount as balances are shown."""
        return format_balance(amount, Kind.VOICE, self.style)
