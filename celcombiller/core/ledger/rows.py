"""Rows to values."""

from __future__ import annotations

from typing import Any

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.accounts import Account, Hold, HoldState, Kind, Transfer

AMOUNT_MAX = 2**53 - 1
"""The largest amount and balance: the largest integer that every JSON reader keeps exact (RFC 8259, 6)."""


ACCOUNT_COLUMNS = ("id", "kind", "subscriber_id", "posted", "held", "floor")


def check_amount(amount: int, *, least: int = 0) -> None:
    """Raise `InvalidValue` unless the amount is within the bounds."""
    if not least <= amount <= AMOUNT_MAX:
        raise InvalidValue(f"an amount is a whole number from {least} to {AMOUNT_MAX}")


def account_from_row(row: Any) -> Account:
    """Return the account of a row."""
    return account_from_columns(*(getattr(row, name) for name in ACCOUNT_COLUMNS))


def account_from_columns(
    number: int, kind: str, subscriber_id: int | None, posted: int, held: int, floor: int
) -> Account:
    """Return the account of a row's columns, in the order of `ACCOUNT_COLUMNS`."""
    return Account(number, Kind(kind), subscriber_id, posted, held, floor)


def transfer_from_row(row: Any) -> Transfer:
    """Return the transfer of a row."""
    return Transfer(
        row.reference,
        row.debit_account_id,
        row.credit_account_id,
        row.amount,
        row.origin,
        row.at,
        row.debit_posted,
        row.credit_posted,
        row.note,
    )


def hold_from_row(row: Any) -> Hold:
    """Return the hold of a row."""
    return Hold(
        row.reference,
        row.account_id,
        row.amount,
        HoldState(row.state),
        row.opened_at,
        row.expires_at,
        row.ended_at,
    )
