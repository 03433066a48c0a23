"""Rows that do not fit are changed, left out or given to their neighbours, and the report has each."""

import sqlite3
from datetime import UTC, datetime
from fractions import Fraction
from math import floor
from zoneinfo import ZoneInfo

import pytest

from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.subscribers import Level
from celcombiller.core.subscribers import subscriber_records
from celcombiller.legacy_import.conversion import ImportTerms
from celcombiller.legacy_import.convert_users import describe_weakness
from celcombiller.legacy_import.findings import Oddity
from tests.support.legacy_import.legacy_imports import (
    TERMS,
    ana,
    balances,
    found,
    imported,
    statement,
    subscribers_of,
    values,
    village,
)
from tests.support.legacy_import.original_databases import GUEST, TABLES, original


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
