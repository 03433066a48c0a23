"""What keeps `twistd celcombiller` from starting is told in one line, and then it does not start."""

import sqlite3
import subprocess
import urllib.request

from celcombiller.bench.environment import listens
from tests.system.lab import command
from tests.system.lab.biller import PROGRAMS, Biller
from tests.system.lab.waiting import end, until


def test_a_typo_in_the_settings(tmp_path):
    biller = Biller(tmp_path / "biller")
    biller.init()
    biller.agi["idle_secons"] = 5
    biller.write()
    line = _refusal(biller)
    assert "celcombiller.toml" in line
    assert "idle_secons" in line


def test_a_database_that_cannot_be_opened(tmp_path):
    biller = Biller(tmp_path / "biller", url="sqlite:////nowhere/at/all/celcombiller.sqlite")
    biller.write()
    assert "/nowhere/at/all" in _refusal(biller)


def test_a_database_without_tables(tmp_path):
    biller = Biller(tmp_path / "biller")
    biller.write()
    assert "init" in _refusal(biller)


def test_a_database_that_another_program_has_locked(tmp_path):
    biller = Biller(tmp_path / "biller").init()
    other = sqlite3.connect(biller.folder / "celcombiller.sqlite")
    other.execute("begin exclusive")
    try:
        assert "locked" in biller.run_program("credit", "admin", 5, status=3)
    finally:
        other.close()


def _refusal(biller: Biller) -> str:
    """Start it; give the only line that says why it did not."""
    said = biller.start_in_vain()
    assert "Traceback" not in said
    assert said.count("\n") == 1, said
    return said


def test_serve_runs_the_biller(tmp_path):
    """It answers, and a scrape of the metrics leaves no line in the log."""
    biller = Biller(tmp_path / "biller")
    biller.write()
    assert "celcombiller init" in biller.run_program("serve", status=3)
    biller.init()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAMS / "celcombiller", "--config", biller.folder / "celcombiller.toml", "serve"],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env=command.environment(),
        )
    try:
        until(lambda: listens(biller.rest_port) or process.poll() is not None, "the biller listens")
        for path in ("metrics", "healthz"):
            with urllib.request.urlopen(f"http://127.0.0.1:{biller.rest_port}/{path}") as answer:
                assert answer.status == 200
        until(lambda: "/healthz" in (tmp_path / "log").read_text(), "the access log is written")
    finally:
        end(process)
    assert "/metrics" not in (tmp_path / "log").read_text()


def test_a_refused_call_says_the_setting(tmp_path):
    biller = Biller(tmp_path / "biller")
    biller.calls["external_dial"] = ""
    biller.prepare({1001: 60}).start()
    try:
        assert "calls.external_dial" in biller.run("call", "user1001", "9999", status=3)
        assert "user add" in biller.run("call", "7777", "1001", status=3)
    finally:
        biller.stop()


def test_sigterm_may_come_many_times(tmp_path):
    biller = Biller(tmp_path / "biller").init().start()
    # It listens before it hears signals; once it answers, it does.
    urllib.request.urlopen(f"http://127.0.0.1:{biller.rest_port}/healthz", timeout=20).close()
    until(biller.ask_to_stop, "it ends", every=0.005)
    assert "Received SIGTERM" in biller.log
    assert "Traceback" not in biller.log
