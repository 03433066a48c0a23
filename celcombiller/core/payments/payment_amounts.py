"""Amounts of money as providers write them, and the credits that they are. Pure, exact, without rounding."""

from __future__ import annotations

import re

from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.rows import AMOUNT_MAX

AMOUNT = r"^[0-9]{1,15}(\.[0-9]{1,9})?\Z"
"""Digits, and behind a point up to nine more: no sign, no spaces, no comma, no exponent."""

_AMOUNT = re.compile(AMOUNT)


def normalise_amount(text: str) -> str:
    """Return the one way to write an amount: without leading zeros, or zeros at the end of the decimals.

    Raises `InvalidValue`.
    """
    if not _AMOUNT.match(text):
        what = 'must be a decimal number in quotes, such as "12.50"'
        raise InvalidValue(f"amount {what}", {"amount": what})
    whole, _, decimals = text.partition(".")
    decimals = decimals.rstrip("0")
    return f"{int(whole)}{'.' if decimals else ''}{decimals}"


def credits_of(amount: str, credits_per_unit: int) -> int:
    """Return the credits of an amount. Raises `InvalidValue` unless they are a whole number from 1 on."""
    whole, _, decimals = normalise_amount(amount).partition(".")
    unit: int = 10 ** len(decimals)
    found, rest = divmod(int(whole + decimals) * credits_per_unit, unit)
    what = ""
    if rest:
        what = f"is no whole number of credits: one credit is 1/{credits_per_unit} of the currency"
    elif not 1 <= found <= AMOUNT_MAX:
        what = f"must be from 1 to {AMOUNT_MAX} credits; it is {found}"
    if what:
        raise InvalidValue(f"amount {what}", {"amount": what})
    return found
