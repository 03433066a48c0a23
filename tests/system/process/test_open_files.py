"""With few open files, clients of the API leave those that calls need."""

import contextlib
import socket
import urllib.request

import pytest

from tests.system.lab.biller import Biller

FILES = 400


@pytest.fixture
def biller_with_few_files(parts, tmp_path):
    made = Biller(tmp_path / "biller")
    made.as_program = True
    made.open_files = FILES
    made.prepare({1000: 500, 2001: 0}).start()
    yield made
    made.stop()


def test_idle_api_clients_leave_files_for_calls(biller_with_few_files):
    """4 s."""
    biller = biller_with_few_files
    assert "raise LimitNOFILE" in biller.log
    with contextlib.ExitStack() as opened:
        for number in range(FILES + 20):
            client = opened.enter_context(socket.socket())
            client.bind((f"127.0.1.{number % 200 + 1}", 0))
            client.connect(("127.0.0.1", biller.rest_port))
            client.sendall(b"GET /api/v1/me HTTP/1.1\r\nX:")
        for _ in range(3):
            assert "settled" in biller.run("call", "user1000", "2001", "--talk", "3")
        with urllib.request.urlopen(f"http://127.0.0.1:{biller.rest_port}/healthz", timeout=20) as answer:
            assert answer.status == 200
    assert "Too many open files" not in biller.log
