"""Coming from the original: every generation of its database, converted, imported once, proved; or refused in a line."""

import json
import re
import sqlite3
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import floor
from pathlib import Path
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher
from hypothesis import HealthCheck, given

from celcombiller.cli import main
from celcombiller.cli.exit_status import REFUSED
from celcombiller.core.access.actor import Actor
from celcombiller.core.audit.report import audit
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy as CallTerms
from celcombiller.core.charging.requests import Credit
from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger import accounts
from celcombiller.core.ledger import statement as ledger_statement
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.subscribers import Level
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schedules import memberships, schedule_records
from celcombiller.core.schema import tables as schema_tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine
from celcombiller.legacy_import.conversion import ImportTerms, convert_original
from celcombiller.legacy_import.convert_users import describe_weakness
from celcombiller.legacy_import.findings import SERIOUS, Oddity
from celcombiller.legacy_import.importer import import_original, list_new_users
from celcombiller.legacy_import.source_database import open_original
from tests.support import databases
from tests.support.original_databases import ADMIN, GUEST, TABLES, original
from tests.support.properties import share

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
BELEM = ZoneInfo("America/Belem")
TERMS = ImportTerms(BELEM, date(2026, 11, 2))


def quietly(items, what, total):
    return items


@pytest.fixture
def engine():
    made = databases.sqlite()
    yield made
    made.dispose()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "alph.db"


def imported(engine, path, terms=TERMS, now=NOW):
    """Import a file, prove the ledger, and give the report."""
    with open_original(path) as old, engine.begin() as tx:
        converted = convert_original(old, terms, now, quietly)
        report = import_original(tx, converted, {}, Actor("command", "tester"), quietly)
        proof = audit(tx)
        assert proof.ok, proof.differences
    return report


def everything(engine):
    """Give all rows of all tables."""
    with engine.connect() as tx:
        return {
            table.name: sorted(tx.execute(sa.select(table)).all(), key=repr)
            for table in schema_tables.metadata.sorted_tables
        }


def user(engine, username):
    with engine.connect() as tx:
        return subscriber_records.find(tx, username)


def balances(engine, username):
    with engine.connect() as tx:
        found = accounts.balances(tx, subscriber_records.find(tx, username).id)
        return found[Kind.VOICE].posted, found[Kind.DATA].posted


def statement(engine, username, kind=Kind.VOICE):
    """Give a statement, oldest line first."""
    with engine.connect() as tx:
        account = accounts.balances(tx, subscriber_records.find(tx, username).id)[kind]
        return ledger_statement.statement(tx, account, limit=100)[::-1]


def values(lines):
    return [(line.value, line.posted, line.origin) for line in lines]


def found(report, oddity):
    return report.findings.found.get(oddity, [])


def ana(**facts):
    """Make a user's row of the last generation."""
    names = ("id", "level", "name", "address", "cpf", "username", "password", "clid", "imsi", "voice", "data")
    usual = (3, 1, "Ana", "Rua 1", 12345678909, "ana", "a long password", "991110003", "724000000000003", 0, 0)
    return tuple((dict(zip(names, usual, strict=True)) | facts).values())


# -- each generation -------------------------------------------------------------------------------------------------


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


# -- what is odd -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "oddity", "kept"),
    [
        ({"username": "ana maria/2"}, Oddity.RENAMED, {"username": "ana_maria_2"}),
        ({"username": "joa\u0303o"}, Oddity.RENAMED, {"username": "jo\u00e3o"}),
        ({"username": "\u674e"}, Oddity.RENAMED, {"username": "991110003"}),
        ({"username": ".."}, Oddity.RENAMED, {"username": "991110003"}),
        ({"username": ""}, Oddity.RENAMED, {"username": "991110003"}),
        ({"username": "a" * 65}, Oddity.RENAMED, {"username": "a" * 64}),
        ({"clid": "+55 (91) 1111-0003"}, None, {"clid": "559111110003"}),
        ({"imsi": "1010000000003"}, Oddity.IMSI_ZEROS, {"imsi": "001010000000003"}),
        ({"imsi": "12345678900"}, Oddity.SHORT_IMSI, {"imsi": "12345678900"}),
        ({"imsi": "0"}, Oddity.NO_IMSI, {"imsi": "000000991110003"}),
        ({"imsi": "IMSI724"}, Oddity.NO_IMSI, {"imsi": "000000991110003"}),
        ({"cpf": "123.456.789-09"}, None, {"cpf": "12345678909"}),
        ({"cpf": "unknown"}, Oddity.CPF_DROPPED, {"cpf": None}),
        ({"cpf": 123}, Oddity.CPF_SHORT, {"cpf": "123"}),
        ({"level": 7}, Oddity.LEVEL, {"level": Level.SUBSCRIBER}),
        ({"level": "2"}, None, {"level": Level.COLLABORATOR}),
        ({"name": "A\x00na\nM."}, Oddity.TEXT, {"name": "A na M."}),
        ({"name": ""}, None, {"name": "ana"}),
        ({"address": None}, None, {"address": ""}),
        ({"address": b"Rua \xff"}, None, {"address": "Rua \ufffd"}),
        ({"voice": -3}, Oddity.NEGATIVE, {}),
        ({"voice": "12"}, None, {}),
        ({"voice": 7.5}, Oddity.FRACTION, {}),
        ({"voice": -7.5}, Oddity.FRACTION, {}),
    ],
)
def test_what_does_not_fit_is_changed_and_told(engine, file, facts, oddity, kept):
    report = imported(engine, original(file, users=[ana(**facts)]))
    with engine.connect() as tx:
        (made,) = subscriber_records.list_all(tx)
    assert {name: getattr(made, name) for name in kept} == kept
    assert set(report.findings.found) - {Oddity.NEGATIVE} == ({oddity} - {Oddity.NEGATIVE} if oddity else set())
    assert balances(engine, made.username)[0] == floor(Fraction(facts.get("voice", 0)))


@pytest.mark.parametrize(
    ("facts", "oddity"),
    [
        ({"clid": "abc"}, Oddity.NO_NUMBER),
        ({"clid": "1234567890123456"}, Oddity.NO_NUMBER),
        ({"voice": "lots"}, Oddity.NO_BALANCE),
        ({"voice": 1e300}, Oddity.NO_BALANCE),
        ({"voice": "1e999999999"}, Oddity.NO_BALANCE),
        ({"data": float("inf")}, Oddity.NO_BALANCE),
        ({"data": -AMOUNT_MAX - 1}, Oddity.NO_BALANCE),
        ({"clid": "+999999998"}, Oddity.DUPLICATE),
        ({"imsi": "999999999999-998"}, Oddity.DUPLICATE),
        ({"username": " guest"}, Oddity.DUPLICATE),
    ],
)
def test_an_invalid_user_is_skipped_with_its_rows(engine, file, facts, oddity):
    path = original(
        file,
        users=[GUEST, ana(**facts)],
        voice_balance=[(1, 3, None, 5, "2016-08-01 10:00:00", "web")],
        schedule=[(1, "Gold", 1, 50, 1)],
        schedule_user=[(1, 3, 1, 2)],
        schedule_contract=[(1, 1, "2016-08-01 10:00:00", 2)],
    )
    report = imported(engine, path)
    assert len(found(report, oddity)) == 1
    assert report.findings.serious
    assert len(found(report, Oddity.ORPHAN)) == 3
    assert [made.username for made in subscribers_of(engine)] == ["guest"]


def subscribers_of(engine):
    with engine.connect() as tx:
        return list(subscriber_records.list_all(tx))


def test_a_shared_cpf_stays_with_the_first(engine, file):
    rows = [(*GUEST[:4], 1, *GUEST[5:]), ana(cpf="01")]
    with sqlite3.connect(file) as old:
        old.executescript(TABLES["last"].replace("unique (cpf), ", "").replace("cpf integer", "cpf varchar"))
        old.executemany(
            f"insert into users values ({', '.join('?' * 11)})", [(*rows[0][:4], "01", *rows[0][5:]), rows[1]]
        )
    report = imported(engine, file)
    assert [made.cpf for made in subscribers_of(engine)] == [None, "01"]
    assert found(report, Oddity.CPF_DROPPED) == ["ana (users:3): 01 is another user's"]


def test_empty_and_orphaned_movements_are_left_out(engine, file):
    movements = [
        (1, 3, None, None, "2016-08-01 10:00:00", "web"),
        (2, 3, None, 0, "2016-08-01 10:00:00", "web"),
        (3, 3, None, 2.5, "2016-08-01 10:00:00", "web"),
        (4, 3, None, "many", "2016-08-01 10:00:00", "web"),
        (5, 3, None, AMOUNT_MAX + 1, "2016-08-01 10:00:00", "web"),
        (6, 77, None, 9, "2016-08-01 10:00:00", "web"),
        (7, 3, 77, -4, "2016-08-01 10:00:00", ""),
    ]
    report = imported(engine, original(file, users=[ana(voice=10)], voice_balance=movements))
    assert values(statement(engine, "ana")) == [(14, 14, "opening"), (-4, 10, "legacy")]
    assert len(found(report, Oddity.NO_VALUE)) == 5
    assert found(report, Oddity.ORPHAN) == ["voice_balance:6 (user 77)"]
    assert not report.findings.serious


def test_unreadable_dates_take_their_neighbours(engine, file):
    zone = ZoneInfo("America/Sao_Paulo")
    dates = ["soon", "2016-10-16 00:30:00", "2016-02-20 23:30:00", None, 20161016, "2016-07-02", "9999-12-31 23:59:59"]
    movements = [(n, 3, None, 1, said, "web") for n, said in enumerate(dates, 1) if said]
    movements += [(50, 3, None, 1, "0001-01-01 00:00:00+14:00", "web")]
    report = imported(
        engine, original(file, users=[ana(voice=9)], voice_balance=movements), terms=ImportTerms(zone, TERMS.begin)
    )
    at = {line.reference.rpartition(":")[2]: line.at for line in statement(engine, "ana")}
    assert at["2"] == datetime(2016, 10, 16, 3, 30, tzinfo=UTC)  # the clock skipped this half hour
    assert at["1"] == at["2"]
    assert at["3"] == datetime(2016, 2, 21, 1, 30, tzinfo=UTC)  # it showed this one twice: the first
    assert at["5"] == at["3"]
    assert at["6"] == datetime(2016, 7, 2, 3, tzinfo=UTC)
    assert at["50"] == at["6"]
    assert found(report, Oddity.DATE) == [
        "voice_balance:1 (soon)",
        "voice_balance:5 (20161016)",
        "voice_balance:7 (9999-12-31 23:59:59)",
        "voice_balance:50 (0001-01-01 00:00:00+14:00)",
    ]


def test_a_movement_below_zero_has_a_reason(engine, file):
    movements = [(1, 3, None, 5, "2016-08-01 10:00:00", "web"), (2, 3, None, -9, "2016-08-01 11:00:00", "call")]
    report = imported(engine, original(file, users=[ana(voice=-4)], voice_balance=movements))
    assert [line.note for line in statement(engine, "ana")] == ["", "below zero, as in the original"]
    assert found(report, Oddity.BELOW_ZERO) == ["ana (voice_balance:2)"]


def test_an_overflowing_history_is_left_out(engine, file):
    most = [(n, 3, None, AMOUNT_MAX, "2016-08-01 10:00:00", "web") for n in (1, 2)]
    back = [(n, 3, None, -AMOUNT_MAX, "2016-08-01 11:00:00", "web") for n in (3, 4)]
    report = imported(engine, original(file, users=[ana(voice=3)], voice_balance=most + back))
    assert values(statement(engine, "ana")) == [(3, 3, "opening")]
    assert found(report, Oddity.TOO_LONG_A_CHAIN) == ["ana (users:3): voice"]


@pytest.mark.parametrize(
    ("password", "username", "weak"),
    [
        ("adm123", "x", True),
        ("123123", "x", True),
        ("Ana.Maria", "ana.maria", True),
        ("seven77", "x", True),
        ("20161016", "x", True),
        ("correct horse", "x", False),
    ],
)
def test_weak_passwords_are_known(password, username, weak):
    assert bool(describe_weakness(password, username)) == weak


# -- plans -----------------------------------------------------------------------------------------------------------


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


# -- who is here already ---------------------------------------------------------------------------------------------


def add(engine, **facts):
    usual = {"username": "ana", "name": "Here", "clid": "991110003", "imsi": "724000000000003", "cpf": None}
    with engine.begin() as tx:
        subscriber_records.add(
            tx, **(usual | {"address": "", "level": Level.SUBSCRIBER, "password_hash": "kept", "now": NOW} | facts)
        )


def credit(engine, value, username="ana", reference="id:1"):
    with engine.begin() as tx:
        request = Credit(username, Kind.VOICE, value, "web", reference)
        process_batch(tx, CallTerms(Tariff([Rate()])), [request], NOW)


def test_a_known_user_gets_the_old_balance_added(engine, file):
    add(engine)
    credit(engine, 7)
    path = original(file, users=[ana(voice=100)], voice_balance=[(1, 3, None, 60, "2016-08-01 10:00:00", "web")])
    report = imported(engine, path)
    assert found(report, Oddity.MATCHED) == ["ana (users:3)"]
    assert values(statement(engine, "ana")) == [(7, 7, "web"), (40, 47, "opening"), (60, 107, "web")]
    assert user(engine, "ana").name == "Here"
    before = everything(engine)
    imported(engine, path)
    assert everything(engine) == before


@pytest.mark.parametrize(
    "facts",
    [
        {"username": "other"},
        {"clid": "5"},
        {"imsi": "724000000000099"},
        {"clid": "0", "imsi": "000000000000000"},
    ],
)
def test_a_partly_known_user_is_left_out(engine, file, facts):
    add(engine, **facts)
    report = imported(engine, original(file, users=[GUEST, ana(voice=100)]))
    (told,) = found(report, Oddity.CONFLICT)
    assert told.startswith("ana (users:3): ")
    assert report.findings.serious
    assert len(subscribers_of(engine)) == 2
    assert user(engine, "guest").clid == "999999998"


def test_the_administrator_keeps_the_new_password(engine, file):
    facts = {"username": "admin", "clid": "0", "imsi": "000000000000000", "level": Level.ADMINISTRATOR}
    add(engine, **facts)
    report = imported(engine, original(file, users=[(*ADMIN[:9], 12, 0)]))
    admin = user(engine, "admin")
    assert (admin.name, admin.clid, admin.imsi, admin.cpf) == ("administrator", "999999999", "999999999999999", "0")
    assert balances(engine, "admin") == (12, 0)
    assert len(found(report, Oddity.ADOPTED)) == 1
    assert Oddity.WEAK_PASSWORD not in report.findings.found
    with engine.connect() as tx:
        assert tx.execute(sa.select(schema_tables.subscriber.c.password_hash)).scalars().all() == ["kept"]


def test_a_cpf_taken_here_is_not_taken_over(engine, file):
    add(engine, username="other", clid="5", imsi="724000000000099", cpf="12345678909")
    report = imported(engine, original(file, users=[ana()]))
    assert user(engine, "ana").cpf is None
    assert found(report, Oddity.CPF_DROPPED) == ["ana (users:3): 12345678909 is other's"]


# -- again -----------------------------------------------------------------------------------------------------------


def village(path, generation="last", **more):
    rows = {
        "users": [ADMIN, GUEST, ana(voice=50, data=-9)],
        "voice_balance": [
            (1, 3, None, 100, "2016-08-01 10:00:00", "web"),
            (2, 3, 2, -61, "2016-08-02 10:00:00", "call"),
        ],
        "data_balance": [(1, 3, "2016-08-01 12:00:00", 100, None, None, "web")],
        "schedule": [(1, "Gold", 5, 50, 1)],
        "schedule_user": [(1, 3, 1, 4)],
        "schedule_contract": [(1, 1, "2016-08-01 10:00:00", 12)],
        "schedule_input": [(1, 1, 1, 1)],
    }
    return original(path, generation, **(rows | more))


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


def test_an_import_killed_anywhere_starts_over_whole(engine, file):
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


# -- any original at all ---------------------------------------------------------------------------------------------

EARLIEST, LATEST = datetime.fromisoformat("2015-01-01"), datetime.fromisoformat("2017-12-31")

numbers = st.one_of(
    st.integers(-1000, 1000),
    st.none(),
    st.floats(-100, 100),
    st.sampled_from(["7", "x", AMOUNT_MAX, -AMOUNT_MAX, 2**62]),
)
dates = st.one_of(
    st.datetimes(EARLIEST, LATEST).map(str),
    st.none(),
    st.sampled_from(["x", 5, "2016-07-02"]),
)
ids = st.integers(1, 7)
words = st.one_of(st.none(), st.text(max_size=5), st.integers(-5, 10**6))


def clids(n):
    return st.sampled_from([f"99111000{n}", f"+99 111-000{n}", f"abc{n}", "+" * n] + [f"99111000{n}"] * 8)


@st.composite
def originals(draw):
    """Draw the rows of an original of any generation, with what its tables allowed."""
    generation = draw(st.sampled_from(sorted(TABLES)))
    many = range(1, draw(st.integers(0, 5)) + 1)
    rows = {"users": [_user(draw, generation, n) for n in many]}

    def rows_of(*columns, most=12):
        drawn = draw(st.lists(st.tuples(*columns), max_size=most))
        return [(n, *row) for n, row in enumerate(drawn, 1)]

    if generation in ("last", "may 2016"):
        rows["voice_balance"] = rows_of(
            ids, st.none() | ids, numbers, dates.map(lambda d: "" if d is None else d), st.text(max_size=3)
        )
        rows["data_balance"] = rows_of(st.none() | ids, dates, numbers, words, words, st.text(max_size=3))
    else:
        rows["cdr"] = rows_of(dates, numbers, st.none() | ids, st.none() | ids)
    if generation == "last":
        day = st.integers(1, 31) | numbers
        rows["schedule"] = rows_of(words, day, numbers, st.integers(1, 3) | st.none(), most=3)
        rows["schedule_user"] = rows_of(ids, st.integers(1, 4), numbers.filter(lambda n: n is not None), most=6)
        rows["schedule_contract"] = rows_of(ids, dates.map(str), st.integers(-2, 12), most=4)
        rows["schedule_input"] = rows_of(ids, st.none() | st.integers(1, 12), st.none() | st.integers(1, 12), most=4)
    if generation in ("both balances", "movements"):
        sign = st.sampled_from(["+", "-", None, "?"])
        kind = [st.sampled_from(["voice", "data", None])] if generation == "both balances" else []
        rows["balance"] = rows_of(st.none() | ids, dates, st.none(), numbers, sign, *kind)
        rows["groups"] = rows_of(words, most=2)
        rows["dates"] = rows_of(ids, dates, most=4)
        rows["association"] = [row[1:] for row in rows_of(ids, ids, most=4)]
    return generation, rows


def _user(draw, generation, n):
    pot = numbers if generation.startswith("first") else numbers.filter(lambda number: number is not None)
    clid, name = draw(clids(n)), f"u{n}"
    if generation == "first":
        return n, clid, name, draw(pot)
    if generation == "first with names":
        return n, name, draw(words), clid, draw(pot), draw(st.sampled_from([0, 1, None]))
    if generation == "movements":
        return (
            n,
            name,
            draw(words),
            clid,
            draw(st.sampled_from([0, 1, None])),
            draw(st.none() | st.just(724000000000000 + n)),
        )
    level = draw(st.integers(0, 3)) if generation == "last" else draw(st.integers(0, 1))
    last = (draw(words) or "", clid, 724000000000000 + n, draw(pot), draw(pot))
    return n, level, name, draw(words), n, name, *last


def reckoned(generation, rows):
    """Say each user's balances, as that generation of the program would have shown them, rounded down."""
    shown = {}
    for row in rows["users"]:
        voice, data = {
            "first": lambda row: (row[3], 0),
            "first with names": lambda row: (row[4], 0),
            "movements": lambda row: (_summed(rows["balance"], row[0]), 0),
        }.get(generation, lambda row: row[-2:])(row)
        shown[row[0]] = _floored(voice), _floored(data)
    return shown


def _summed(balance, user_id):
    signs = {"+": 1, "-": -1}
    return sum(
        (signs.get(row[5], 0) * Fraction(_number(row[4]) or 0) for row in balance if row[1] == user_id),
        start=Fraction(0),
    )


def _number(cell):
    return Fraction(cell) if isinstance(cell, int | float | Fraction) or cell == "7" else None


def _floored(cell):
    number = _number(0 if cell is None else cell)
    return None if number is None or abs(number) > AMOUNT_MAX else floor(number)


@share(1.5, suppress_health_check=[HealthCheck.too_slow])
@given(originals())
def test_any_original_imports_once_with_proved_balances(tmp_path_factory, drawn):
    generation, rows = drawn
    path = original(tmp_path_factory.mktemp("any") / "alph.db", generation, **rows)
    bytes_before = path.read_bytes()
    engine = databases.sqlite()
    with open_original(path) as old:
        converted = convert_original(old, TERMS, NOW, quietly)
    report = imported(engine, path)
    expected = reckoned(generation, rows)
    assert {old_id: tuple(new.balances.values()) for old_id, new in converted.users.items()} == {
        old_id: expected[old_id] for old_id in converted.users
    }
    for new in converted.users.values():
        assert balances(engine, new.username) == expected[new.old_id]
    left_out = {row[0] for row in rows["users"]} - converted.users.keys()
    told = [each for oddity in SERIOUS for each in found(report, oddity)]
    assert all(any(f"(users:{old_id})" in each for each in told) for old_id in left_out)
    for old_id, shown in expected.items():
        assert None not in shown or old_id in left_out
    before = everything(engine)
    imported(engine, path, now=NOW + timedelta(days=40))
    assert everything(engine) == before
    assert path.read_bytes() == bytes_before
    engine.dispose()


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        status = main([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    assert run("init", "--admin", "root")[0] == 0
    return run


def import_legacy(command, *arguments):
    return command("import-legacy", "alph.db", "--zone", "America/Belem", *arguments)


def rows_here(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'celcombiller.sqlite'}", lock_seconds=1)
    try:
        return everything(engine)
    finally:
        engine.dispose()


def test_a_dry_run_reports_and_writes_nothing(command, tmp_path):
    village(tmp_path / "alph.db")
    before = rows_here(tmp_path)
    status, dry, _ = import_legacy(command)
    assert status == 0
    assert "Nothing was written" in dry
    assert "voice credits: 50 in the file, 50 imported" in dry
    assert rows_here(tmp_path) == before
    _, done, _ = import_legacy(command, "--yes")
    assert done.splitlines() == dry.splitlines()[:-1]
    assert command("audit")[0] == 0
    after = rows_here(tmp_path)
    assert import_legacy(command, "--yes")[0] == 0
    assert rows_here(tmp_path) == after


def test_passwords_become_hashes_and_are_shown_nowhere(command, tmp_path):
    village(tmp_path / "alph.db")
    _, out, _ = import_legacy(command, "--yes", "--json")
    assert "a long password" not in out
    assert "adm123" not in out
    hashes = {row.username: row.password_hash for row in rows_here(tmp_path)["subscriber"]}
    assert PasswordHasher().verify(hashes["ana"], "a long password")
    assert PasswordHasher().verify(hashes["admin"], "adm123")
    assert b"a long password" not in (tmp_path / "celcombiller.sqlite").read_bytes()


def test_passwords_can_be_left_behind(command, tmp_path):
    village(tmp_path / "alph.db")
    _, out, _ = import_legacy(command, "--yes", "--json", "--no-passwords")
    assert [each.password_hash for each in rows_here(tmp_path)["subscriber"] if each.username == "ana"] == [None]
    assert {each["code"] for each in json.loads(out)["findings"]} >= {"NO_PASSWORD"}


def test_the_json_report_counts_every_row(command, tmp_path):
    many = [(n, 99, None, 1, "2016-08-01 10:00:00", "web") for n in range(1, 9)]
    village(tmp_path / "alph.db", voice_balance=many)
    status, out, _ = import_legacy(command, "--json")
    report = json.loads(out)
    tables = {row["table"]: row for row in report["tables"]}
    assert (status, report["written"]) == (0, False)
    assert tables["voice_balance"] == {
        "table": "voice_balance",
        "in_the_file": 8,
        "imported": 0,
        "here_already": 0,
        "left_out": 8,
    }
    assert tables["schedule_input"]["left_out"] is None
    (orphans,) = [each for each in report["findings"] if each["code"] == "ORPHAN"]
    assert len(orphans["rows"]) == 8
    _, text, _ = import_legacy(command)
    assert "... and 3 more" in text


def test_an_imported_plan_is_due_next_day(command, tmp_path):
    village(tmp_path / "alph.db")
    import_legacy(command, "--yes")
    status, out, _ = command("schedules", "due", "--on", datetime.now(UTC).date() + timedelta(days=40), "--json")
    due = json.loads(out)
    assert status == 0
    assert {(row["name"], row["members"], row["value"]) for row in due["due"]} == {("Gold", 1, 50)}
    assert {each["username"] for each in due["members"]} == {"ana"}


def test_without_a_zone_that_of_the_settings_counts(command, tmp_path, monkeypatch):
    village(tmp_path / "alph.db")
    monkeypatch.setenv("CELCOMBILLER_SCHEDULES_TIME_ZONE", "America/Noronha")
    _, out, _ = command("import-legacy", "alph.db", "--json")
    assert json.loads(out)["zone"] == "America/Noronha"


def test_somebody_left_out_is_status_1(command, tmp_path):
    original(tmp_path / "alph.db", users=[ana(clid="abc")])
    status, out, _ = import_legacy(command)
    assert (status, "! 1 left out: a number" in out) == (1, True)


def test_the_trail_says_when_it_came_in(command, tmp_path):
    village(tmp_path / "alph.db")
    import_legacy(command, "--yes")
    import_legacy(command, "--yes")
    (row,) = rows_here(tmp_path)["trail"]
    assert (row.action, row.subject, json.loads(row.after)["credits"]) == (
        "import",
        "legacy",
        {"voice": 50, "data": -9},
    )


def test_an_unproved_ledger_imports_nothing(command, tmp_path):
    village(tmp_path / "alph.db")
    database_file = sqlite3.connect(tmp_path / "celcombiller.sqlite")
    with database_file:
        database_file.execute("update account set posted = 1 where subscriber_id is not null and kind = 'voice'")
    database_file.close()
    before = rows_here(tmp_path)
    status, _, err = import_legacy(command, "--yes")
    assert (status, "nothing was imported" in err, err.count("\n")) == (3, True, 1)
    assert rows_here(tmp_path) == before


LAST = TABLES["last"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "no such file"),
        (lambda path: path.write_bytes(b""), "none of the tables"),
        (lambda path: path.write_bytes(b"username,clid\nana,2001\n" * 100), "not a database"),
        (lambda path: original(path, users=[ADMIN]).write_bytes(path.read_bytes()[:5000]), "malformed"),
        (lambda path: databases.sqlite(path).dispose(), "is a database of this program"),
        (lambda path: script(path, LAST + "create table extra (a);"), "a table extra: .*drop it in a copy"),
        (lambda path: script(path, LAST.replace("clid", "number")), "the table users has no column clid"),
        (lambda path: script(path, LAST.replace("origin varchar not null", "source varchar")), "no column origin"),
        (lambda path: script(path, LAST + "drop table data_balance;"), "data_balance is missing"),
        (lambda path: script(path, LAST + "drop table users;"), "users is missing"),
        (lambda path: script(path, LAST.replace("voice_balance integer not null, data", "data")), "neither"),
        (lambda path: script(path, LAST.replace("primary key (_id), unique (cpf)", "unique (cpf)")), "not its key"),
        (lambda path: script(path, TABLES["movements"] + "drop table groups;"), "groups is missing"),
    ],
)
def test_an_incomplete_original_is_refused_in_one_line(command, tmp_path, make, says):
    make(tmp_path / "alph.db")
    before = rows_here(tmp_path)
    status, out, err = import_legacy(command, "--yes")
    assert (status, out, err.count("\n")) == (3, "", 1), err
    assert re.search(says, err), err
    assert rows_here(tmp_path) == before


def script(path, sql):
    connection = sqlite3.connect(path)
    connection.executescript(sql)
    connection.close()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--zone", "America"), "--zone"),
        (("--zone", "/etc/passwd"), "--zone"),
        (("--source", "a b"), "--source"),
        (("--plans-from", "1800-01-01"), "first_on"),
    ],
)
def test_nonsense_is_refused_in_one_line(command, tmp_path, arguments, says):
    village(tmp_path / "alph.db")
    status, _, err = import_legacy(command, *arguments)
    assert (status, err.count("\n"), says in err) == (REFUSED, 1, True), err


def test_what_is_ignored_is_reported(engine, file):
    village(file)
    old = sqlite3.connect(file)
    with old:
        old.execute("alter table users add column ki varchar")
        old.execute("create table groups (id_ integer primary key, name varchar)")
        old.execute("insert into groups values (1, 'x')")
        old.execute("create table alembic_version (version_num varchar)")
    old.close()
    report = imported(engine, file)
    assert found(report, Oddity.OTHER_COLUMN) == ["users.ki"]
    assert found(report, Oddity.OTHER_TABLE) == ["groups (1 rows)"]


def test_the_file_is_only_read(engine, file):
    script(file, re.sub(r"\b_id\b", "id", LAST))
    old = sqlite3.connect(file)
    with old:
        old.execute(f"insert into users values ({', '.join('?' * 11)})", ana(voice=3))
        old.execute("insert into voice_balance values (1, 3, null, 2, '2016-11-08 10:00:00', 'web')")
    old.close()
    file.chmod(0o400)
    imported(engine, file)
    assert values(statement(engine, "ana")) == [(1, 1, "opening"), (2, 3, "web")]
    assert sorted(each.name for each in Path(file).parent.iterdir()) == ["alph.db"]


def test_only_created_users_need_a_hash(engine, file):
    add(engine)
    village(file)
    with open_original(file) as old, engine.begin() as tx:
        assert [each.username for each in list_new_users(tx, convert_original(old, TERMS, NOW, quietly))] == [
            "admin",
            "guest",
        ]
