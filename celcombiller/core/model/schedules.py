"""The values the biller speaks of, frozen and built valid.

Amounts are whole credits (``int``). Times are aware UTC ``datetime``; talk is whole milliseconds. What a word means
is fixed once, here; nothing in this module knows a database, Asterisk or a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

from celcombiller.core.model.accounts import Kind

if TYPE_CHECKING:
    from datetime import date, datetime


class ScheduleKind(IntEnum):
    """Which pots a schedule fills, with the numbers of the original program, which had no sms."""

    VOICE = 1
    DATA = 2
    BOTH = 3
    SMS = 4

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of credit that it gives; both get the same value."""
        return {1: (Kind.VOICE,), 2: (Kind.DATA,), 3: (Kind.VOICE, Kind.DATA), 4: (Kind.SMS,)}[self]


class Recurrence(StrEnum):
    """How the due dates of a schedule follow one another."""

    MONTHLY = "monthly"
    WEEKLY = "weekly"
    DAYS = "days"
    ONCE = "once"


class CatchUp(StrEnum):
    """Which due dates are made good that passed while no biller ran."""

    ALL = "all"
    LAST = "last"
    NONE = "none"


class RunState(StrEnum):
    """A due date of a schedule is being credited, or was, or was passed over as a whole."""

    OPEN = "open"
    DONE = "done"
    SKIPPED = "skipped"


class CreditOutcome(StrEnum):
    """What a due date brought one member: its credit, nothing because he is disabled, or nothing because of a fault."""

    CREDITED = "credited"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A group's credit: ``value`` of a kind to each member on each due date from ``first_on`` on.

    ``day`` is of the month (1 to 31) or of the week (1 is Monday), ``interval_days`` the step of `Recurrence.DAYS`.
    ``count`` is how many runs a new member gets. What was due up to ``done_until`` has been decided.
    """

    id: int
    name: str
    kind: ScheduleKind
    value: int
    recurrence: Recurrence
    day: int | None
    interval_days: int | None
    first_on: date
    count: int
    time_zone: str
    catch_up: CatchUp
    enabled: bool
    done_until: date
    created_at: datetime
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """A subscriber in a schedule, with the runs he has left; he gets what is due from ``joined_on`` on."""

    id: int
    schedule_id: int
    subscriber_id: int
    count: int
    joined_on: date
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """A membership that was renewed: how many months were bought, and when."""

    id: int
    membership_id: int
    at: datetime
    months: int


@dataclass(frozen=True, slots=True)
class Run:
    """One due date of one schedule: what each member gets, fixed when it began, and how far it is.

    Members are credited in the order in which they joined; all up to ``last_membership_id`` have had their turn.
    """

    id: int
    schedule_id: int
    due_on: date
    kind: ScheduleKind
    value: int
    state: RunState
    opened_at: datetime
    closed_at: datetime | None = None
    last_membership_id: int = 0
    credited: int = 0
    passed: int = 0
    failed: int = 0
    note: str = ""
