"""A balance that a subscriber asks for by text message: answered with a free message, once for each that asks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
    """The words of an answer, and how a balance is told in them."""

    text: str = "Your balance is {balance}."
    style: BalanceStyle = field(default_factory=BalanceStyle)


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
    """Queue the answer to who asks; ``asked`` is what the asking message is known by, and the same is answered once.

    Raises `UnknownSubscriber`, and what `messages.submit` raises.
    """
    who = Directory.load(tx, (account_code, caller_number)).caller(account_code, caller_number)
    if who is None:
        raise UnknownSubscriber("neither the account code nor the sender's number is a subscriber's")
    available = {kind: account.available for kind, account in accounts.balances(tx, who.id).items()}
    text = wording.text.format(
        balance=balance_format.format_balance(available[Kind.VOICE], Kind.VOICE, wording.style),
        credits=available[Kind.VOICE],
        data=balance_format.format_balance(available[Kind.DATA], Kind.DATA, wording.style),
        sms=balance_format.format_balance(available[Kind.SMS], Kind.SMS, wording.style),
    )
    # What a phone wrote is in ``asked``, at any length.
    known_by = hashlib.sha256(f"{who.id} {asked}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return messages.submit(tx, terms, reference=f"balance:{known_by}", to_number=who.clid, text=text, now=now)
