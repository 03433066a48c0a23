"""Recurring credit: schedules, their members, and their runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime  # noqa: TC003  `value_from_row` reads the types of the fields
from enum import IntEnum, StrEnum

from celcombiller.core.model.accounts import Kind


class ScheduleKind(IntEnum):
    """Which accounts a schedule credits, with the numbers of the original program, which had no sms."""

    VOICE = 1
    DATA = 2
    BOTH = 3
    SMS = 4

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of credit that it gives, each the same value."""
        return {1: (Kind.VOICE,), 2: (Kind.DATA,), 3: (Kind.VOICE, Kind.DATA), 4: (Kind.SMS,)}[self]


class Recurrence(StrEnum):
    """How the due dates of a schedule follow each other."""

    MONTHLY = "monthly"
    WEEKLY = "weekly"
    DAYS = "days"
    ONCE = "once"


class CatchUp(StrEnum):
    """Which of the due dates that passed while no biller ran are credited later."""

    ALL = "all"
    LAST = "last"
    NONE = "none"


class RunState(StrEnum):
    """The state of a due date: being credited, credited, or skipped as a whole."""

    OPEN = "open"
    DONE = "done"
    SKIPPED = "skipped"


class CreditOutcome(StrEnum):
    """What a member got on a due date: the credit, nothing because they are disabled, or nothing because of a fault."""

    CREDITED = "credited"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A group's credit: ``value`` of a kind, or a bundle of an offer, to each member on each due date.

    ``day`` is of the month (1 to 31) or of the week (1 is Monday), ``interval_days`` the step of `Recurrence.DAYS`.
    ``count`` is how many runs a new member gets. Due dates up to ``done_until`` are decided already.
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
    offer_id: int | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of credit that it gives; none, where it gives bundles."""
        return self.kind.kinds if self.offer_id is None else ()

    @property
    def kind_word(self) -> str:
        """What it gives: voice, data, both, sms or bundle."""
        return self.kind.name.lower() if self.offer_id is None else "bundle"


@dataclass(frozen=True, slots=True)
class Membership:
    """A subscriber in a schedule, with the number of runs left; credited on due dates from ``joined_on`` on."""

    id: int
    schedule_id: int
    subscriber_id: int
    count: int
    joined_on: date
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """A renewal of a membership: how many months were bought, and when."""

    id: int
    membership_id: int
    at: datetime
    months: int


@dataclass(frozen=True, slots=True)
class Run:
    """One due date of one schedule: what each member gets, fixed when the run began, and its progress.

    Members are credited in the order in which they joined; all up to ``last_membership_id`` are processed.
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
    offer_id: int | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of credit that it gives; none, where it gives bundles."""
        return self.kind.kinds if self.offer_id is None else ()

    @property
    def kind_word(self) -> str:
        """What it gives: voice, data, both, sms or bundle."""
        return self.kind.name.lower() if self.offer_id is None else "bundle"
