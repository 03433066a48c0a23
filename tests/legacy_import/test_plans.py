"""Plans of the original become schedules that go on where it stopped."""

from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from celcombiller.core.schedules import memberships, schedule_records
from celcombiller.core.schema import tables as schema_tables
from celcombiller.legacy_import.conversion import ImportTerms
from celcombiller.legacy_import.findings import Oddity
from tests.support.legacy_import.legacy_imports import BELEM, NOW, ana, found, imported, user
from tests.support.legacy_import.original_databases import ADMIN, GUEST, original


def test_plans_continue_the_day_after(engine, file):
    imported(
        engine,
        original(
            file,
            users=[GUEST, ana()],
            schedule=[(1, "Gold", 31, 50, 3), (2, "Silver", 15, 0, 2), (3, None, 1, 1, 1)],
            schedule_user=[(7, 3, 1, 4), (8, 2, 2, 1)],
            schedule_contract=[(1, 7, "2016-08-01 10:00:00", 12), (2, 7, "2016-09-01 10:00:00", 3)],
        ),
    )
    with engine.connect() as tx:
        gold, silver, nameless = schedule_records.list_all(tx)
        (member,) = memberships.memberships(tx, schedule_id=gold.id, limit=9)
        contracts = memberships.contracts(tx, [member.id])
    assert (gold.name, gold.kind, gold.value, gold.recurrence, gold.day) == ("Gold", 3, 50, "monthly", 31)
    assert (gold.first_on, gold.done_until, gold.time_zone) == (date(2026, 11, 2), date(2026, 11, 1), "America/Belem")
    assert (gold.enabled, silver.enabled, nameless.name) == (True, True, "schedule:3")
    assert (member.subscriber_id, member.count, member.joined_on) == (user(engine, "ana").id, 4, date(2026, 11, 2))
    assert [(each.at, each.months) for each in contracts] == [
        (datetime(2016, 8, 1, 13, tzinfo=UTC), 12),
        (datetime(2016, 9, 1, 13, tzinfo=UTC), 3),
    ]


def test_a_plan_can_continue_from_the_past(engine, file):
    path = original(file, users=[ana()], schedule=[(1, "Gold", 5, 50, 1)])
    imported(engine, path, terms=ImportTerms(BELEM, date(2026, 9, 1)))
    with engine.connect() as tx:
        (gold,) = schedule_records.list_all(tx)
    assert (gold.first_on, gold.done_until) == (date(2026, 9, 1), date(2026, 8, 31))


@pytest.mark.parametrize(
    "plan", [(0, 50, 1), (32, 50, 1), ("x", 50, 1), (1, -1, 1), (1, 1.5, 1), (1, 50, 4), (1, 50, 0)]
)
def test_an_invalid_plan_is_skipped_with_its_members(engine, file, plan):
    report = imported(engine, original(file, users=[ana()], schedule=[(1, "Odd", *plan)], schedule_user=[(1, 3, 1, 2)]))
    assert len(found(report, Oddity.BAD_PLAN)) == len(found(report, Oddity.ORPHAN)) == 1
    assert report.findings.serious


def test_odd_memberships_are_reported(engine, file):
    report = imported(
        engine,
        original(
            file,
            users=[(1, *ADMIN[1:]), GUEST, ana()],
            schedule=[(1, "Gold", 1, 50, 1)],
            schedule_user=[(1, 3, 1, 2), (2, 3, 1, 3), (3, 2, 1, 0), (4, 1, 1, "x"), (5, 3, 9, 1)],
            schedule_contract=[
                (1, 2, "2016-08-01", 1),
                (2, 3, "2016-08-01", 1),
                (3, 1, "no", 1),
                (4, 9, "2016-08-01", 1),
            ],
        ),
    )
    with engine.connect() as tx:
        members = tx.execute(sa.select(schema_tables.membership).order_by(schema_tables.membership.c.id)).all()
        contracts = tx.execute(sa.select(schema_tables.contract).order_by(schema_tables.contract.c.id)).all()
    assert [(member.count, member.ended_at) for member in members] == [(5, None), (0, NOW)]
    assert [contract.membership_id for contract in contracts] == [member.id for member in members]
    assert found(report, Oddity.MEMBER_TWICE) == ["schedule_user:2 and schedule_user:1"]
    assert found(report, Oddity.MEMBER_OVER) == ["schedule_user:3"]
    assert found(report, Oddity.BAD_MEMBER) == ["schedule_user:4: x"]
    assert found(report, Oddity.BAD_CONTRACT) == ["schedule_contract:3: no, 1"]
    assert len(found(report, Oddity.ORPHAN)) == 2
