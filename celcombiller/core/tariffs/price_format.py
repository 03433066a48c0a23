"""Prices as texts, and the other way: exact, in credits or in the money of a tariff. Pure."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import TYPE_CHECKING

from celcombiller.core.errors import InvalidValue
from celcombiller.core.languages.language import PLAIN, Language
from celcombiller.core.model.tariffs import Service, Step
from celcombiller.core.model.text import format_count

if TYPE_CHECKING:
    from collections.abc import Sequence

UNITS_OF_PRICE = {Service.VOICE: 60, Service.SMS: 1, Service.DATA: 1024 * 1024}
"""The units that a price is for where nothing else is said: a minute, a message, a MiB."""

_UNIT_NAMES = {
    Service.VOICE: {60: "min", 1: "s"},
    Service.SMS: {1: "message"},
    Service.DATA: {2**20: "MiB", 2**30: "GiB"},
}
_DIGITS = (2, 4, 6, 8)
_AMOUNT_CHARACTERS_MAX = 30


def format_money(amount: Fraction | int, currency: str, credits_per_unit: int, language: Language = PLAIN) -> str:
    """Return an amount of credits in money, such as ``R$ 0.125``: exactly, or with ``~`` where it has no end."""
    value = Fraction(amount, credits_per_unit)
    for digits in _DIGITS:
        scaled = value * 10**digits
        if scaled.denominator == 1:
            break
    figures = language.format_number(f"{Decimal(round(scaled)).scaleb(-digits):.{digits}f}")
    return f"{'' if scaled.denominator == 1 else '~'}{currency} {figures}".strip()


def count_credits(amount: int) -> str:
    """Return an amount of credits as ``1 credit`` or ``120 credits``."""
    return format_count(amount, "credit")


def format_steps(service: Service, steps: Sequence[Step], currency: str = "", credits_per_unit: int = 1) -> str:
    """Return steps as a text: ``12 per min, 30/6``; ``12 per min, 1/1; from 60: 6 per min, 1/1``.

    With a currency, the price of a unit in money. The increments are those of the first two steps where both have one
    price, as price lists of voice have them.
    """
    parts = []
    place = 0
    while place < len(steps):
        step = steps[place]
        increments = f"{step.increment}/{step.increment}"
        following = steps[place + 1] if place + 1 < len(steps) else None
        if following is not None and _is_first_increment(step, following):
            increments = f"{step.increment}/{following.increment}"
            place += 1
        start = f"from {step.start}: " if step.start else ""
        parts.append(f"{start}{_format_price(service, step, currency, credits_per_unit)}, {increments}")
        place += 1
    return "; ".join(parts)


def _is_first_increment(step: Step, following: Step) -> bool:
    same = Fraction(step.price, step.per) == Fraction(following.price, following.per)
    return same and following.start == step.start + step.increment


def _format_price(service: Service, step: Step, currency: str, credits_per_unit: int) -> str:
    units = step.per
    if currency or credits_per_unit != 1:
        units = UNITS_OF_PRICE[service]
        price = format_money(Fraction(step.price * units, step.per), currency, credits_per_unit)
    else:
        price = str(step.price)
    return f"{price} per {_UNIT_NAMES[service].get(units, units)}"


def parse_amount(text: str, credits_per_unit: int = 1) -> Fraction:
    """Return an amount in credits, of a number with a decimal point; ``credits_per_unit`` for one in money.

    Raises `InvalidValue`.
    """
    try:
        value = Decimal(text) if len(text) <= _AMOUNT_CHARACTERS_MAX else Decimal("nan")
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite() or value < 0 or value.adjusted() > _AMOUNT_CHARACTERS_MAX:
        raise InvalidValue(f"{text!r} is no amount: write a number such as 12 or 0.125")
    return Fraction(value) * credits_per_unit


def whole_credits(amount: Fraction, what: str) -> int:
    """Return an amount that must be whole credits. Raises `InvalidValue`."""
    if amount.denominator != 1:
        raise InvalidValue(f"{what} must be whole credits, not {float(amount)}")
    return amount.numerator


def make_steps(price: Fraction, per: int, increments: tuple[int, int]) -> tuple[Step, ...]:
    """Return the steps of one price for ``per`` units, with a first increment and those that follow."""
    exact = price / per
    first, following = increments
    if first == following:
        return (Step(0, first, exact.numerator, exact.denominator),)
    return (
        Step(0, first, exact.numerator, exact.denominator),
        Step(first, following, exact.numerator, exact.denominator),
    )
