"""What makes, upgrades and finds the database: one ledger for all, guarded, told, and readable by its owner only."""

import contextlib
import fcntl
import os
import re
import sqlite3
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command as alembic

from celcombiller.core.schema import migrations
from celcombiller.database.engine import open_engine
from celcombiller.database.instance_lock import InstanceLock

pytestmark = pytest.mark.slow  # each migrates a ledger
NEWEST = migrations.REVISIONS[-1]
OLDER = migrations.REVISIONS[-2]
COMMANDS = [
    ("user", "list"),
    ("credit", "ana", "5"),
    ("calls",),
    ("statement", "ana"),
    ("audit",),
    ("messages", "list"),
    ("data-sessions",),
    ("schedules", "list"),
    ("token", "list"),
    ("provisioning", "status"),
]


@pytest.fixture
def older(here):
    """Give the path of a ledger of the version before this one, with an administrator."""
    path = here / "celcombiller.sqlite"
    path.touch()
    engine = open_engine(f"sqlite:///{path}", lock_seconds=1, foreign_keys=False)
    with engine.begin() as tx:
        config = migrations.alembic_config()
        config.attributes["connection"] = tx
        alembic.upgrade(config, OLDER)
        tx.exec_driver_sql(
            "insert into subscriber (id, username, name, clid, imsi, level, enabled, created_at)"
            " values (7, 'root', 'Root', '0', '000000000000000', 0, true, '2026-01-01 00:00:00')"
        )
    engine.dispose()
    return path


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def version(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute("select version_num from alembic_version").fetchone()[0]


# -- E1: one ledger


def test_a_relative_path_is_beside_the_settings(command, here, monkeypatch):
    (here / "etc").mkdir()
    (here / "elsewhere").mkdir()
    (here / "etc" / "my.toml").write_text('[database]\nurl = "sqlite:///ledger.sqlite"\n')
    status, out, _ = command("--config", "etc/my.toml", "init")
    assert (status, f"Database {here}/etc/ledger.sqlite is ready" in out) == (0, True)
    monkeypatch.chdir(here / "elsewhere")
    assert command("--config", "../etc/my.toml", "user", "list")[0] == 0
    assert str(here / "etc" / "ledger.sqlite") in command("--config", "../etc/my.toml", "check-config")[1]
    assert list(here.rglob("*.sqlite")) == [here / "etc" / "ledger.sqlite"]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_only_init_makes_a_database(command, here, words):
    status, _, err = command(*words)
    assert (status, err.count("\n")) == (3, 1)
    assert f"there is no database file {here}/celcombiller.sqlite" in err
    assert "celcombiller init" in err
    assert list(here.iterdir()) == []


def test_init_refuses_beside_the_ledger_of_the_folder(command, here, monkeypatch):
    assert command("init")[0] == 0
    (here / "etc").mkdir()
    (here / "etc" / "celcombiller.toml").write_text("")
    status, _, err = command("--config", "etc/celcombiller.toml", "init")
    assert (status, f"sqlite:///{here}/celcombiller.sqlite" in err) == (3, True)
    assert not (here / "etc" / "celcombiller.sqlite").exists()


# -- E2: an upgrade


def test_an_upgrade_is_reported_and_copied(command, older):
    status, out, _ = command("init")
    assert (status, version(older)) == (0, NEWEST)
    assert f"Upgraded the tables from version {OLDER} to {NEWEST}." in out
    copy = Path(re.search(r"is kept in (\S+)\.\n", out)[1])
    assert (version(copy), mode(copy), copy.parent) == (OLDER, 0o600, older.parent)
    with contextlib.closing(sqlite3.connect(copy)) as database:
        assert database.execute("select username from subscriber").fetchall() == [("root",)]
    assert "Administrator: root, as before." in out


def test_an_upgrade_under_a_biller_is_refused(command, older):
    lock = InstanceLock(older)
    status, _, err = command("init")
    lock.close()
    assert (status, "stop it, then run" in err, version(older)) == (3, True, OLDER)
    assert sorted(each.name for each in older.parent.iterdir() if "0" in each.name) == []


def test_an_upgrade_under_an_older_program_is_refused(command, older):
    with Path(f"{older}.lock").open("w") as its_lock:
        fcntl.flock(its_lock, fcntl.LOCK_EX)
        assert command("init")[0] == 3
    assert version(older) == OLDER


def test_init_beside_a_biller_changes_nothing(command, here):
    assert command("init")[0] == 0
    lock = InstanceLock(here / "celcombiller.sqlite")
    status, out, _ = command("init")
    lock.close()
    assert (status, "as before" in out) == (0, True)


def test_a_copy_that_fails_stops_the_upgrade(command, older, monkeypatch):
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    status, _, err = command("init")
    assert (status, "No space left on device" in err, version(older)) == (3, True, OLDER)


# -- D3: what others may read


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.slow
def test_the_ledger_and_its_journals_are_private(command, here, umask):
    assert command("init")[0] == 0
    path = here / "celcombiller.sqlite"
    engine = open_engine(f"sqlite:///{path}", lock_seconds=1)
    with engine.begin() as tx:
        tx.execute(sa.text("update subscriber set name = 'x'"))
        modes = {each.name: mode(each) for each in here.iterdir()}
    engine.dispose()
    lock = InstanceLock(path)
    lock.close()
    assert {f"celcombiller.sqlite{each}" for each in ("", "-wal", "-shm")} < set(modes)
    assert set(modes.values()) | {mode(here / "celcombiller.sqlite.lock")} == {0o600}


def test_init_takes_a_readable_ledger_back(command, here):
    assert command("init")[0] == 0
    path = here / "celcombiller.sqlite"
    path.chmod(0o644)
    status, out, _ = command("init")
    assert (status, mode(path), f"{path} could be read by everyone" in out) == (0, 0o600, True)
    path.chmod(0o640)  # a group that an operator let in
    assert command("init")[0] == 0
    assert mode(path) == 0o640


def test_the_first_password_is_in_a_private_file(command, here):
    status, out, _ = command("init", "--admin", "root")
    file = here / "celcombiller.first-password"
    password = file.read_text().strip()
    assert (status, mode(file), password in out, str(file) in out) == (0, 0o600, False, True)
    assert len(password) >= 16
    status, out, _ = command("init", "--admin", "other")
    assert (status, "password is" in out, "root, as before" in out) == (0, False, True)


def test_a_first_password_of_before_is_kept(command, here):
    (here / "celcombiller.first-password").write_text("of another ledger")
    status, _, err = command("init")
    assert (status, "exists already" in err) == (3, True)
    assert (here / "celcombiller.first-password").read_text() == "of another ledger"
    assert not (here / "celcombiller.sqlite").exists()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://biller:s3cret@127.0.0.1:1/x",
        "postgresql+psycopg://biller@127.0.0.1:1/x?password=s3cret",
        "postgresql+psycopg://biller@127.0.0.1:1/x?sslpassword=s3cret&sslkey=k",
        "postgresql+psycopg://biller:s3cret@127.0.0.1:1/x?password=s3cret",
    ],
)
def test_passwords_in_a_url_are_not_shown(command, monkeypatch, url):
    monkeypatch.setenv("CELCOMBILLER_DATABASE_URL", url)
    for words in (("check-config",), ("calls",), ("init",)):
        _, out, err = command(*words)
        assert "s3cret" not in out + err
    assert "biller" in command("check-config")[1]


# -- D1: files that are no ledger


@pytest.mark.parametrize("words", [("init",), *COMMANDS], ids=" ".join)
@pytest.mark.parametrize("kind", ["garbage", "folder", "pipe", "other", "short", "original", "device"])
def test_a_file_that_is_no_ledger_is_refused(command, here, monkeypatch, words, kind):
    path = here / "celcombiller.sqlite"
    if kind == "garbage":
        path.write_bytes(os.urandom(5000))
    elif kind == "short":
        path.write_bytes(b"SQLite format 3\0")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        monkeypatch.setenv("CELCOMBILLER_DATABASE_URL", "sqlite:////dev/zero")
    else:
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("create table alembic_version (version_num varchar)")
            database.execute("insert into alembic_version values ('0001')")
            database.execute("create table users (id integer)")
            database.commit()
    before = path.read_bytes() if path.is_file() else None
    status, _, err = command(*words)
    assert (status, err.count("\n")) == (3, 1), err
    assert (path.read_bytes() if path.is_file() else None) == before


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_empty_file_asks_for_init(command, here, words):
    (here / "celcombiller.sqlite").touch()
    status, _, err = command(*words)
    assert (status, err.count("\n"), "celcombiller init" in err) == (3, 1, True)


def test_init_makes_a_ledger_of_an_empty_file(command, here):
    (here / "celcombiller.sqlite").touch()
    assert command("init")[0] == 0
    assert command("user", "list")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("words", [("init",), *COMMANDS], ids=" ".join)
def test_a_ledger_with_damaged_pages_is_one_line(command, here, words):
    assert command("init")[0] == 0
    path = here / "celcombiller.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    status, _, err = command(*words)
    assert (status, err.count("\n")) == (3, 1), err


# -- E6, and what a terminal cannot show


def test_an_argument_not_utf8_is_wrong_usage(command):
    assert command("user", "show", "an\udcff")[0] == 2


def test_a_hard_link_under_a_biller_is_refused(ready, here, monkeypatch):
    os.link(here / "celcombiller.sqlite", here / "other.sqlite")
    monkeypatch.setenv("CELCOMBILLER_DATABASE_URL", "sqlite:///other.sqlite")
    lock = InstanceLock(here / "celcombiller.sqlite")
    status, _, err = ready("credit", "ana", 5)
    lock.close()
    assert (status, "hard link" in err, err.count("\n")) == (3, True, 1)
