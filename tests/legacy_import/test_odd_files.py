"""Files that no version of the original made: refused in one line, or what is odd in them reported, never a traceback."""

import sqlite3
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from celcombiller.core.access.actor import Actor
from celcombiller.core.errors import InvalidValue
from celcombiller.legacy_import import importer, source_database
from celcombiller.legacy_import.conversion import ImportTerms, convert_original
from tests.support import databases
from tests.support.legacy_import.original_databases import TABLES

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
TERMS = ImportTerms(ZoneInfo("America/Belem"), date(2026, 11, 2), passwords=False)
LAST = TABLES["last"]
PEOPLE = """
    insert into users values (3, 1, 'Ana', 'x', '2', 'ana', 'secret', '2001', '724000000002001', 30, 0);
    insert into users values (4, 1, 'Bia', 'x', '3', 'bia', 'secret', '2002', '724000000002002', 30, 0);
"""


def imported(folder, script):
    """Import a file that this script makes; return what the report found."""
    path = folder / "alph.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(script)
    connection.close()
    engine = databases.sqlite()
    with source_database.open_original(path) as old, engine.begin() as tx:
        converted = convert_original(old, TERMS, NOW, lambda items, *_: items)
        report = importer.import_original(tx, converted, {}, Actor("admin", ""), lambda items, *_: items)
    return {oddity.name: rows for oddity, rows in report.findings.found.items()}, report


WITHOUT_ROWID = LAST.replace("primary key (_id));", "primary key (_id)) without rowid;").replace(
    "unique (imsi));", "unique (imsi)) without rowid;"
)
GROUPS = TABLES["movements"].replace(
    '"Groups_id" integer)', '"Groups_id" integer, primary key ("User_id", "Groups_id")) without rowid'
)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (
            WITHOUT_ROWID + "insert into users values ('abc', 1, 'B', '', '3', 'b', 's', '1', '7', 0, 0)",
            "no whole number",
        ),
        (
            WITHOUT_ROWID + "insert into users values (x'ff', 1, 'B', '', '3', 'b', 's', '1', '7', 0, 0)",
            "no whole number",
        ),
        (
            WITHOUT_ROWID + "insert into users values (9e999, 1, 'B', '', '3', 'b', 's', '1', '7', 0, 0)",
            "no whole number",
        ),
        (LAST + 'create table "a\nb\x1b" (x)', "no version of the original had a table a b"),
        (LAST + f'create table "{"x" * 5000}" (x)', "no version of the original had a table x"),
        (LAST + "drop table users; create view users as select 1 as _id, 2 as clid", "table users is missing"),
        (LAST.replace("_id integer not null", "_id text"), "is not its key"),
        ("create table users (_id integer primary key, x)", "no column clid"),
        ("create table x (y)", "none of the tables"),
        ("", "none of the tables"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path, script, why):
    with pytest.raises(InvalidValue, match=why) as refused:
        imported(tmp_path, script)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    "content", [b"", b"garbage " * 1000, b"SQLite format 3\0" + b"\xff" * 5000, b"SQLite format 3\0"]
)
def test_a_file_that_is_no_database_is_refused(tmp_path, content):
    (tmp_path / "alph.db").write_bytes(content)
    with pytest.raises(InvalidValue) as refused, source_database.open_original(tmp_path / "alph.db"):
        pass
    assert str(refused.value).isprintable()


def test_tables_without_row_numbers_are_read(tmp_path):
    _, report = imported(tmp_path, WITHOUT_ROWID + PEOPLE)
    assert report.made["users"] == 2


def test_an_association_without_row_numbers_is_read(tmp_path):
    rows = "insert into users values (3, 'ana', 1, '2001', 0, 724); insert into groups values (1, 'g');"
    _, report = imported(tmp_path, GROUPS + rows + "insert into association values (3, 1)")
    assert report.made["users"] == 1
    assert report.made["association"] == 1


@pytest.mark.parametrize(
    ("cell", "oddity"),
    [
        ("voice_balance = 9e999", "NO_BALANCE"),
        ("voice_balance = '1e9999999999999'", "NO_BALANCE"),
        ("voice_balance = x'ff'", "NO_BALANCE"),
        ("voice_balance = 1e300", "NO_BALANCE"),
        ("clid = '20' || char(0)", "NO_NUMBER"),
        ("clid = cast(x'e9' as text)", "NO_NUMBER"),
        ("imsi = char(0)", "NO_IMSI"),
        ("level = 9e999", "LEVEL"),
        ("level = 'one'", "LEVEL"),
        ("username = cast(x'eda080' as text)", "RENAMED"),
        ("name = 'a' || char(0, 10, 27)", "TEXT"),
    ],
)
def test_an_odd_cell_spoils_no_other_row(tmp_path, cell, oddity):
    found, report = imported(tmp_path, f"{LAST}{PEOPLE}update users set {cell} where _id = 3")
    assert any("users:3" in each for each in found[oddity])
    assert "users:4" not in str(found.get(oddity, ()))
    assert report.made["users"] >= 1


def test_odd_rows_of_every_table_are_reported(tmp_path):
    odd = ["9e999", "x'ff'", "cast(x'eda080' as text)", "char(0)", "'1e99999999999'", "-9223372036854775808", "null"]
    rows = []
    for number, each in enumerate(odd, 10):
        other = "1" if each == "null" else each
        rows += [
            f"insert into voice_balance values ({number}, {other}, {each}, {each}, {other}, {other})",
            f"insert into data_balance values ({number}, {each}, {each}, {each}, {each}, {each}, {other})",
            f"insert into schedule values ({number}, {each}, {each}, {each}, {each})",
            f"insert into schedule_user values ({number}, {each}, {each}, {other})",
            f"insert into schedule_contract values ({number}, {each}, {other}, {other})",
            f"insert into schedule_input values ({number}, {each}, {each}, {each})",
        ]
    found, report = imported(tmp_path, LAST + PEOPLE + ";".join(rows))
    assert report.made["users"] == 2
    assert {"ORPHAN", "BAD_PLAN"} <= found.keys()
