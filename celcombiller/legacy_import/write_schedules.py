"""Write the plans of a converted file as schedules, with their members and contracts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.errors import UnknownSchedule
from celcombiller.core.model.schedules import Recurrence
from celcombiller.core.schedules import schedule_records
from celcombiller.core.schema import tables
from celcombiller.legacy_import.findings import Oddity
from celcombiller.legacy_import.imported_rows import ImportReport, References, split_in_chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.engine import Connection

    from celcombiller.legacy_import.conversion import ConvertedFile
    from celcombiller.legacy_import.convert_plans import NewPlan


def write_schedules(
    tx: Connection,
    converted: ConvertedFile,
    subscriber_ids: Mapping[int, int],
    references: References,
    report: ImportReport,
) -> None:
    """Make what was not imported yet. ``subscriber_ids`` are by the old ids of the users."""
    schedule_ids = _make_plans(tx, converted, references, report)
    _make_members(tx, converted, schedule_ids, subscriber_ids, references, report)
    _make_contracts(tx, converted, references, report)


def _make_plans(
    tx: Connection, converted: ConvertedFile, references: References, report: ImportReport
) -> dict[str, int]:
    """Make the schedules, and return the ids of all by their rows, without those that were deleted since."""
    found: dict[str, int] = {}
    for plan in converted.plans.values():
        table, before = plan.row.partition(":")[0], references.find_earlier(plan.row)
        if before is None:
            found[plan.row] = _make_plan(tx, converted, plan)
            references.record(plan.row, found[plan.row])
            report.made[table] += 1
            continue
        report.known[table] += 1
        try:
            found[plan.row] = schedule_records.find(tx, before, lock=True).id
        except UnknownSchedule:
            continue
    return found


def _make_plan(tx: Connection, converted: ConvertedFile, plan: NewPlan) -> int:
    made = schedule_records.add(
        tx,
        name=plan.name,
        kind=plan.kind,
        value=plan.value,
        recurrence=Recurrence.MONTHLY,
        day=plan.day,
        interval_days=None,
        first_on=plan.first_on,
        count=plan.count,
        time_zone=converted.terms.zone.key,
        now=converted.now,
    )
    done_until = converted.terms.begin - timedelta(days=1)  # the original has credited what was due before
    table = tables.schedule
    tx.execute(sa.update(table).where(table.c.id == made.id).values(enabled=plan.enabled, done_until=done_until))
    return made.id


def _make_members(
    tx: Connection,
    converted: ConvertedFile,
    schedule_ids: Mapping[str, int],
    subscriber_ids: Mapping[int, int],
    references: References,
    report: ImportReport,
) -> None:
    living = _living(tx, schedule_ids.values())
    new = []
    for member in converted.members:
        table = member.rows[0].partition(":")[0]
        if any(references.find_earlier(row) for row in member.rows):
            report.known[table] += len(member.rows)
            continue
        key = schedule_ids.get(member.plan), subscriber_ids.get(member.user_id)
        if None in key:
            report.findings.note(Oddity.ORPHAN, member.rows[0])
        elif key in living:
            report.findings.note(Oddity.MEMBER_HERE, member.rows[0])
        else:
            new.append((key, member))
            report.made[table] += len(member.rows)
    for chunk in split_in_chunks(new):
        values = [
            {
                "schedule_id": schedule_id,
                "subscriber_id": subscriber_id,
                "count": member.count,
                "joined_on": converted.terms.begin,
                "ended_at": None if member.count else converted.now,
            }
            for (schedule_id, subscriber_id), member in chunk
        ]
        c = tables.membership.c
        rows = tx.execute(sa.insert(tables.membership).returning(c.id, c.schedule_id, c.subscriber_id), values)
        ids = {(row.schedule_id, row.subscriber_id): row.id for row in rows}
        for key, member in chunk:
            for row in member.rows:
                references.record(row, ids[key])


def _living(tx: Connection, schedule_ids: Iterable[int]) -> set[tuple[int, int]]:
    """Return the members of these schedules, as pairs of schedule and subscriber."""
    table = tables.membership
    columns = (table.c.schedule_id, table.c.subscriber_id)
    return {
        (row.schedule_id, row.subscriber_id)
        for chunk in split_in_chunks(schedule_ids)
        for row in tx.execute(sa.select(*columns).where(table.c.ended_at.is_(None), table.c.schedule_id.in_(chunk)))
    }


def _make_contracts(tx: Connection, converted: ConvertedFile, references: References, report: ImportReport) -> None:
    table = tables.contract
    known = [each for each in converted.contracts if references.find_earlier(each.row)]
    report.known["schedule_contract"] += len(known)
    new = [
        each for each in converted.contracts if not references.find_earlier(each.row) and references.find(each.member)
    ]
    for chunk in split_in_chunks(new):
        values = [
            {"membership_id": references.find(each.member), "at": each.at, "months": each.months} for each in chunk
        ]
        statement = sa.insert(table).returning(table.c.id, sort_by_parameter_order=True)
        for each, made_id in zip(chunk, tx.execute(statement, values).scalars(), strict=True):
            references.record(each.row, made_id)
    report.made["schedule_contract"] += len(new)
