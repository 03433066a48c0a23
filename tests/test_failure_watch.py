"""What tests/conftest.py watches for fails the suite: tried on a suite of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CARELESS = """
import gc

from twisted.internet import reactor
from twisted.internet.defer import fail


class Ring:
    def __init__(self):
        self.ring = self
        self.failed = fail(ZeroDivisionError())


def test_leaves_a_failed_deferred_in_a_ring():
    Ring()


def test_leaves_a_timer():
    reactor.callLater(60, int)


kept = []


def test_keeps_a_failed_deferred_for_long():
    kept.append(Ring())


def test_is_clean():
    gc.freeze()
    kept.clear()
"""


@pytest.mark.slow
def test_nothing_fails_unseen(tmp_path):
    here = Path(__file__).parent
    (tmp_path / "conftest.py").write_text((here / "conftest.py").read_text(encoding="utf-8"))
    (tmp_path / "test_careless.py").write_text(CARELESS)
    command = [sys.executable, "-m", "pytest", "--reactor=default", "-q", "-rE", "-p", "no:cacheprovider", "."]
    environment = os.environ | {"PYTHONPATH": str(here.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    said = [line.partition(" - ")[0] for line in done.stdout.splitlines() if line.startswith("ERROR ")]
    assert said == [
        "ERROR test_careless.py::test_leaves_a_failed_deferred_in_a_ring",
        "ERROR test_careless.py::test_leaves_a_timer",
        "ERROR test_careless.py::test_is_clean",
    ]
    assert done.stdout.count("ZeroDivisionError") >= 2
