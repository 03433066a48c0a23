"""Plans and groups of the original as schedules, with their members. Values only.

The original ran a plan at 00:30 of its day. So it has credited everything up to the day of the import, and the
schedules begin the day after, or on the day that the operator names. What a run credited is a movement with the name of
the plan in its note. The original did not record the due date, so none is invented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.schedules import ScheduleKind
from celcombiller.core.schedules.schedule_records import COUNT_MAX
from celcombiller.legacy_import.cell_values import read_instant, read_line, read_whole_number
from celcombiller.legacy_import.findings import Findings, Oddity

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from datetime import date, datetime
    from zoneinfo import ZoneInfo

    from celcombiller.legacy_import.source_rows import OldContract, OldMember, OldPlan

RUNS = 12
"""The runs of a new member if the plan has no number: the original asked for it with each member."""

_DAY_MOST = 31
_DAY_EVERY_MONTH_HAS = 28


@dataclass(frozen=True, slots=True)
class NewPlan:
    """A plan as a monthly schedule. ``dates_left`` is the number of dates that a group had left."""

    row: str
    name: str
    kind: ScheduleKind
    value: int
    day: int
    first_on: date
    count: int
    dates_left: int
    enabled: bool


@dataclass(frozen=True, slots=True)
class NewMember:
    """A member with the runs left. ``rows`` are all rows of this membership."""

    rows: tuple[str, ...]
    plan: str
    user_id: int
    count: int


@dataclass(frozen=True, slots=True)
class NewContract:
    """A renewal of a membership, which a row made."""

    row: str
    member: str
    at: datetime
    months: int


def convert_plans(olds: Iterable[OldPlan], zone: ZoneInfo, begin: date, findings: Findings) -> dict[str, NewPlan]:
    """Return the plans that can be schedules, by their rows. They begin on ``begin``."""
    made = (_plan(old, zone, begin, findings) for old in olds)
    return {plan.row: plan for plan in made if plan is not None}


def _plan(old: OldPlan, zone: ZoneInfo, begin: date, findings: Findings) -> NewPlan | None:
    name = read_line(old.name, 200) or old.row
    moments = (read_instant(cell, zone) for cell in old.dates)
    ahead = sorted(day for day in (each.astimezone(zone).date() for each in moments if each) if day >= begin)
    known = (old.value, old.kind, old.day)
    day = (ahead[0].day if ahead else 1) if old.day is None else read_whole_number(old.day)
    kind = ScheduleKind.VOICE if old.kind is None else read_whole_number(old.kind)
    value = 0 if old.value is None else read_whole_number(old.value)
    if not (_within(day, 1, _DAY_MOST) and _within(kind, 1, ScheduleKind.BOTH.value) and _within(value, 0, AMOUNT_MAX)):
        findings.note(Oddity.BAD_PLAN, f"{name} ({old.row}): day {day}, kind {kind}, value {value}")
        return None
    if None in known:
        findings.note(Oddity.NO_PLAN_VALUE, f"{name} ({old.row})")
    elif day > _DAY_EVERY_MONTH_HAS:
        findings.note(Oddity.PLAN_OVER_28, f"{name} ({old.row}): {day}")
    return NewPlan(
        row=old.row,
        name=name,
        kind=ScheduleKind(kind),
        value=value,
        day=day,
        first_on=ahead[0] if ahead else begin,
        count=min(len(ahead), COUNT_MAX) if ahead else RUNS,
        dates_left=len(ahead),
        enabled=None not in known,
    )


def convert_members(
    olds: Iterable[OldMember], known: dict[str, NewPlan], users: Container[object], findings: Findings
) -> list[NewMember]:
    """Return the members of the plans. Two rows of one user in one plan are one member, with the runs of both."""
    made: dict[tuple[str, int], NewMember] = {}
    for old in olds:
        plan = known.get(old.plan)
        if plan is None or old.user_id not in users or not isinstance(old.user_id, int):
            findings.note(Oddity.ORPHAN, f"{old.row} (user {read_line(old.user_id, 20)}, {old.plan})")
            continue
        count = plan.dates_left if old.count is None else read_whole_number(old.count)
        if not _within(count, -COUNT_MAX, COUNT_MAX):
            findings.note(Oddity.BAD_MEMBER, f"{old.row}: {read_line(old.count, 20)}")
            continue
        key = old.plan, old.user_id
        before = made.get(key)
        if before is not None:
            findings.note(Oddity.MEMBER_TWICE, f"{old.row} and {before.rows[0]}")
        rows, runs = (before.rows, before.count) if before else ((), 0)
        made[key] = NewMember((*rows, old.row), old.plan, old.user_id, min(runs + max(count, 0), COUNT_MAX))
    for member in made.values():
        if member.count == 0:
            findings.note(Oddity.MEMBER_OVER, member.rows[0])
    return list(made.values())


def convert_contracts(
    olds: Iterable[OldContract], known: Container[str], zone: ZoneInfo, findings: Findings
) -> list[NewContract]:
    """Return the renewals of these memberships."""
    made = []
    for old in olds:
        at, months = read_instant(old.date, zone), read_whole_number(old.months)
        if old.member not in known:
            findings.note(Oddity.ORPHAN, f"{old.row} ({old.member})")
        elif at is None or not _within(months, 0, COUNT_MAX):
            findings.note(Oddity.BAD_CONTRACT, f"{old.row}: {read_line(old.date, 32)}, {read_line(old.months, 20)}")
        else:
            made.append(NewContract(old.row, old.member, at, months))
    return made


def _within(value: int | None, least: int, most: int) -> TypeGuard[int]:
    return value is not None and least <= value <= most
