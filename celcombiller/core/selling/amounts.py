"""Amounts as people write them, and as they are shown to them. Pure, but for `read_money`.

An amount is whole credits, or money of the default tariff where that has a currency. Points, commas, spaces and
apostrophes are read as in any country, and nothing is guessed: ``1.234`` may be a thousand or a little more than one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.errors import InvalidValue
from celcombiller.core.languages.language import PLAIN, Language
from celcombiller.core.languages.language import Text as _
from celcombiller.core.ledger.balance_format import BalanceStyle, format_balance
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.text import escape_unprintable
from celcombiller.core.schema import tables
from celcombiller.core.tariffs.price_format import format_money

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.languages.language import Text

CHARACTERS_MAX = 40
_SHOWN_MAX = 20
_BLANKS = " \t\u00a0\u2009\u202f'\u2019"
"""What groups digits beside points and commas: spaces (ISO 80000-1, 7.3.1) and apostrophes."""

_SHAPE = re.compile(rf"\+?(?P<body>[0-9]{{1,17}}(?:[{_BLANKS}.,][0-9]{{1,17}})*|[.,][0-9]{{1,17}})", re.ASCII)
_SIGNS = re.compile(r"[.,]")


@dataclass(frozen=True, slots=True)
class Money:
    """What a unit of money is: so many credits. Without a currency amounts are credits."""

    currency: str = ""
    credits_per_unit: int = 1


CREDITS = Money()


def read_money(tx: Connection) -> Money:
    """Return the money of the default tariff, if it has a currency."""
    table = tables.tariff
    which = (table.c.is_default, table.c.deleted_at.is_(None), table.c.currency != "")
    row = tx.execute(sa.select(table.c.currency, table.c.credits_per_unit).where(*which)).first()
    return CREDITS if row is None else Money(row.currency, row.credits_per_unit)


def parse_amount(text: str, money: Money = CREDITS) -> int:
    """Return the credits of an amount that a person wrote, from 1 to `AMOUNT_MAX`.

    Raises `InvalidValue`, whose sentence says how to write it: for a text that is no number, for a sign of less than
    nothing, for one that could be read in two ways, and for parts of a credit.
    """
    bare = text.strip(_BLANKS + "\r\n")
    if money.currency:
        bare = _without_currency(bare, money.currency)
    if re.fullmatch(r"[-\u2212].*", bare, re.DOTALL):
        raise _refusal(text, _("must be more than 0"))
    found = _SHAPE.fullmatch(bare) if len(text) <= CHARACTERS_MAX else None
    if found is None:
        raise _refusal(text, _("is no amount: write digits, such as {example}", example=_example(money)))
    whole, decimals = _split(found["body"], text)
    value = Fraction(int(whole + decimals), 10 ** len(decimals)) * money.credits_per_unit
    if value.denominator != 1:
        what = _("must be whole credits, such as {example}", example=_example(money))
        if money.currency:
            step = f"{money.currency} 1/{money.credits_per_unit}"
            what = _("must be in steps of {step}, such as {example}", step=step, example=_example(money))
        raise _refusal(text, what)
    if not 1 <= value <= AMOUNT_MAX:
        raise _refusal(text, _("must be more than 0") if value < 1 else _("is too large"))
    return value.numerator


def format_amount(amount: int, money: Money, style: BalanceStyle, language: Language = PLAIN) -> str:
    """Return an amount for people: in money where there is one, else in the form of ``[balance]``."""
    if money.currency:
        return format_money(amount, money.currency, money.credits_per_unit, language)
    return format_balance(amount, Kind.VOICE, style, language)


def _split(body: str, text: str) -> tuple[str, str]:
    """Return the digits before and after the decimal sign. Raises `InvalidValue` where that is not certain."""
    signs = _SIGNS.findall(body)
    if not signs:
        return _join_groups(body, _BLANKS, text), ""
    last = signs[-1]
    head, tail = body.rsplit(last, 1)
    groups = set(signs[:-1])
    if last in groups:  # 1.234.567: one sign several times can only group digits
        if len(groups) > 1 or any(each in body for each in _BLANKS):
            raise _refusal(text, _("has its digits grouped in no known way"))
        return _join_groups(body, last, text), ""
    if any(each in tail for each in _BLANKS) or len(groups) > 1:
        raise _refusal(text, _("has its digits grouped in no known way"))
    if groups:  # 1.234,50: the last of two signs is the decimal one
        if any(each in head for each in _BLANKS):
            raise _refusal(text, _("has its digits grouped in no known way"))
        return _join_groups(head, groups.pop(), text), tail
    if any(each in head for each in _BLANKS):  # 1 234,50
        return _join_groups(head, _BLANKS, text), tail
    if len(tail) == 3 and re.fullmatch("[1-9][0-9]{0,2}", head):  # noqa: PLR2004  a group has three digits
        decimals = tail.rstrip("0") or "0"
        if len(decimals) == len(tail):
            decimals += "0"
        either = {"one": head + tail, "other": f"{head}{last}{decimals}"}
        raise _refusal(text, _("could mean two things: write {one} or {other}", **either))
    return head or "0", tail


def _join_groups(text: str, signs: str, whole: str) -> str:
    """Return the digits of a number whose groups of three ``signs`` separate. Raises `InvalidValue`."""
    groups = re.split(f"[{re.escape(signs)}]", text)
    used = {each for each in text if each in signs}
    if len(groups) > 1 and (
        len(used) > 1 or not re.fullmatch("[1-9][0-9]{0,2}", groups[0]) or {len(each) for each in groups[1:]} != {3}
    ):
        raise _refusal(whole, _("has its digits grouped in no known way"))
    return "".join(groups)


def _without_currency(text: str, currency: str) -> str:
    folded, word = text.casefold(), currency.casefold()
    if folded.startswith(word):
        return text[len(word) :].strip(_BLANKS)
    return text[: -len(word)].strip(_BLANKS) if folded.endswith(word) else text


def _example(money: Money) -> str:
    return "50" if money.credits_per_unit == 1 else _("50 or 12.50")


def _refusal(text: str, what: Text) -> InvalidValue:
    shown = escape_unprintable(text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…")
    return InvalidValue(_("the amount {shown} {what}", shown=repr(shown), what=what), {"amount": what})
