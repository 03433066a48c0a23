"""The programs of benchmarks/ fill what they measure, and it is right."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from celcombiller.core.audit.report import audit
from celcombiller.core.schema import tables
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact

PROGRAMS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def empty(request, tmp_path):
    """An engine on a database without tables."""
    if request.param == "sqlite":
        file = tmp_path / "bench.sqlite"
        file.touch()
        url = f"sqlite:///{file}"
    else:
        url = request.getfixturevalue("cluster").database()
    made = open_engine(url, lock_seconds=5, foreign_keys=False)
    yield made
    made.dispose()


def program(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", PROGRAMS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_api_benchmark_fills_a_proved_ledger(empty):
    program("rest_api").populate(empty, 400)
    with empty.connect() as tx:
        assert tx.execute(sa.select(sa.func.count()).select_from(tables.call)).scalar() == 400
    assert transact(empty, audit).ok


def test_the_rate_benchmark_builds_a_right_tariff():
    tariff, _ = program("rate_lookup").build(2000)
    assert len(tariff) == 2000
    found = [tariff.rate_for(number) for number in ("1999000", "1990000", "0000", "0051")]
    assert [each.prefix for each in found] == ["1999", "199", "000", "0051"]
    assert found[0].name == "Destination 39"


@pytest.mark.nightly
@pytest.mark.parametrize(
    "words",
    [
        "rest_api --database sqlite --rows 500 --seconds 0.3",
        "console_pages --database sqlite --pairs 1 --seconds 1 --every 1",
        "live_calls --calls 50 --pairs 1 --seconds 1 --settle 1 --rate 10",
        "schedule_credits --database sqlite --members 5000 --calls 20 --idle 3 --fees --audit",
        "vouchers --databases sqlite --cards 4000 --redeem 400 --at-once 4",
    ],
)
def test_a_benchmark_runs_to_its_end(words):
    """With little to measure. Each takes 10 to 30 s."""
    name, *options = words.split()
    command = [sys.executable, PROGRAMS / f"{name}.py", *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stdout + done.stderr
