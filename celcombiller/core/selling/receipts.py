"""Numbered receipts on an open transaction: one row of numbers for each seller and each office, without gaps.

Who makes a receipt locks its series first, and accounts after it, so that no two transactions wait for each other. The
number is taken last, when nothing can be refused any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.errors import NotFound
from celcombiller.core.model.selling import RATE_WHOLE, Receipt, ReceiptKind
from celcombiller.core.schema import tables
from celcombiller.core.schema.rows import value_from_row
from celcombiller.core.selling.amounts import format_amount

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from sqlalchemy.engine import Connection

    from celcombiller.core.selling.amounts import Money
    from celcombiller.core.selling.selling_terms import SellingTerms

_receipt, _series = tables.receipt, tables.receipt_series


def series_of_seller(seller_id: int) -> str:
    """Return the name of a seller's series."""
    return f"S{seller_id}"


def lock_series(tx: Connection, name: str, seller_id: int | None = None) -> None:
    """Lock a series until the transaction ends; make it at its first use."""
    query = sa.select(_series.c.name).where(_series.c.name == name).with_for_update()
    if tx.execute(query).first() is None:
        values = sa.select(
            sa.literal(name, sa.Text), sa.literal(seller_id, tables.BigId), sa.literal(0, sa.BigInteger)
        ).where(~sa.exists(sa.select(_series.c.name).where(_series.c.name == name)))
        _insert_unless_there(tx, values)
        tx.execute(query)


def _insert_unless_there(tx: Connection, values: Any) -> None:
    """Insert a series; another transaction may do so at the same time, and then this one waits for it."""
    columns = ("name", "seller_id", "last_number")
    if tx.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415  only where it is used

        tx.execute(postgresql.insert(_series).from_select(columns, values).on_conflict_do_nothing())
    else:
        tx.execute(sa.insert(_series).from_select(columns, values))


def issue(
    tx: Connection,
    series: str,
    kind: ReceiptKind,
    reference: str,
    *,
    giver_id: int | None,
    taker_id: int,
    to_number: str,
    amount: int,
    commission: int = 0,
    paid: int | None = None,
    tax_rate: int = 0,
    origin: str,
    now: datetime,
) -> Receipt:
    """Issue the next receipt of a series, which is locked, for the transfer of this reference."""
    taken = sa.update(_series).where(_series.c.name == series).values(last_number=_series.c.last_number + 1)
    number: int = tx.execute(taken.returning(_series.c.last_number)).scalar_one()
    values = {
        "series": series,
        "number": number,
        "kind": kind.value,
        "reference": reference,
        "giver_id": giver_id,
        "taker_id": taker_id,
        "to_number": to_number,
        "amount": amount,
        "commission": commission,
        "paid": paid,
        "tax_rate": tax_rate,
        "origin": origin,
        "at": now,
    }
    return value_from_row(tx.execute(sa.insert(_receipt).values(values).returning(_receipt)).one(), Receipt)


def void(tx: Connection, receipt: Receipt, now: datetime) -> Receipt:
    """Mark a receipt of a locked series as void; it keeps its number."""
    made = sa.update(_receipt).where(_receipt.c.id == receipt.id).values(voided_at=now).returning(_receipt)
    return value_from_row(tx.execute(made).one(), Receipt)


def find_by_reference(tx: Connection, reference: str) -> Receipt | None:
    """Return the receipt of a transfer, if it has one."""
    row = tx.execute(sa.select(_receipt).where(_receipt.c.reference == reference)).first()
    return None if row is None else value_from_row(row, Receipt)


def find(tx: Connection, label: str) -> Receipt:
    """Return the receipt of a number as it is printed (``S12-000034``). Raise `NotFound` if there is none."""
    series, _, number = label.rpartition("-")
    if number.isascii() and number.isdigit() and len(number) < 19:  # noqa: PLR2004  what 64 bits hold
        which = (_receipt.c.series == series, _receipt.c.number == int(number))
        row = tx.execute(sa.select(_receipt).where(*which)).first()
        if row is not None:
            return value_from_row(row, Receipt)
    raise NotFound("there is no receipt of this number")


def list_receipts(
    tx: Connection,
    *,
    limit: int,
    seller_id: int | None = None,
    kinds: Sequence[ReceiptKind] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    before_id: int | None = None,
) -> list[Receipt]:
    """Return the last ``limit`` receipts, newest first; of a seller: those in which they gave or took."""
    conditions: list[sa.ColumnElement[bool]] = []
    if seller_id is not None:
        took = sa.and_(_receipt.c.taker_id == seller_id, _receipt.c.kind.in_(("refill", "return")))
        conditions.append(sa.or_(_receipt.c.giver_id == seller_id, took))
    if kinds:
        conditions.append(_receipt.c.kind.in_(kinds))
    if since is not None:
        conditions.append(_receipt.c.at >= since)
    if until is not None:
        conditions.append(_receipt.c.at < until)
    if before_id is not None:
        conditions.append(_receipt.c.id < before_id)
    query = sa.select(_receipt).where(*conditions).order_by(_receipt.c.id.desc()).limit(limit)
    return [value_from_row(row, Receipt) for row in tx.execute(query)]


def find_recent_sale(
    tx: Connection, seller_id: int, to_number: str, amount: int, *, within: timedelta, now: datetime
) -> Receipt | None:
    """Return the last sale of this amount by this seller to this number that is not older; not one that was undone."""
    which = (
        _receipt.c.giver_id == seller_id,
        _receipt.c.kind == ReceiptKind.SALE.value,
        _receipt.c.to_number == to_number,
        _receipt.c.amount == amount,
        _receipt.c.at > now - within,
        _receipt.c.voided_at.is_(None),
    )
    row = tx.execute(sa.select(_receipt).where(*which).order_by(_receipt.c.id.desc()).limit(1)).first()
    return None if row is None else value_from_row(row, Receipt)


def find_last_sale(tx: Connection, seller_id: int, to_number: str | None = None) -> Receipt | None:
    """Return the last sale of a seller that was not undone, to this number where one is given."""
    which = [
        _receipt.c.giver_id == seller_id,
        _receipt.c.kind == ReceiptKind.SALE.value,
        _receipt.c.voided_at.is_(None),
    ]
    if to_number is not None:
        which.append(_receipt.c.to_number == to_number)
    row = tx.execute(sa.select(_receipt).where(*which).order_by(_receipt.c.id.desc()).limit(1)).first()
    return None if row is None else value_from_row(row, Receipt)


@dataclass(frozen=True, slots=True)
class Tax:
    """The tax within a price: net and tax are the price; the tax is rounded half up."""

    net: int
    tax: int


def tax_in(price: int, rate: int) -> Tax:
    """Return the tax within a price that includes it; ``rate`` is in hundredths of a percent of the net price."""
    whole = RATE_WHOLE + rate
    tax = (2 * price * rate + whole) // (2 * whole)
    return Tax(price - tax, tax)


def write_receipt(receipt: Receipt, terms: SellingTerms, money: Money) -> str:
    """Return the text of a receipt, for a screen or a small printer."""

    def show(amount: int) -> str:
        return format_amount(amount, money, terms.style)

    titles = {
        ReceiptKind.SALE: "Sale of credit",
        ReceiptKind.REFILL: "Refill of a seller",
        ReceiptKind.RETURN: "Return of a seller's credit",
        ReceiptKind.CREDIT: "Credit by the operator",
    }
    lines = [
        f"Receipt {receipt.label}",
        receipt.at.astimezone(terms.zone).strftime("%Y-%m-%d %H:%M"),
        titles[receipt.kind],
        f"Number: {receipt.to_number}",
        f"Credit: {show(receipt.amount)}",
    ]
    price = receipt.amount if receipt.paid is None else receipt.paid
    if receipt.paid is not None:
        lines.append(f"Paid: {show(receipt.paid)}")
    if receipt.tax_rate:
        percent = f"{receipt.tax_rate / 100:.2f}".rstrip("0").rstrip(".")
        lines.append(f"Of which {percent} % {terms.tax_name}: {show(tax_in(price, receipt.tax_rate).tax)}")
    if receipt.voided_at is not None:
        lines.append(f"VOID since {receipt.voided_at.astimezone(terms.zone):%Y-%m-%d %H:%M}")
    return "\n".join(lines)
