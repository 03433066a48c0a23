"""Balance enquiries by text message: each is answered once, with a free message."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from celcombiller.core.bundles import bundle_records
from celcombiller.core.bundles.bundle_format import format_bundles
from celcombiller.core.charging import messages
from celcombiller.core.errors import UnknownSubscriber
from celcombiller.core.languages.built_in_texts import BUILT_IN_TEXTS
from celcombiller.core.ledger import accounts
from celcombiller.core.ledger.balance_format import BalanceStyle, format_balance
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.bundles import BundleState
from celcombiller.core.subscribers.directory import Directory
from celcombiller.core.validity.end_dates import read_last_day

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.languages.language import Value
    from celcombiller.core.sms.charging import MessagePolicy, MessageResult


@dataclass(frozen=True, slots=True)
class Wording:
    """The text of an answer, and the format of balances in it; ``bundles_text`` is added where there are bundles.

    ``sms_text`` is added in any case, ``valid_until_text`` where voice credit has an end; ``zone`` is that of the
    operator's days.
    """

    text: str = BUILT_IN_TEXTS["balance.text"]
    style: BalanceStyle = field(default_factory=BalanceStyle)
    bundles_text: str = ""
    valid_until_text: str = ""
    zone: str = "UTC"
    sms_text: str = ""


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
    balances = accounts.balances(tx, sender.id)
    available = {kind: account.available for kind, account in balances.items()}
    last_day = read_last_day(tx, balances[Kind.VOICE], wording.zone) if wording.valid_until_text else None
    found = [*bundle_records.list_of(tx, sender.id)] if wording.bundles_text else []
    has_bundles = any(each.state_at(now) is BundleState.VALID for each in found)
    texts = (
        wording.text,
        wording.sms_text,
        wording.bundles_text if has_bundles else "",
        wording.valid_until_text if last_day else "",
    )
    values: dict[str, Value] = {
        "balance": partial(format_balance, available[Kind.VOICE], Kind.VOICE, wording.style),
        "credits": available[Kind.VOICE],
        "data": available[Kind.DATA],
        "sms": available[Kind.SMS],
        "bundles": partial(format_bundles, found, wording.style, now),
        "valid_until": last_day or "",
    }
    text = " ".join(terms.write(each, sender.language, **values) for each in texts if each)
    # ``asked`` contains text from the phone, of any length.
    digest = hashlib.sha256(f"{sender.id} {asked}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return messages.submit(tx, terms, reference=f"balance:{digest}", to_number=sender.clid, text=text, now=now)
