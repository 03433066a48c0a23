"""A backup is whole, private, proved, and never in place of another file."""

import contextlib
import json
import sqlite3
import stat

import pytest

from celcombiller.database.engine import open_engine


def test_a_backup_in_use_is_whole(ready, here):
    assert ready("credit", "ana", 60)[0] == 0
    engine = open_engine(f"sqlite:///{here / 'celcombiller.sqlite'}", lock_seconds=1)
    with engine.begin() as tx:  # a writer at work; what it did not commit is not in the copy
        tx.exec_driver_sql("update subscriber set name = 'Not Yet' where username = 'ana'")
        status, out, _ = ready("backup", "copy.sqlite", "--json")
    engine.dispose()
    said = json.loads(out)
    assert (status, said["ok"], said["transfers"], said["file"]) == (0, True, 1, str(here / "copy.sqlite"))
    assert stat.S_IMODE((here / "copy.sqlite").stat().st_mode) == 0o600
    with contextlib.closing(sqlite3.connect(here / "copy.sqlite")) as copy:
        assert copy.execute("select name from subscriber where username = 'ana'").fetchall() == [("Ana",)]
    assert [each.name for each in here.glob("copy*")] == ["copy.sqlite"]


def test_a_copy_replaces_no_file(ready, here):
    (here / "copy.sqlite").write_text("precious")
    status, _, err = ready("backup", "copy.sqlite")
    assert (status, "exists already" in err, (here / "copy.sqlite").read_text()) == (3, True, "precious")


def test_a_ledger_that_differs_is_copied_and_reported(ready, here):
    with contextlib.closing(sqlite3.connect(here / "celcombiller.sqlite")) as ledger:
        ledger.execute("update account set posted = 61 where id = (select max(id) from account)")
        ledger.commit()
    status, out, _ = ready("backup", "copy.sqlite")
    assert (status, "1 difference:" in out, (here / "copy.sqlite").exists()) == (1, True, True)


def test_a_folder_keeps_the_newest_copies(ready, here):
    folder = here / "backups"
    folder.mkdir()
    for name in ("celcombiller-20260101T000000Z.sqlite", "celcombiller-20260102T000000Z.sqlite", "other.sqlite"):
        (folder / name).touch()
    assert ready("backup", "backups", "--keep", 2)[0] == 0
    names = sorted(each.name for each in folder.iterdir())
    assert names[0] == "celcombiller-20260102T000000Z.sqlite"
    assert (len(names), names[-1]) == (3, "other.sqlite")


@pytest.mark.parametrize("target", ["no/where.sqlite", "celcombiller.sqlite"])
def test_a_place_that_cannot_be_is_one_line(ready, target):
    status, _, err = ready("backup", target)
    assert (status, err.count("\n")) == (3, 1)
