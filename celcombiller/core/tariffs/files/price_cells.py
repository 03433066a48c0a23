"""The cells of one row that say what use costs, read as exact credits. Each fault names its column."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from typing import TYPE_CHECKING, NamedTuple

from celcombiller.core.model.tariffs import Service, Step
from celcombiller.core.tariffs.files.cells import (
    AMOUNT_MAX,
    ZERO,
    Amount,
    AmountReader,
    CellError,
    read_whole_number,
    shorten,
)
from celcombiller.core.tariffs.rate_row import encode_steps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

STEPS_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTerms:
    """How a file is to be read.

    ``credits_per_unit`` are the credits of one unit of money, ``time_zone`` that of its times. ``service`` is that of
    rows without one. ``columns`` names the columns of a file without a header. ``is_money``: amounts of a file of our
    own columns are money, not credits. ``plan`` is the rating plan of CGRateS.
    """

    time_zone: tzinfo
    credits_per_unit: int = 1
    service: Service = Service.VOICE
    columns: tuple[str, ...] = ()
    is_money: bool = False
    plan: str = ""


class RowPrices(NamedTuple):
    """What use costs; ``steps`` as the column has them."""

    connect_fee: int
    minimum_charge: int
    grace: int
    steps: str


class PriceCells:
    """The price cells of one row, by their fields; ``labels`` are the names of the columns in the file."""

    def __init__(
        self,
        cells: Mapping[str, str],
        labels: Mapping[str, str],
        row: int,
        amounts: AmountReader,
        service: Service,
        credits_per_unit: int,
    ) -> None:
        self.service = service
        self.faults: list[str] = []
        self._cells = cells
        self._labels = labels
        self._row = row
        self._amounts = amounts
        self._credits_per_unit = credits_per_unit

    def text(self, field: str) -> str:
        """Return a cell; an empty text, if the file has no such column."""
        return self._cells.get(field, "")

    def refuse(self, field: str, text: str) -> None:
        """Record a fault of a column."""
        self.faults.append(f"{self._labels.get(field, field)} {text}")

    def amount(self, field: str, text: str | None = None) -> Amount:
        """Return an amount as it is written."""
        try:
            return self._amounts.read(self.text(field) if text is None else text, self._row)
        except CellError as error:
            self.refuse(field, str(error))
            return ZERO

    def credits(self, *fields: str) -> int:
        """Return the sum of amounts that are charged as such, so it is whole credits."""
        total, decimals = 0, 0
        for field in fields:
            value = self.amount(field)
            shared = max(decimals, value.decimals)
            total = Amount(total, decimals).scaled(shared) + value.scaled(shared)
            decimals = shared
        total, rest = divmod(total * self._credits_per_unit, Amount(1, 0).scaled(decimals))
        if rest:
            text = shorten(" + ".join(self.text(each) for each in fields if self.text(each)))
            exact = Amount(total * 10**decimals + rest, decimals)
            self.refuse(
                fields[0],
                f"{text}: is {exact} credits at {self._credits_per_unit} credits a unit; fees are whole credits,"
                f" so its last digits cannot be kept (of {exact}, those after the point)",
            )
        if total > AMOUNT_MAX:
            self.refuse(fields[0], f"{shorten(self.text(fields[0]))}: is more than {AMOUNT_MAX} credits")
        return total

    def count(self, field: str, default: int = 0) -> int:
        """Return a whole number of units; ``default``, where the cell is empty."""
        text = self.text(field)
        if not text:
            return default
        try:
            return read_whole_number(text)
        except CellError as error:
            self.refuse(field, str(error))
            return default

    def needed(self, field: str) -> Amount:
        """Return an amount that must be there."""
        if not self.text(field):
            self.refuse(field, "is empty")
        return self.amount(field)

    def step(self, start: int, increment: int, price: Amount, per: int, field: str = "price") -> Step:
        """Return a step at a price for ``per`` units, exactly: ``0.125`` for 60 units is 1 credit for 480, at 1 a unit.

        Raises no error: a fault names the column ``field``.
        """
        whole, parts = price.digits * self._credits_per_unit, 10**price.decimals
        shared = gcd(whole, parts)
        found = Step(start, increment, whole // shared, per * parts // shared)
        if found.price > AMOUNT_MAX or found.per > AMOUNT_MAX:
            self.refuse(field, f"{price}: cannot be kept exactly: it has too many digits")
        return found

    def prices(self, connect_fee: int, minimum_charge: int, grace: int, steps: list[Step]) -> RowPrices:
        """Return what use costs, after a check of the steps."""
        beginnings = [each.start for each in steps]
        if beginnings[:1] != [0] or any(later <= before for before, later in pairwise(beginnings)):
            self.refuse("steps", "must begin at 0, and each after the one before")
        if len(steps) > STEPS_MAX:
            self.refuse("steps", f"are {len(steps)}; at most {STEPS_MAX}")
        if any(each.start > AMOUNT_MAX or not 0 < each.increment <= AMOUNT_MAX or each.per < 1 for each in steps):
            self.refuse("increment", f"must be from 1 to {AMOUNT_MAX}")
        return RowPrices(connect_fee, minimum_charge, grace, encode_steps(tuple(steps)))


def block_steps(cells: PriceCells, first: int, block: int, price: Amount, field: str) -> list[Step]:
    """Return the steps of a first block and of further ones of ``block`` seconds, at a price a minute.

    A2Billing and MagnusBilling round a call that is longer than its first block to whole blocks from its beginning. So
    where the first is not a number of whole blocks, a shorter increment leads to the next of them: 30/18 is 30, then 6,
    then 18 seconds each.
    """
    block = block or 1
    if first in (0, block):
        return [cells.step(0, block, price, 60, field)]
    gap = -first % block
    steps = [cells.step(0, first, price, 60, field)]
    if gap:
        steps.append(cells.step(first, gap, price, 60, field))
    return [*steps, cells.step(first + gap, block, price, 60, field)]
