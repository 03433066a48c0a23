"""Limits of what an account may spend in a day and in a month. Pure.

Spent is what calls, messages, data and offers were charged; a correction by the operator is not, and a refund does not
lower it. The day and the month are those of the operator's time zone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date  # noqa: TC003  `value_from_row` reads the types of the fields

SPENDING = frozenset(("call", "sms", "data", "offer", "sale", "vouchers"))
"""The origins of transfers that spend; a sale spends what the seller has, and so do cards that they pay for."""

UNDO = "undo"
"""The origin of a transfer that undoes one, and the first word of its reference: its limits get it back."""


def undo_reference(reference: str) -> str:
    """Return the id of the transfer that undoes the one of this reference."""
    return f"{UNDO}:{reference}"


def commission_reference(reference: str) -> str:
    """Return the id of the transfer of a seller's bonus for the sale of this reference."""
    return f"commission:{reference}"


@dataclass(frozen=True, slots=True)
class Spending:
    """The limits of an account (``None``: none), and what it spent on the day ``spent_on`` and in its month."""

    day_limit: int | None = None
    month_limit: int | None = None
    spent_on: date | None = None
    spent_day: int = 0
    spent_month: int = 0


def on_day(spending: Spending, today: date) -> Spending:
    """Return what was spent as of ``today``: a new day begins at 0, and so does a new month.

    A day that is over already (the clock was set back) counts as today.
    """
    last = spending.spent_on
    if last is not None and last >= today:
        return spending
    is_same_month = last is not None and (last.year, last.month) == (today.year, today.month)
    return replace(spending, spent_on=today, spent_day=0, spent_month=spending.spent_month if is_same_month else 0)


def remaining(spending: Spending, today: date) -> int:
    """Return the credits that may still be spent today, at least 0. Raises `ValueError` where no limit is set."""
    now = on_day(spending, today)
    limits = ((now.day_limit, now.spent_day), (now.month_limit, now.spent_month))
    return max(0, min(limit - spent for limit, spent in limits if limit is not None))


def spend(spending: Spending, amount: int, today: date) -> Spending:
    """Return the spending after ``amount`` more credits today."""
    now = on_day(spending, today)
    return replace(now, spent_day=now.spent_day + amount, spent_month=now.spent_month + amount)


def give_back(spending: Spending, amount: int, spent_on: date, today: date) -> Spending:
    """Return the spending after credits that were spent on the day ``spent_on`` have come back."""
    now = on_day(spending, today)
    last = now.spent_on
    if last is None or (spent_on.year, spent_on.month) != (last.year, last.month):
        return now
    month = max(now.spent_month - amount, 0)
    return replace(now, spent_month=month, spent_day=max(now.spent_day - amount * (spent_on == last), 0))
