"""``celcombiller import-legacy``: its report, its choices, and refusals in one line that change nothing."""

import contextlib
import json
import re
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from argon2 import PasswordHasher

from celcombiller.cli.exit_status import REFUSED
from celcombiller.database.engine import open_engine
from tests.support import databases
from tests.support.legacy_import.legacy_imports import (
    ana,
    everything,
    run_script,
    village,
)
from tests.support.legacy_import.original_databases import ADMIN, TABLES, original

_ready = []


@pytest.fixture
def command(command, here):
    """Return the command, beside a copy of a database whose administrator is called root."""
    database = here / "celcombiller.sqlite"
    if _ready:
        database.write_bytes(_ready[0])
        database.chmod(0o600)
        return command
    assert command("init", "--admin", "root")[0] == 0
    with contextlib.closing(sqlite3.connect(database)) as made:
        _ready.append(made.serialize())
    return command


def import_legacy(command, *arguments):
    return command("import-legacy", "alph.db", "--zone", "America/Belem", *arguments)


def rows_here(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'celcombiller.sqlite'}", lock_seconds=1)
    try:
        return everything(engine)
    finally:
        engine.dispose()


@pytest.mark.slow
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
        (lambda path: run_script(path, LAST + "create table extra (a);"), "a table extra: .*drop it in a copy"),
        (lambda path: run_script(path, LAST.replace("clid", "number")), "the table users has no column clid"),
        (lambda path: run_script(path, LAST.replace("origin varchar not null", "source varchar")), "no column origin"),
        (lambda path: run_script(path, LAST + "drop table data_balance;"), "data_balance is missing"),
        (lambda path: run_script(path, LAST + "drop table users;"), "users is missing"),
        (lambda path: run_script(path, LAST.replace("voice_balance integer not null, data", "data")), "neither"),
        (lambda path: run_script(path, LAST.replace("primary key (_id), unique (cpf)", "unique (cpf)")), "not its key"),
        (lambda path: run_script(path, TABLES["movements"] + "drop table groups;"), "groups is missing"),
    ],
)
def test_an_incomplete_original_is_refused_in_one_line(command, tmp_path, make, says):
    make(tmp_path / "alph.db")
    before = rows_here(tmp_path)
    status, out, err = import_legacy(command, "--yes")
    assert (status, out, err.count("\n")) == (3, "", 1), err
    assert re.search(says, err), err
    assert rows_here(tmp_path) == before


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
