"""Free text messages to both sides of a sale, on the open transaction of the sale. One that cannot be sent is left out.

A sale is not refused because its message cannot be: there may be no way to phones, or a number may not be reached.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.charging import messages
from celcombiller.core.errors import BillerError
from celcombiller.core.model.selling import Receipt, ReceiptKind
from celcombiller.core.schema import tables
from celcombiller.core.selling.amounts import format_amount, read_money

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.languages.language import Value
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
    _queue(tx, terms, receipt, "seller", terms.sold_text, seller, posted=stock, name=buyer.name, now=now)
    _queue(tx, terms, receipt, "buyer", terms.bought_text, buyer, posted=balance, name=seller.name, now=now)


def queue_refill(tx: Connection, terms: SellingTerms, receipt: Receipt, *, stock: int, now: datetime) -> None:
    """Queue the message of a refill to the seller."""
    if receipt.kind is ReceiptKind.REFILL and terms.refilled_text:
        seller = _read_addressee(tx, receipt.taker_id)
        _queue(tx, terms, receipt, "seller", terms.refilled_text, seller, posted=stock, now=now)


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
            addressee = _read_addressee(tx, who)
            _queue(tx, terms, receipt, f"undone:{side}", text, addressee, posted=posted, now=now)


def _read_addressee(tx: Connection, subscriber_id: int | None) -> sa.Row[Any, Any]:
    which = _subscriber.c.id == subscriber_id
    return tx.execute(sa.select(_subscriber.c.clid, _subscriber.c.language).where(which)).one()


def _queue(
    tx: Connection,
    terms: SellingTerms,
    receipt: Receipt,
    side: str,
    text: str,
    who: Subscriber | sa.Row[Any, Any],
    *,
    posted: int | None,
    name: str = "",
    now: datetime,
) -> None:
    if not text:
        return
    money = read_money(tx)
    values: dict[str, Value] = {
        "amount": partial(format_amount, receipt.amount, money, terms.style),
        "balance": partial(format_amount, posted or 0, money, terms.style),
        "number": receipt.to_number,
        "name": name,
        "receipt": receipt.label,
    }
    with suppress(BillerError):
        messages.submit(
            tx,
            terms.messages,
            reference=f"receipt:{receipt.label}:{side}",
            to_number=who.clid,
            text=terms.messages.write(text, who.language, **values),
            now=now,
        )
