"""The texts to phones where the settings have none of the operator's: one for each setting, by its name.

Most go to phones of any age, by radio cells with little room for messages: each fits one message of 160 characters with
usual values, in each language (a test counts).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from celcombiller.core.languages.language import Text as _

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celcombiller.core.languages.language import Text

BUILT_IN = "built-in"
"""What a setting says for the text that stands here."""

BUILT_IN_TEXTS: Mapping[str, Text] = MappingProxyType(
    {
        "balance.text": _("Your balance is {balance}."),
        "balance.sms_text": _("For messages: {sms}."),
        "balance.bundles_text": _("Bundles: {bundles}."),
        "balance.valid_until_text": _("Valid until {valid_until}."),
        "notices.text": _("Your balance is {balance}."),
        "notices.spending_text": _("You have spent {spent} of {limit}."),
        "notices.not_renewed": _("{name} was not renewed: your balance is too low."),
        "credit_validity.notice_text": _("Your credit of {balance} is valid until {date}."),
        "fees.reminder_text": _("{name}: {amount} will be taken on {date}. Your balance is {balance}."),
        "fees.unpaid_text": _("{name}: {left} is unpaid. Your balance is {balance}. Please top up."),
        "fees.suspended_text": _("{name}: {left} is unpaid, so your line is suspended. Please top up."),
        "fees.resumed_text": _("{name} is paid. Your line is on again. Your balance is {balance}."),
        "credit_transfers.asked_text": _(
            "Send {code} to this number to give {amount} to {number}. It costs you {fee}."
        ),
        "credit_transfers.pin_text": _(
            "Send your PIN to this number to give {amount} to {number}. It costs you {fee}."
        ),
        "credit_transfers.made_text": _("You have given {amount} to {number}. Your balance is {balance}."),
        "credit_transfers.received_text": _("{number} has given you {amount}. Your balance is {balance}."),
        "sellers.sold_text": _("Sold: {amount} to {number}, receipt {receipt}. Left to sell: {balance}."),
        "sellers.bought_text": _("You have received {amount}. Your balance is {balance}. Receipt {receipt}."),
        "sellers.undone_text": _("Undone: {amount} to {number}, receipt {receipt}. Left to sell: {balance}."),
        "sellers.taken_back_text": _("A sale of {amount} was undone, receipt {receipt}. Your balance is {balance}."),
        "sellers.refilled_text": _("You have received {amount} to sell, receipt {receipt}. Left to sell: {balance}."),
        "text_commands.sold_text": _("You have sold {amount} to {number}. You have {balance} left to sell."),
        "text_commands.sold_already_text": _(
            "You have sold {amount} to {number} at {time}. Send {code} to this number to sell it once more."
        ),
        "text_commands.redeemed_text": _("The voucher gave you {value}. Your balance is {balance}."),
        "text_commands.pin_changed_text": _("Your PIN is changed."),
        "text_commands.refused_text": _("Not done: {reason}."),
        "text_commands.unknown_text": _("This is no command. Look at the formats that your operator gave you."),
        "text_commands.late_text": _("Not done: your message came too late. Send it again if it is still meant."),
        "rest.login_code_text": _("{code} is your code to log in, good for {minutes} min. Tell it to nobody."),
    }
)
