"""The operator's conditions for transfers between subscribers. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import partial

from celcombiller.core.errors import InvalidValue, NotOffered
from celcombiller.core.languages.built_in_texts import BUILT_IN_TEXTS
from celcombiller.core.languages.language import PLAIN, Language
from celcombiller.core.languages.language import Text as _
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
    asked_text: str = BUILT_IN_TEXTS["credit_transfers.asked_text"]
    pin_text: str = BUILT_IN_TEXTS["credit_transfers.pin_text"]
    made_text: str = BUILT_IN_TEXTS["credit_transfers.made_text"]
    received_text: str = BUILT_IN_TEXTS["credit_transfers.received_text"]
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
            least, most = (partial(self.format_amount, each or 0) for each in (self.least, self.most))
            what = _("must be at least {least}", least=least)
            if self.most is not None:
                what = _("must be from {least} to {most}", least=least, most=most)
            raise InvalidValue(_("the amount {what}", what=what), {"amount": what})

    def format_amount(self, amount: int, language: Language = PLAIN) -> str:
        """Return an amount as balances are shown."""
        return format_balance(amount, Kind.VOICE, self.style, language)
