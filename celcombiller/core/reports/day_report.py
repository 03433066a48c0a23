"""Sums of movements by day or month, under the headings of a report. Read only; the cost grows with the days alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.model.day_sums import Direction, Movement
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_sum = tables.day_sum


class Period(StrEnum):
    """What one line of a report is of."""

    DAY = "day"
    MONTH = "month"


class Heading(StrEnum):
    """What movements come to, as an operator reads them. Credit comes in, or goes out; the headings have all of it."""

    SOLD = "sold"
    CALLS = "calls"
    MESSAGES = "messages"
    DATA = "data"
    PLANS = "plans"
    FEES = "fees"
    EXPIRED = "expired"
    GIVEN_BACK = "given_back"
    TAKEN_BACK = "taken_back"


_GIVEN_BACK = frozenset((Movement.REVERSAL, Movement.UNDO, Movement.RERATE, Movement.FEE, Movement.TRANSFER_FEE)) | {
    *(Movement.CALL, Movement.SMS, Movement.DATA, Movement.EXPIRY)
}
"""Movements that come in, and are no new credit."""

_USED = {
    Movement.CALL: Heading.CALLS,
    Movement.RERATE: Heading.CALLS,
    Movement.SMS: Heading.MESSAGES,
    Movement.DATA: Heading.DATA,
    Movement.OFFER: Heading.PLANS,
    Movement.FEE: Heading.FEES,
    Movement.TRANSFER_FEE: Heading.FEES,
    Movement.EXPIRY: Heading.EXPIRED,
}
"""The headings of what goes out; all else is taken back."""


@dataclass(frozen=True, slots=True)
class MovementSum:
    """The transfers of one kind in a period: their number and their credits."""

    movement: Movement
    direction: Direction
    transfers: int
    credits: int

    @property
    def heading(self) -> Heading | None:
        """What it comes to; ``None``: credit only changed hands."""
        match self.direction:
            case Direction.BETWEEN:
                return None
            case Direction.IN:
                return Heading.GIVEN_BACK if self.movement in _GIVEN_BACK else Heading.SOLD
            case _:
                return _USED.get(self.movement, Heading.TAKEN_BACK)


@dataclass(frozen=True, slots=True)
class PeriodSums:
    """All movements of one kind of account in a day, or in a month of which ``day`` is the first."""

    day: date
    account: str
    movements: list[MovementSum]

    def total(self, *headings: Heading) -> int:
        """Return the credits under some headings."""
        return sum(each.credits for each in self.movements if each.heading in headings)

    @property
    def used(self) -> int:
        """What calls, messages, data, plans and fees took."""
        return self.total(Heading.CALLS, Heading.MESSAGES, Heading.DATA, Heading.PLANS, Heading.FEES)


def sum_up(
    tx: Connection, first: date, until: date, *, by: Period = Period.DAY, account: str | None = None
) -> list[PeriodSums]:
    """Return the sums from a day to before another, by day and kind of account; of one kind, if it is named."""
    length = 10 if by is Period.DAY else 7  # of 2026-11-05
    period = sa.func.substr(sa.cast(_sum.c.day, sa.Text), 1, length)
    words = (period, _sum.c.account_kind, _sum.c.movement, _sum.c.direction)
    which = [_sum.c.day >= first, _sum.c.day < until]
    if account is not None:
        which.append(_sum.c.account_kind == account)
    totals: tuple[Any, ...] = (sa.func.sum(_sum.c.transfers), sa.func.sum(_sum.c.credits))
    found: dict[tuple[date, str], list[MovementSum]] = defaultdict(list)
    for day, kind, movement, direction, transfers, amount in tx.execute(
        sa.select(*words, *totals).where(*which).group_by(*words).order_by(*words)
    ):
        of = MovementSum(Movement(movement), Direction(direction), int(transfers), int(amount))
        found[date.fromisoformat(f"{day}-01"[:10]), kind].append(of)
    return [PeriodSums(*key, movements) for key, movements in found.items()]
