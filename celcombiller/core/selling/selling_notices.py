"""Free text messages to both sides of a sale, on the open transaction of the sale. One that cannot be sent is left out.

A sale is not refused because its message cannot be: there may be no way to phones, or a number may not be reached.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.charging import messages
from celcombiller.core.errors import BillerError
from celcombiller.core.model.selling import Receipt, ReceiptKind
from celcombiller.core.schema import tables
from celcombiller.core.selling.amounts import format_amount, read_money

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.selling.selling_terms import SellingTerms

_subscriber = tables.subscriber


def queue_sale(
    tx: Connection,
    terms: SellingTerms,
    receipt: Receipt,
    seller: Subscriber,
    buyer: Subscriber,
    *,
    stock: int | None,
    balance: int | None,
    now: datetime,
) -> None:
    """Queue the messages of a sale: to the seller with the stock, to the subscriber with the new balance."""
    _queue(tx, terms, receipt, "seller", terms.sold_text, seller.clid, posted=stock, name=buyer.name, now=now)
    _queue(tx, terms, receipt, "buyer", terms.bought_text, buyer.clid, posted=balance, name=seller.name, now=now)


def queue_refill(tx: Connection, terms: SellingTerms, receipt: Receipt, *, stock: int, now: datetime) -> None:
    """Queue the message of a refill to the seller."""
    if receipt.kind is ReceiptKind.REFILL:
        _queue(tx, terms, receipt, "seller", terms.refilled_text, receipt.to_number, posted=stock, now=now)


def queue_undone(
    tx: Connection,
    terms: SellingTerms,
    receipt: Receipt,
    *,
    stock: int | None,
    balance: int | None,
    now: datetime,
) -> None:
    """Queue the messages that a sale was undone, to both sides."""
    if receipt.kind is not ReceiptKind.SALE:
        return
    for side, who, text, posted in (
        ("seller", receipt.giver_id, terms.undone_text, stock),
        ("buyer", receipt.taker_id, terms.taken_back_text, balance),
    ):
        if text:
            number = tx.execute(sa.select(_subscriber.c.clid).where(_subscriber.c.id == who)).scalar_one()
            _queue(tx, terms, receipt, f"undone:{side}", text, number, posted=posted, now=now)


def _queue(
    tx: Connection,
    terms: SellingTerms,
    receipt: Receipt,
    side: str,
    text: str,
    to_number: str,
    *,
    posted: int | None,
    name: str = "",
    now: datetime,
) -> None:
    if not text:
        return
    money = read_money(tx)
    amount, balance = (format_amount(each, money, terms.style) for each in (receipt.amount, posted or 0))
    written = text.format(amount=amount, balance=balance, number=receipt.to_number, name=name, receipt=receipt.label)
    with suppress(BillerError):
        messages.submit(
            tx,
            terms.messages,
            reference=f"receipt:{receipt.label}:{side}",
            to_number=to_number,
            text=written,
            now=now,
        )
