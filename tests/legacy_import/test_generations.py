"""Each generation of the original's database comes over with its balances and statements."""

import re
import sqlite3
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schedules import memberships, schedule_records
from celcombiller.core.schema import tables as schema_tables
from celcombiller.legacy_import.findings import Oddity
from tests.support.legacy_import.legacy_imports import (
    NOW,
    ana,
    balances,
    found,
    imported,
    run_script,
    statement,
    user,
    values,
)
from tests.support.legacy_import.original_databases import ADMIN, GUEST, TABLES, original


def test_the_first_users_of_every_installation_come_over(engine, file):
    report = imported(engine, original(file, users=[ADMIN, GUEST]))
    admin, guest = user(engine, "admin"), user(engine, "guest")
    assert (admin.name, admin.clid, admin.imsi, admin.cpf, admin.address, admin.level) == (
        *("administrator", "999999999", "999999999999999", "0", "nowhere"),
        Level.ADMINISTRATOR,
    )
    assert guest.level is Level.SUBSCRIBER
    assert found(report, Oddity.WEAK_PASSWORD) == [
        "admin (users:1): published with the original",
        "guest (users:2): published with the original",
    ]
    assert not report.findings.serious


def test_a_statement_reads_as_it_was_with_opening(engine, file):
    movements = [
        (1, 3, None, 600, "2016-08-01 22:30:00.123456", "web"),
        (2, 3, 2, -61, "2016-08-02 10:00:00", "call"),
        (3, 3, None, 50, "2016-09-01 00:30:00", "schedule"),
    ]
    report = imported(
        engine,
        original(
            file,
            users=[GUEST, ana(voice=639, data=7)],
            voice_balance=movements,
            data_balance=[(1, 3, "2016-08-01 10:00:00", 7, "10.0.0.9", "10.0.0.1", "web")],
            schedule=[(1, "Gold", 1, 50, 1)],
            schedule_input=[(1, 1, 3, None)],
        ),
    )
    lines = statement(engine, "ana")
    assert values(lines) == [(50, 50, "opening"), (600, 650, "web"), (-61, 589, "call"), (50, 639, "schedule")]
    assert [line.at for line in lines[:2]] == [datetime(2016, 8, 2, 1, 30, 0, 123456, tzinfo=UTC)] * 2
    assert lines[3].note == "plan Gold"
    assert balances(engine, "ana") == (639, 7)
    assert report.credits == {Kind.VOICE: 639, Kind.DATA: 7}
    with engine.connect() as tx:
        details = {row.reference: row for row in tx.execute(sa.select(schema_tables.transfer_detail))}
    assert details["legacy:voice_balance:2"].to_subscriber_id == user(engine, "guest").id
    assert details["legacy:data_balance:1"].user_ip == "10.0.0.9"
    assert details["legacy:data_balance:1"].connection_ip == "10.0.0.1"


def test_a_balance_without_movements_is_one_opening(engine, file):
    imported(engine, original(file, users=[ana(voice=9)]))
    (line,) = statement(engine, "ana")
    assert (line.value, line.at, line.reference) == (9, NOW, "legacy:users:3:voice")
    assert statement(engine, "ana", Kind.DATA) == []


def test_a_may_2016_database_is_understood(engine, file):
    rows = [
        (1, 1, "Administrator", "nowhere", 0, "admin", "adm123", "999999999", 999999999999999, 5, 0),
        (2, 0, "Guest", None, 1, "guest", "123123", "999999998", 1010000000002, 0, 0),
    ]
    report = imported(
        engine,
        original(
            file,
            "may 2016",
            users=rows,
            schedule=[(1, "Students", "2016-07-15 00:00:00")],
            schedule_user=[(2, 1, 4)],
        ),
    )
    assert [user(engine, name).level for name in ("admin", "guest")] == [Level.ADMINISTRATOR, Level.SUBSCRIBER]
    assert user(engine, "guest").imsi == "001010000000002"
    assert found(report, Oddity.NO_PLAN_VALUE) == ["Students (schedule:1)"]
    with engine.connect() as tx:
        (plan,) = schedule_records.list_all(tx)
        (member,) = memberships.memberships(tx, schedule_id=plan.id, limit=9)
    assert (plan.name, plan.value, plan.enabled, member.count) == ("Students", 0, False, 4)


def test_of_both_balances_the_users_row_counts(engine, file):
    imported(
        engine,
        original(
            file,
            "both balances",
            users=[(1, 1, "A", None, 0, "admin", "adm123", "999999999", 999999999999999, 30, 8)],
            balance=[
                (1, 1, "2016-05-13 10:00:00", "increase", 20, "+", "voice"),
                (2, 1, "2016-05-13 11:00:00", "decrease", 2, "-", "data"),
            ],
        ),
    )
    assert values(statement(engine, "admin")) == [(10, 10, "opening"), (20, 30, "web")]
    assert values(statement(engine, "admin", Kind.DATA)) == [(10, 10, "opening"), (-2, 8, "legacy")]


def test_summed_balances_need_no_opening(engine, file):
    report = imported(
        engine,
        original(
            file,
            "movements",
            users=[
                (1, "admin", "adm123", "999999999", 1, 999999999999999),
                (2, "guest", "000123123", "999999998", 0, "000000000000000"),
                (3, None, None, "999999997", None, None),
            ],
            balance=[
                (1, 1, "2015-12-01 10:00:00", "increase", 100, "+"),
                (2, 1, "2015-12-02 10:00:31", "decrease", 30, "-"),
                (3, 1, "2015-12-02 11:00:00", "decrease", 30, "-"),
                (4, 1, "2015-12-02 11:00:00", "increase", 1000, "?"),
            ],
            cdr=[
                (1, "2015-12-02 10:00:00", 30, 1, 2),
                (2, "2015-12-02 19:00:00", 30, 1, 2),
            ],
        ),
    )
    lines = statement(engine, "admin")
    assert values(lines) == [(100, 100, "web"), (-30, 70, "call"), (-30, 40, "legacy")]
    with engine.connect() as tx:
        (detail,) = tx.execute(sa.select(schema_tables.transfer_detail))
    assert (detail.reference, detail.to_subscriber_id) == ("legacy:balance:2", user(engine, "guest").id)
    assert found(report, Oddity.UNPROVED_CALL) == ["cdr:2"]
    assert found(report, Oddity.NO_VALUE) == ["balance:4 (1000)"]
    assert found(report, Oddity.NUMBER_PASSWORD) == ["guest (users:2)"]
    assert found(report, Oddity.NO_PASSWORD) == ["999999997 (users:3)"]
    assert [user(engine, name).imsi for name in ("guest", "999999997")] == ["000000999999998", "000000999999997"]


def test_groups_become_disabled_monthly_schedules(engine, file):
    imported(
        engine,
        original(
            file,
            "movements",
            users=[(1, "admin", "adm123", "999999999", 1, 999999999999999)],
            groups=[(1, "Students"), (2, "Over")],
            dates=[(1, 1, "2026-10-05 00:00:00"), (2, 1, "2026-12-05 00:00:00"), (3, 1, "2026-11-05 00:00:00")],
            association=[(1, 1), (1, 2)],
        ),
    )
    with engine.connect() as tx:
        students, over = schedule_records.list_all(tx)
        members = tx.execute(sa.select(schema_tables.membership).order_by(schema_tables.membership.c.id)).all()
    assert (students.day, students.first_on, students.count, students.enabled) == (5, date(2026, 11, 5), 2, False)
    assert (over.day, over.first_on, over.enabled) == (1, date(2026, 11, 2), False)
    assert [(member.count, member.ended_at) for member in members] == [(2, None), (0, NOW)]


@pytest.mark.parametrize("generation", ["first", "first with names"])
def test_fractions_of_2015_are_rounded_down_and_told(engine, file, generation):
    row = {"first": (1, "2001", "Ana", 70.75), "first with names": (1, "ana", 123456789, "2001", 70.75, 1)}[generation]
    cdr = [(1, "2015-05-01 10:00:00", 29, 1, None), (2, None, 10, 1, 1), (3, "2015-05-01 11:00:00", None, 1, 1)]
    report = imported(engine, original(file, generation, users=[row], cdr=cdr))
    who = "2001" if generation == "first" else "ana"
    assert values(statement(engine, who)) == [(109, 109, "opening"), (-29, 80, "call"), (-10, 70, "call")]
    (told,) = found(report, Oddity.FRACTION)
    assert told.endswith("voice 70.75 is 70")
    assert user(engine, who).name == ("Ana" if generation == "first" else "ana")
    assert user(engine, who).level is (Level.SUBSCRIBER if generation == "first" else Level.ADMINISTRATOR)


def test_an_empty_balance_of_2015_is_nothing(engine, file):
    report = imported(engine, original(file, "first", users=[(1, "2001", "Ana", None)]))
    assert balances(engine, "2001") == (0, 0)
    assert found(report, Oddity.EMPTY_BALANCE) == ["2001 (users:1): voice"]


def test_the_file_is_only_read(engine, file):
    run_script(file, re.sub(r"\b_id\b", "id", TABLES["last"]))
    old = sqlite3.connect(file)
    with old:
        old.execute(f"insert into users values ({', '.join('?' * 11)})", ana(voice=3))
        old.execute("insert into voice_balance values (1, 3, null, 2, '2016-11-08 10:00:00', 'web')")
    old.close()
    file.chmod(0o400)
    imported(engine, file)
    assert values(statement(engine, "ana")) == [(1, 1, "opening"), (2, 3, "web")]
    assert sorted(each.name for each in Path(file).parent.iterdir()) == ["alph.db"]
