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


class WhenShort(StrEnum):
    """What a fee does where the balance is too low: try again while it is, take what there is, or wait for credit."""

    RETRY = "retry"
    PART = "part"
    WAIT = "wait"


class Joining(StrEnum):
    """What a member who joins between two due dates pays: the whole fee, by the days left, or nothing yet."""

    WHOLE = "whole"
    DAYS = "days"
    NEXT = "next"


class FeeState(StrEnum):
    """A fee period is owed, then ends once: paid, waived, passed over, cancelled as the member left, or undone."""

    OWED = "owed"
    PAID = "paid"
    WAIVED = "waived"
    PASSED = "passed"
    CANCELLED = "cancelled"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A group's credit: ``value`` of a kind, or a bundle of an offer, to each member on each due date.

    ``day`` is of the month (1 to 31) or of the week (1 is Monday), ``interval_days`` the step of `Recurrence.DAYS`.
    ``count`` is how many runs a new member gets. Due dates up to ``done_until`` are decided already.

    With ``when_short`` it takes a fee of ``value`` voice credits, which buys a bundle of the offer. ``remind_days``:
    how many days before a due date members are reminded; ``suspend_days``: after how many unpaid ones they are
    suspended.
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
    when_short: WhenShort | None = None
    joining: Joining | None = None
    remind_days: str | None = None
    suspend_days: int | None = None

    @property
    def takes(self) -> bool:
        """Whether it takes a fee."""
        return self.when_short is not None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of credit that it moves; none, where it gives bundles for nothing."""
        return self.kind.kinds if self.offer_id is None or self.takes else ()

    @property
    def kind_word(self) -> str:
        """What it gives: voice, data, both, sms or bundle; or that it takes: fee."""
        if self.takes:
            return "fee"
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
    when_short: WhenShort | None = None
    undone_at: datetime | None = None

    @property
    def takes(self) -> bool:
        """Whether it takes a fee."""
        return self.when_short is not None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of credit that it moves; none, where it gives bundles for nothing."""
        return self.kind.kinds if self.offer_id is None or self.takes else ()

    @property
    def kind_word(self) -> str:
        """What it gives: voice, data, both, sms or bundle; or that it takes: fee."""
        if self.takes:
            return "fee"
        return self.kind.name.lower() if self.offer_id is None else "bundle"


@dataclass(frozen=True, slots=True)
class FeePeriod:
    """The fee of one subscriber for the period that begins on a due date: ``paid`` of its ``amount``.

    It buys a bundle of the offer until ``ends_at`` when it is paid whole. ``outcome`` is what its run found; ``None``:
    the subscriber joined after the due date.
    """

    id: int
    schedule_id: int
    subscriber_id: int
    due_on: date
    membership_id: int
    outcome: CreditOutcome | None
    state: FeeState
    amount: int
    paid: int
    parts: int
    when_short: WhenShort
    offer_id: int | None
    due_at: datetime
    ends_at: datetime | None
    suspend_at: datetime | None
    suspended_at: datetime | None
    seen_transfer_id: int
    bundle_reference: str | None
    closed_at: datetime | None
    note: str = ""

    @property
    def left(self) -> int:
        """The credits that are owed still."""
        return self.amount - self.paid if self.state is FeeState.OWED else 0
