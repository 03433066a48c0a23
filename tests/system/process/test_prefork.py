"""`[service] workers`: several processes on the same ports, kept alive and ended by their parent."""

import os
import re
import signal
import subprocess

import pytest

from tests.system.http.test_tls_and_curl import certificate
from tests.system.lab.biller import PROGRAMS, Biller
from tests.system.lab.traffic import Traffic
from tests.system.lab.waiting import is_running, until
from tests.system.postgresql.availability.test_several_nodes import (
    CALLEE,
    CALLERS,
    CREDIT,
    LIMIT,
    LINES_EACH,
    check_that_what_was_said_is_so,
    more,
)


@pytest.fixture
def biller_of_two(cluster, tmp_path):
    made = Biller(tmp_path / "biller", url=cluster.database())
    made.workers = 2
    made.as_program = True
    made.calls["max_call_seconds"] = LIMIT
    made.folder.joinpath("pair.pem").write_bytes(certificate())
    made.rest_listen = f"ssl:{made.rest_port}:interface=127.0.0.1:privateKey=pair.pem"
    yield made
    made.stop()


def test_a_killed_worker_of_two_comes_back(biller_of_two):
    biller = biller_of_two
    biller.prepare(dict.fromkeys(CALLERS, CREDIT) | {CALLEE: 0}).start()
    traffic = Traffic([biller.agi_port], [*CALLERS] * LINES_EACH, CALLEE).start()
    more(traffic, 100)
    first = processes(biller)
    assert sorted(first) == [1, 2]
    until(lambda: all(re.search(rf"\[worker {number} .*Granted", biller.log) for number in first), "both take calls")
    os.kill(first[1], signal.SIGKILL)
    more(traffic, 100)  # the other takes them
    until(lambda: processes(biller)[1] != first[1], "worker 1 is back")
    until(lambda: biller.log.count("] REST on") == 3, "it serves")
    more(traffic, 100)
    assert all(alive(biller) for _ in range(5))
    played = traffic.stop()
    biller.stop()
    assert not any(map(is_running, {*first.values(), *processes(biller).values()}))
    check_that_what_was_said_is_so(played, biller.url)
    unsettled = [call for call in played if call.dialled_at and not call.settled]
    assert len(unsettled) <= len(traffic.lines), "each line was in one session at most with the one that was killed"
    assert biller.json("audit")["ok"]
    assert biller.log.count("ended (") == 1, "only the one that was killed ended by itself"
    assert "Traceback" not in biller.log
    assert "Unhandled Error" not in biller.log


def test_workers_end_with_a_parent_that_is_killed(biller_of_two):
    biller = biller_of_two.init().start()
    until(lambda: biller.log.count("] REST on") == 2, "both serve")
    workers = processes(biller)
    biller.kill9()
    until(lambda: not any(map(is_running, workers.values())), "both are gone")
    biller.start()
    until(lambda: biller.log.count("] REST on") == 4, "the ports were free")


def test_impossible_worker_settings_are_refused_in_one_line(biller_of_two, tmp_path):
    on_file = Biller(tmp_path / "file")
    on_file.workers = 2
    on_file.write()
    assert "service.workers: several processes need PostgreSQL" in one_line(on_file.start_in_vain())
    biller = biller_of_two
    biller.write()
    assert "run `celcombiller init`" in one_line(biller.start_in_vain())
    biller.init()
    done = subprocess.run(
        [PROGRAMS / "twistd", "celcombiller"], cwd=biller.folder, capture_output=True, text=True, check=False
    )
    assert "run twistd with --nodaemon" in one_line(done.stdout + done.stderr)


def processes(biller):
    """Give the process of each worker, from the parent's log."""
    found = re.findall(r"Worker (\d+) is process (\d+)", biller.log)
    return {int(number): int(process) for number, process in found}


def alive(biller):
    url = f"https://127.0.0.1:{biller.rest_port}/readyz"
    command = ["curl", "-sS", "-m", "5", "--cacert", biller.folder / "pair.pem", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return '"ledger":true' in done.stdout


def one_line(said):
    assert said.count("\n") == 1, said
    return said
