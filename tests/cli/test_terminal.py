"""What a person at a terminal sees, beside what a program reads from a pipe."""

import os
import pty
import select
import sys

import pytest

from celcombiller.cli import terminal
from celcombiller.cli.common import print_rows

ROWS = [
    {"state": "failed", "note": "[b]no route[/b]", "cost": 12},
    {"state": "settled", "note": None, "cost": 1},
]
COLUMNS = ("state", "note", "cost")


@pytest.fixture
def shown(monkeypatch):
    """Return what a terminal of 60 columns shows of some work."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def show(work):
        master, slave = pty.openpty()
        text = b""
        with os.fdopen(master, "rb", 0) as screen, os.fdopen(slave, "w") as stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            work()
            stream.flush()
            written = select.poll()  # `select` has no place for descriptors beyond 1023
            written.register(screen, select.POLLIN)
            while written.poll(0):
                text += screen.read(65536)
        return text.decode()

    return show


def test_pipe_gets_plain_columns(capsys):
    print_rows(ROWS, COLUMNS, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "state    note             cost",
        "failed   [b]no route[/b]  12",
        "settled                   1",
    ]


def test_terminal_gets_coloured_table(shown):
    text = shown(lambda: print_rows(ROWS, COLUMNS, as_json=False))
    assert "\x1b[1mstate" in text
    assert "\x1b[31mfailed" in text
    assert "[b]no route[/b]" in text


def test_terminal_gets_json_uncoloured(shown):
    assert "\x1b" not in shown(lambda: print_rows(ROWS, COLUMNS, as_json=True))


def test_refusal_is_one_red_line_on_terminal(shown):
    text = shown(lambda: terminal.print_error("celcombiller: " + "long " * 30))
    assert text.startswith("\x1b[31mcelcombiller: ")
    assert text.count("\n") == 1


def test_progress_is_shown_on_terminal(shown):
    assert "3/3" in shown(lambda: list(terminal.track(range(3), "Calls", 3)))
    assert "5/5" in shown(lambda: advance(5))


def advance(steps):
    with terminal.progress_bar("Members", steps) as advanced:
        advanced(steps)


def test_no_progress_in_pipe(capsys):
    assert list(terminal.track(range(3), "Calls", 3)) == [0, 1, 2]
    advance(5)
    assert capsys.readouterr() == ("", "")
