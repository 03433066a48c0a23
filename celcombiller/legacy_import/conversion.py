"""The conversion of a whole original database, before anything of the ledger is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from celcombiller.legacy_import import convert_movements, convert_plans, convert_users
from celcombiller.legacy_import.findings import Findings, Oddity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date, datetime
    from zoneinfo import ZoneInfo

    from celcombiller.core.model.accounts import Kind
    from celcombiller.legacy_import.convert_movements import Course, Movement
    from celcombiller.legacy_import.convert_plans import NewContract, NewMember, NewPlan
    from celcombiller.legacy_import.convert_users import NewSubscriber
    from celcombiller.legacy_import.source_database import Original

T = TypeVar("T")


class Progress(Protocol):
    """A wrapper of an iterable that shows the progress."""

    def __call__(self, items: Iterable[T], what: str, total: int) -> Iterable[T]:
        """Return ``items``, of which ``total`` are expected."""


@dataclass(frozen=True, slots=True)
class ImportTerms:
    """How a file is read: the time zone of its dates, the first day of its plans, and its name.

    ``source`` distinguishes the files that are imported into one ledger, as each of them has a user 1. ``passwords``:
    whether passwords are imported.
    """

    zone: ZoneInfo
    begin: date
    source: str = ""
    passwords: bool = True

    @property
    def prefix(self) -> str:
        """The beginning of the references of this file's rows."""
        return f"legacy:{self.source}:" if self.source else "legacy:"


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """A converted file, without its movements: they are many, and are read again when they are written.

    An account without a course has no movements, or none that can be imported. ``read`` has the number of rows of each
    table.
    """

    original: Original
    terms: ImportTerms
    now: datetime
    users: dict[int, NewSubscriber]
    courses: dict[tuple[int, Kind], Course]
    plans: dict[str, NewPlan]
    members: list[NewMember]
    contracts: list[NewContract]
    read: dict[str, int]
    findings: Findings

    @property
    def own_tables(self) -> set[str]:
        """The tables whose rows are imported. The rows of the others only describe those."""
        return set(self.read) - ({"dates", "schedule_input"} if self.original.calls_move else _DESCRIBING)

    def opening(self, user: NewSubscriber, kind: Kind) -> int:
        """Return the balance of an account before its first movement; all of it, if there is none."""
        course = self.courses.get((user.old_id, kind))
        return user.balances[kind] - (course.total if course else 0)

    def movements(self) -> Iterator[Movement]:
        """Return the movements, read again."""
        every = convert_movements.convert_movements(self.original, self.users, self.terms.zone, Findings(), self.now)
        return (each for each in every if (each.user_id, each.kind) in self.courses)


def convert_original(original: Original, terms: ImportTerms, now: datetime, progress: Progress) -> ConvertedFile:
    """Return the converted file, with the oddities that were found."""
    findings = Findings()
    for table, rows in sorted(original.other_tables.items()):
        findings.note(Oddity.OTHER_TABLE, f"{table} ({rows} rows)")
    for column in original.find_other_columns():
        findings.note(Oddity.OTHER_COLUMN, column)
    read = {table: original.count_rows(table) for table in original.tables_read}
    sums = convert_movements.sum_balances(original.read_movements()) if original.summed else None
    people = convert_users.convert_users(original, sums, findings)
    if not terms.passwords:
        people = {old_id: replace(user, password=None) for old_id, user in people.items()}
    moved = convert_movements.convert_movements(original, people, terms.zone, findings, now)
    courses = convert_movements.trace_courses(
        progress(moved, "Reading movements", sum(read.get(each, 0) for each in MOVING))
    )
    for (user_id, kind), course in list(courses.items()):
        if not course.fits(people[user_id].balances[kind]):
            findings.note(Oddity.TOO_LONG_A_CHAIN, f"{people[user_id].username} (users:{user_id}): {kind}")
            del courses[user_id, kind]
    made = convert_plans.convert_plans(original.read_plans(), terms.zone, terms.begin, findings)
    members = convert_plans.convert_members(original.read_members(), made, people, findings)
    member_rows = {row for member in members for row in member.rows}
    contracts = convert_plans.convert_contracts(original.read_contracts(), member_rows, terms.zone, findings)
    return ConvertedFile(original, terms, now, people, courses, made, members, contracts, read, findings)


MOVING = ("voice_balance", "data_balance", "balance", "cdr")
"""The tables whose rows moved balances, in any generation."""

_DESCRIBING = {"dates", "schedule_input", "cdr"}
