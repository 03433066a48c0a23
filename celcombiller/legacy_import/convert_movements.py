"""Movements of the original's balances: signed whole credits with a date, in order. Values only.

The history is imported as real transfers. An opening transfer before the first of an account makes up the difference
to the balance: what a user began with, and all edits that the original did not record. So each balance is the sum of
its transfers, a statement has the balance after each of them, and the dates are those of the original.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING

from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.legacy_import.cell_values import read_instant, read_line, read_number, read_whole_number
from celcombiller.legacy_import.findings import Findings, Oddity

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from celcombiller.core.model.accounts import Kind
    from celcombiller.legacy_import.source_database import Original
    from celcombiller.legacy_import.source_rows import OldCall, OldMovement, Raw

CALL_MARGIN = timedelta(minutes=1)
"""The longest time between the end of a call and the row that charged it. One script wrote both, in turn."""


@dataclass(frozen=True, slots=True)
class Movement:
    """A change of a user's balance. ``value`` is signed and not 0."""

    row: str
    user_id: int
    kind: Kind
    value: int
    at: datetime
    origin: str
    to_user_id: Raw
    user_ip: str
    connection_ip: str
    note: str


def convert_movements(
    original: Original, users: Container[object], zone: tzinfo, findings: Findings, now: datetime
) -> Iterator[Movement]:
    """Yield all movements of these users, oldest first, those of one user in the order in which they were made."""
    calls = _SeparateCalls(original.read_separate_calls(), zone)
    firsts = [_first(source, zone, now) for source in original.read_movements()]
    sources = [
        _convert_source(source, users, _Dates(zone, findings, first), findings, calls)
        for source, first in zip(original.read_movements(), firsts, strict=True)
    ]
    yield from heapq.merge(*sources, key=lambda movement: movement.at)
    for call in calls.list_left():
        findings.note(Oddity.UNPROVED_CALL, call.row)


def _first(source: Iterable[OldMovement], zone: tzinfo, now: datetime) -> datetime:
    return next((at for old in source if (at := read_instant(old.date, zone)) is not None), now)


def _convert_source(
    source: Iterable[OldMovement], users: Container[object], dates: _Dates, findings: Findings, calls: _SeparateCalls
) -> Iterator[Movement]:
    for old in source:
        at = dates.read(old)
        if old.user_id not in users or not isinstance(old.user_id, int):
            findings.note(Oddity.ORPHAN, f"{old.row} (user {read_line(old.user_id, 20)})")
            continue
        amount = signed_amount(old)
        value = None if amount is None else whole_credits(amount)
        if not value:
            findings.note(Oddity.NO_VALUE, f"{old.row} ({read_line(old.value, 20) or 'none'})")
            continue
        call = calls.take_charged(old.user_id, value, at)
        yield Movement(
            row=old.row,
            user_id=old.user_id,
            kind=old.kind,
            value=value,
            at=at,
            origin=_origin(old, call),
            to_user_id=old.to_user_id if call is None else call.to_user_id,
            user_ip=read_line(old.user_ip, 64),
            connection_ip=read_line(old.connection_ip, 64),
            note=f"plan {read_line(old.plan, 200)}" if old.plan else "",
        )


def signed_amount(old: OldMovement) -> Decimal | None:
    """Return the exact amount that a row added to the balance; ``None`` if the original did not count it."""
    amount = read_number(old.value)
    if amount is None or old.sign is None:
        return amount
    return {"+": amount, "-": -amount}.get(read_line(old.sign, 8))


def whole_credits(amount: Decimal) -> int | None:
    """Return the amount as whole credits; ``None`` if one transfer cannot move it."""
    if abs(amount) > AMOUNT_MAX or amount != amount.to_integral_value():
        return None
    return int(amount)


def _origin(old: OldMovement, call: OldCall | None) -> str:
    """Return the origin of a movement. The first generations have none, but there only operators added credit."""
    if call is not None:
        return "call"
    if old.origin is None and old.sign:
        return "web" if read_line(old.sign, 8) == "+" else "legacy"
    return read_line(old.origin, 64) or "legacy"


@dataclass(slots=True)
class _Dates:
    """The dates of one source. A date that cannot be read is replaced by that of the row before."""

    zone: tzinfo
    findings: Findings
    last: datetime

    def read(self, old: OldMovement) -> datetime:
        at = read_instant(old.date, self.zone)
        if at is None:
            self.findings.note(Oddity.DATE, f"{old.row} ({read_line(old.date, 32) or 'none'})")
            return self.last
        self.last = at
        return at


class _SeparateCalls:
    """The calls of generations that recorded a call and its charge separately. They match by payer, length and end."""

    def __init__(self, calls: Iterable[OldCall], zone: tzinfo) -> None:
        self._calls: dict[tuple[Raw, int], list[tuple[datetime | None, OldCall]]] = defaultdict(list)
        for call in calls:
            seconds = read_whole_number(call.billsec) or 0
            self._calls[call.user_id, seconds].append((_end(read_instant(call.answer, zone), seconds), call))

    def take_charged(self, user_id: int, value: int, at: datetime) -> OldCall | None:
        """Return the call that this movement charged, and forget it."""
        waiting = self._calls.get((user_id, -value), [])
        for position, (end, call) in enumerate(waiting):
            if end is not None and abs(end - at) <= CALL_MARGIN:
                del waiting[position]
                return call
        return None

    def list_left(self) -> Iterator[OldCall]:
        """Return the calls that no movement charged."""
        return (call for waiting in self._calls.values() for _, call in waiting)


def _end(answer: datetime | None, seconds: int) -> datetime | None:
    try:
        return None if answer is None else answer + timedelta(seconds=seconds)
    except OverflowError:
        return None


# -- the course of each account ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Course:
    """The sum of an account's movements, with the time of the first, and the least and the greatest partial sum."""

    first_at: datetime
    rows: int = 0
    total: int = 0
    least: int = 0
    most: int = 0

    def add(self, value: int) -> None:
        """Add a movement."""
        self.rows += 1
        self.total += value
        self.least = min(self.least, self.total)
        self.most = max(self.most, self.total)

    def fits(self, balance: int) -> bool:
        """Return whether the opening that leads to this balance, and each balance after it, is within the limits."""
        opening = balance - self.total
        return abs(opening) <= AMOUNT_MAX and opening + self.most <= AMOUNT_MAX and opening + self.least >= -AMOUNT_MAX


def trace_courses(movements: Iterable[Movement]) -> dict[tuple[int, Kind], Course]:
    """Return the course of each account that has movements."""
    found: dict[tuple[int, Kind], Course] = {}
    for each in movements:
        course = found.get((each.user_id, each.kind))
        if course is None:
            course = found[each.user_id, each.kind] = Course(each.at)
        course.add(each.value)
    return found


def sum_balances(sources: Iterable[Iterable[OldMovement]]) -> dict[tuple[Raw, Kind], Decimal]:
    """Return the balances that the file does not have, as the original computed them: sums of the signed amounts."""
    found: dict[tuple[Raw, Kind], Decimal] = defaultdict(Decimal)
    for old in (old for source in sources for old in source):
        found[old.user_id, old.kind] += signed_amount(old) or 0
    return found
