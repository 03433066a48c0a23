"""The operator's rules and wording for commands from phones."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from celcombiller.core.credit_transfers.transfer_terms import CreditTransferTerms
from celcombiller.core.languages.built_in_texts import BUILT_IN_TEXTS
from celcombiller.core.ledger.balance_format import BalanceStyle
from celcombiller.core.selling.selling_terms import SellingTerms
from celcombiller.core.sms.charging import MessagePolicy

if TYPE_CHECKING:
    from celcombiller.core.text_commands.command_formats import CommandFormat


@dataclass(frozen=True, slots=True)
class CommandWording:
    """The answers to commands, in our words or the operator's."""

    sold: str = BUILT_IN_TEXTS["text_commands.sold_text"]
    sold_already: str = BUILT_IN_TEXTS["text_commands.sold_already_text"]
    redeemed: str = BUILT_IN_TEXTS["text_commands.redeemed_text"]
    pin_changed: str = BUILT_IN_TEXTS["text_commands.pin_changed_text"]
    refused: str = BUILT_IN_TEXTS["text_commands.refused_text"]
    unknown: str = BUILT_IN_TEXTS["text_commands.unknown_text"]
    late: str = BUILT_IN_TEXTS["text_commands.late_text"]


@dataclass(frozen=True, slots=True)
class CommandRules:
    """What commands there are, how they are answered, and when one is a repeat of another."""

    formats: tuple[CommandFormat, ...] = ()
    policy: MessagePolicy = field(default_factory=MessagePolicy)
    transfers: CreditTransferTerms = field(default_factory=CreditTransferTerms)
    selling: SellingTerms = field(default_factory=SellingTerms)
    style: BalanceStyle = field(default_factory=BalanceStyle)
    wording: CommandWording = field(default_factory=CommandWording)
    zone: str = "UTC"
    repeat: timedelta = timedelta(minutes=1)
    """How long the same words from another message are asked about, and not done again."""
    late: timedelta | None = timedelta(hours=24)
    """The age at which a message is refused, where its network says when it was sent."""
    per_minute_max: int = 10
    """Commands of one subscriber in a minute; more are not answered."""
