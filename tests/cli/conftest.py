"""The command as tests run it: in this process, in a folder of its own, and never with a traceback."""

import contextlib
import gc
import os
import sqlite3

import pytest

from celcombiller.cli import main

_ready = []


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A command ends its process; in this one, what it froze would never be collected, with its open files.
    monkeypatch.setattr(gc, "freeze", lambda: None)
    for name in [name for name in os.environ if name.startswith("CELCOMBILLER_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def command(here, capsys):
    def run(*words):
        try:
            status = main([str(word) for word in words])
        except SystemExit as over:
            status = over.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return run


@pytest.fixture
def ready(command, here):
    """Return the command, beside a copy of a database with an administrator and ana."""
    database = here / "celcombiller.sqlite"
    if _ready:
        database.write_bytes(_ready[0])
        database.chmod(0o600)
        return command
    assert command("init")[0] == 0
    words = ("user", "add", "ana", "--clid", "2001", "--imsi", "724000000002001", "--name", "Ana")
    assert command(*words)[0] == 0
    with contextlib.closing(sqlite3.connect(database)) as made:
        _ready.append(made.serialize())
    return command
