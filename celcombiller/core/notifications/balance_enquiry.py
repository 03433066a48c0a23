"""Balance enquiries by text message: each is answered once, with a free message."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celcombiller.core.bundles import bundle_records
from celcombiller.core.bundles.bundle_format import format_bundles
from celcombiller.core.charging import messages
from celcombiller.core.errors import UnknownSubscriber
from celcombiller.core.ledger import accounts, balance_format
from celcombiller.core.ledger.balance_format import BalanceStyle
from celcombiller.core.model.accounts import Kind
from celcombiller.core.subscribers.directory import Directory

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.sms.charging import MessagePolicy, MessageResult


@dataclass(frozen=True, slots=True)
class Wording:
    """The text of an answer, and the format of balances in it; ``bundles_text`` is added where there are bundles."""

    text: str = "Your balance is {balance}."
    style: BalanceStyle = field(default_factory=BalanceStyle)
    bundles_text: str = ""


def answer(
    tx: Connection,
    terms: MessagePolicy,
    wording: Wording,
    *,
    asked: str,
    account_code: str,
    caller_number: str,
    now: datetime,
) -> MessageResult:
    """Queue the answer to the sender; ``asked`` identifies the enquiry, which is answered only once.

    Raises `UnknownSubscriber`, and what `messages.submit` raises.
    """
    sender = Directory.load(tx, (account_code, caller_number)).find_payer(account_code, caller_number)
    if sender is None:
        raise UnknownSubscriber("neither the account code nor the sender's number is a subscriber's")
    available = {kind: account.available for kind, account in accounts.balances(tx, sender.id).items()}
    bundles = format_bundles(bundle_records.list_of(tx, sender.id), wording.style, now) if wording.bundles_text else ""
    text = " ".join(filter(None, (wording.text, wording.bundles_text if bundles else ""))).format(
        bundles=bundles,
        balance=balance_format.format_balance(available[Kind.VOICE], Kind.VOICE, wording.style),
        credits=available[Kind.VOICE],
        data=balance_format.format_balance(available[Kind.DATA], Kind.DATA, wording.style),
        sms=balance_format.format_balance(available[Kind.SMS], Kind.SMS, wording.style),
    )
    # ``asked`` contains text from the phone, of any length.
    digest = hashlib.sha256(f"{sender.id} {asked}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return messages.submit(tx, terms, reference=f"balance:{digest}", to_number=sender.clid, text=text, now=now)
