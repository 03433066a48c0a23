"""The same file, a grown one and another one after an import, and an import that is killed at any statement."""

import sqlite3

import pytest
import sqlalchemy as sa

from celcombiller.core.audit import report as audit_report
from celcombiller.core.errors import InvalidValue
from celcombiller.core.schedules import memberships, schedule_records
from celcombiller.core.schema import tables as schema_tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.legacy_import.conversion import ImportTerms
from celcombiller.legacy_import.findings import Oddity
from tests.support import databases
from tests.support.legacy_import.legacy_imports import (
    BELEM,
    NOW,
    TERMS,
    ana,
    balances,
    credit,
    everything,
    found,
    imported,
    statement,
    village,
)
from tests.support.legacy_import.original_databases import ADMIN, original


def test_a_second_import_changes_nothing(engine, file):
    village(file)
    imported(engine, file)
    with engine.begin() as tx:
        found_ana = subscriber_records.find(tx, "ana")
        (gold,) = schedule_records.list_all(tx)
        memberships.leave(tx, memberships.member(tx, gold.id, found_ana.id), NOW)
        tx.execute(
            sa.update(schema_tables.subscriber)
            .where(schema_tables.subscriber.c.username == "ana")
            .values(clid="5", imsi="999999")
        )
        tx.execute(
            sa.update(schema_tables.subscriber)
            .where(schema_tables.subscriber.c.username == "guest")
            .values(deleted_at=NOW)
        )
    credit(engine, 1000)
    before = everything(engine)
    report = imported(engine, file)
    assert everything(engine) == before
    assert not report.made.total()
    with engine.begin() as tx:
        schedule_records.delete(tx, gold.id, NOW)
    before = everything(engine)
    imported(engine, file)
    assert everything(engine) == before


def test_a_grown_file_brings_what_is_new(engine, file, tmp_path):
    village(file)
    imported(engine, file)
    old = sqlite3.connect(file)
    with old:
        old.execute("insert into voice_balance values (3, 3, null, 25, '2016-08-03 10:00:00', 'web')")
        old.execute("update users set voice_balance = 75 where _id = 3")
        old.execute("insert into voice_balance values (4, 2, null, 5, '2016-08-03 10:00:00', 'web')")
        old.execute("update users set voice_balance = 5 where _id = 2")
        old.execute("insert into users select 9, 1, 'B', '', 99, 'bia', 'x', '5', '724000000000009', 3, 0")
    old.close()
    report = imported(engine, file)
    assert {table: count for table, count in report.made.items() if count} == {
        "users": 1,
        "voice_balance": 2,
        "opening": 1,
    }
    assert [balances(engine, name)[0] for name in ("ana", "guest", "bia")] == [75, 5, 3]


def test_a_file_does_not_rejoin_members(engine, file):
    village(file)
    imported(engine, file)
    with engine.begin() as tx:
        (gold,) = schedule_records.list_all(tx)
        memberships.join(tx, gold, subscriber_records.find(tx, "guest").id, count=7, now=NOW)
    old = sqlite3.connect(file)
    with old:
        old.execute("insert into schedule_user values (2, 2, 1, 3)")
    old.close()
    before = everything(engine)
    report = imported(engine, file)
    assert found(report, Oddity.MEMBER_HERE) == ["schedule_user:2"]
    assert everything(engine) == before


@pytest.mark.parametrize(
    "edit",
    [
        "update users set voice_balance = 51 where _id = 3",
        "update voice_balance set value = 101 where _id = 1",
        "delete from voice_balance where _id = 2",
    ],
)
def test_an_account_edited_since_is_reported(engine, file, edit):
    village(file)
    imported(engine, file)
    before = everything(engine)
    old = sqlite3.connect(file)
    with old:
        old.execute(edit)
    old.close()
    report = imported(engine, file)
    assert found(report, Oddity.CHANGED) == ["ana (users:3): voice"]
    assert everything(engine) == before


def test_another_file_needs_its_own_source(engine, file, tmp_path):
    imported(engine, village(file))
    other = original(
        tmp_path / "other.db",
        users=[ADMIN, ana(id=3, username="bia", clid="991110009", imsi="724000000000009", cpf=5, voice=8)],
        voice_balance=[(1, 3, None, 3, "2016-08-01 10:00:00", "web"), (2, 1, None, 1, "2016-08-01 10:00:00", "web")],
    )
    with pytest.raises(InvalidValue, match=r"user 3 .* is ana, of this one bia: .* --source"):
        imported(engine, other)
    report = imported(engine, other, ImportTerms(BELEM, TERMS.begin, source="hill"))
    assert balances(engine, "bia") == (8, 0)
    assert balances(engine, "admin") == (0, 0)
    assert [line.reference for line in statement(engine, "admin")] == [
        "legacy:hill:users:1:voice",
        "legacy:hill:voice_balance:2",
    ]
    assert found(report, Oddity.MATCHED) == ["admin (users:1)"]
    before = everything(engine)
    imported(engine, other, ImportTerms(BELEM, TERMS.begin, source="hill"))
    imported(engine, file)
    assert everything(engine) == before


class Killed(Exception):
    """The process dies here."""


@pytest.mark.slow
def test_an_import_killed_anywhere_starts_over_whole(engine, file, monkeypatch):
    # So that it dies before each statement of the audit, too.
    monkeypatch.setattr(audit_report, "CHECKS", databases.CHECKS)
    village(file)
    before, statements = everything(engine), 0

    def kill(*_):
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    sa.event.listen(engine, "before_cursor_execute", kill)
    while True:
        statements += 1
        left = statements
        try:
            imported(engine, file)
        except Killed:
            left = 0
            assert everything(engine) == before
        else:
            break
    sa.event.remove(engine, "before_cursor_execute", kill)
    assert statements > 25
    assert balances(engine, "ana") == (50, -9)
    twin = databases.sqlite()
    imported(twin, file)
    assert everything(engine) == everything(twin)
    twin.dispose()
