"""One biller works on a SQLite file, whatever leads to it."""

import os
import subprocess
import sys

import pytest

from celcombiller.core.errors import StoreUnavailable
from celcombiller.database.instance_lock import BillerRuns, lock_database_file


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """Give the path of a file that a biller has."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "ledger.sqlite"
    path.touch()
    lock = lock_database_file(f"sqlite:///{path}")
    yield path
    lock.close()


def of_link(path):
    link = path.with_name("link.sqlite")
    link.symlink_to(path)
    return link


def of_hard_link(path):
    link = path.with_name("hard.sqlite")
    os.link(path, link)
    return link


def of_linked_folder(path):
    folder = path.parent / "there"
    folder.symlink_to(path.parent)
    return folder / path.name


PLACES = [
    str,
    of_link,
    of_hard_link,
    of_linked_folder,
    lambda path: path.name,
    lambda path: f"../{path.parent.name}/{path.name}",
]


@pytest.mark.parametrize("place", PLACES, ids=range(len(PLACES)))
def test_a_second_biller_is_refused_by_any_path(ledger, place):
    with pytest.raises(BillerRuns, match="another biller runs"):
        lock_database_file(f"sqlite:///{place(ledger)}")


def test_the_lock_ends_with_its_process(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.touch()
    take = (
        f"from celcombiller.database.instance_lock import lock_database_file as take; kept = take('sqlite:///{path}')"
    )
    holder = subprocess.Popen([sys.executable, "-c", f"{take}; print(flush=True); input()"], stdin=-1, stdout=-1)
    holder.stdout.readline()
    with pytest.raises(BillerRuns):
        lock_database_file(f"sqlite:///{path}")
    holder.kill()
    holder.communicate()
    lock_database_file(f"sqlite:///{path}").close()


def test_a_linked_lock_file_is_not_followed(tmp_path):
    path, victim = tmp_path / "ledger.sqlite", tmp_path / "victim"
    path.touch()
    victim.write_text("precious")
    (tmp_path / "ledger.sqlite.lock").symlink_to(victim)
    with pytest.raises(StoreUnavailable, match="symbolic link"):
        lock_database_file(f"sqlite:///{path}")
    assert victim.read_text() == "precious"
    (tmp_path / "ledger.sqlite.lock").unlink()
    lock_database_file(f"sqlite:///{path}").close()


def test_another_ledger_beside_it_is_free(ledger):
    other = ledger.with_name("other.sqlite")
    other.touch()
    lock_database_file(f"sqlite:///{other}").close()
