"""The operator's conditions for selling. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo

from celcombiller.core.ledger.balance_format import BalanceStyle
from celcombiller.core.sms.charging import MessagePolicy


@dataclass(frozen=True, slots=True)
class SellingTerms:
    """What the settings say of sales: how long one may be undone, receipts of the office, messages to both sides.

    ``tax_rate`` is in hundredths of a percent. A text that is empty is not sent. ``zone``: where days begin.
    """

    undo_within: timedelta = timedelta(minutes=10)
    office: str = "office"
    tax_rate: int = 0
    tax_name: str = "tax"
    sold_text: str = ""
    bought_text: str = ""
    undone_text: str = ""
    taken_back_text: str = ""
    refilled_text: str = ""
    style: BalanceStyle = field(default_factory=BalanceStyle)
    zone: tzinfo = UTC
    messages: MessagePolicy = field(default_factory=MessagePolicy)

    def date_of(self, at: datetime) -> date:
        """Return the operator's day."""
        return at.astimezone(self.zone).date()
