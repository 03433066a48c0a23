"""The bounds of amounts and of texts, and accounts from the columns that every call reads."""

from __future__ import annotations

import re

from celcombiller.core.errors import BalanceTooHigh, InvalidValue
from celcombiller.core.model.accounts import ACCOUNT_KINDS, Account
from celcombiller.core.model.text import UNPRINTABLE

AMOUNT_MAX = 2**53 - 1
"""The largest amount and balance: the largest integer that every JSON reader keeps exact (RFC 8259, 6)."""


ACCOUNT_COLUMNS = ("id", "kind", "subscriber_id", "posted", "held", "floor")


SPENDING_COLUMNS = ("day_limit", "month_limit", "spent_on", "spent_day", "spent_month")


def check_amount(amount: int, *, least: int = 0) -> None:
    """Raise `InvalidValue` unless the amount is within the bounds."""
    if not least <= amount <= AMOUNT_MAX:
        raise InvalidValue(f"an amount is a whole number from {least} to {AMOUNT_MAX}")


def check_balance(posted: int) -> None:
    """Raise `BalanceTooHigh` for a balance beyond what an account may have."""
    if posted > AMOUNT_MAX:
        raise BalanceTooHigh(f"the balance would be {posted}, and no balance is higher than {AMOUNT_MAX}")


def account_from_columns(
    number: int, kind: str, subscriber_id: int | None, posted: int, held: int, floor: int
) -> Account:
    """Return the account of a row's columns, in the order of `ACCOUNT_COLUMNS`."""
    return Account(number, ACCOUNT_KINDS[kind], subscriber_id, posted, held, floor)


def check_line(field: str, value: str, most: int) -> str:
    """Return ``value`` if it is one printable line of at most ``most`` characters. Raise `InvalidValue` otherwise."""
    if len(value) > most or re.search(f"[{UNPRINTABLE}]", value):
        what = f"must be one printable line of at most {most} characters"
        raise InvalidValue(f"{field} {what}", {field: what})
    return value
