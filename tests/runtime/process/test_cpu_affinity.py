"""What works on calls keeps to one processor core; threads that work for long without the GIL run anywhere."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from celcombiller.runtime.process import cpu_affinity

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core is no choice")


@pytest.fixture(autouse=True)
def restored():
    was = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, was)


def where(made):
    """Give the cores that a thread of this kind runs on."""
    seen = []
    thread = made(target=lambda: seen.append(os.sched_getaffinity(0)))
    thread.start()
    thread.join()
    return seen[0]


def test_only_exempted_threads_leave_the_shared_core():
    every = os.sched_getaffinity(0)
    assert {cpu_affinity.pin_to_one_core(None)} == os.sched_getaffinity(0) == {max(every)}
    assert where(threading.Thread) == {max(every)}
    assert where(cpu_affinity.UnpinnedThread) == every


def test_workers_get_own_cores_while_enough():
    every = sorted(os.sched_getaffinity(0))
    numbers = range(1, 2 * len(every) + 1)
    assert [cpu_affinity.pin_to_one_core(number) for number in numbers] == [*every[::-1], *every[::-1]]


def test_where_there_is_one_core_nothing_is_done(monkeypatch):
    monkeypatch.setattr(cpu_affinity, "_ALL", {0})
    monkeypatch.setattr(os, "sched_setaffinity", None)
    assert cpu_affinity.pin_to_one_core(None) is None


@pytest.mark.slow
@pytest.mark.parametrize("one_core", [True, False])
def test_the_setting_decides(tmp_path, one_core):
    (tmp_path / "celcombiller.toml").write_text(f"[service]\none_core = {str(one_core).lower()}\n", encoding="utf-8")
    programs = Path(sys.executable).parent
    subprocess.run([programs / "celcombiller", "init"], cwd=tmp_path, check=True, capture_output=True)
    program = (
        "import os; from celcombiller.service import Options, makeService; options = Options();"
        "options.parseOptions([]); makeService(options); print(len(os.sched_getaffinity(0)))"
    )
    made = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert int(made.stdout) == (1 if one_core else len(os.sched_getaffinity(0)))
