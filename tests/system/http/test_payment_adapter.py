"""The adapter of the guide to payments, as a process of its own between a gateway and a biller, over real HTTP."""

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from celcombiller.bench.environment import listens
from tests.system.lab.biller import Biller
from tests.system.lab.waiting import free_ports, until

GUIDE = Path(__file__).parents[3].joinpath("docs", "how-to", "payments.md").read_text(encoding="utf-8")
ADAPTER = re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL)[1]
SECRET = "0123456789abcdef" * 2
PAID = {"transaction": "TX-17", "status": "PAID", "phone": "5001", "cents": 1205}


@pytest.fixture
def biller(tmp_path):
    made = Biller(tmp_path / "biller")
    made.more = ["[[payments]]", 'name = "gateway"', 'secret_file = "gateway.secret"', 'currency = "BRL"']
    made.folder.joinpath("gateway.secret").write_text(SECRET + "\n")
    made.prepare({5001: 0})
    made.run("tariff", "add", "standard", "--currency", "BRL", "--credits-per-unit", 100)
    made.run("tariff", "default", "standard")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def gateway(biller, tmp_path):
    """Return what the gateway does: it posts a callback, and gets a status."""
    (tmp_path / "adapter.py").write_text(ADAPTER)
    port = free_ports(1)
    environment = os.environ | {
        "BILLER": f"http://127.0.0.1:{biller.rest_port}",
        "SECRET_FILE": str(biller.folder / "gateway.secret"),
        "GATEWAY_TOKEN": "the gateway's token",
        "PORT": str(port),
    }
    with (tmp_path / "adapter.log").open("w") as log:
        process = subprocess.Popen([sys.executable, tmp_path / "adapter.py"], env=environment, stderr=log)
    until(lambda: listens(port), "the adapter listens")

    def call(callback, token="the gateway's token"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", json.dumps(callback).encode(), {"X-Token": token})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as refusal:
            return refusal.code

    yield call
    process.terminate()
    process.wait(10)


@pytest.mark.real
def test_the_guides_adapter_credits_and_takes_back(gateway, biller):
    """About 4 s."""

    def balance():
        return biller.json("user", "show", "user5001")["voice_balance"]

    assert gateway(PAID, token="a guess") == 401
    assert gateway(PAID | {"status": "PENDING"}) == 200
    assert balance() == 0
    assert [gateway(PAID) for _ in range(3)] == [200] * 3
    assert balance() == 1205
    assert gateway(PAID | {"cents": 1}) == 409
    assert gateway(PAID | {"transaction": "TX-18", "phone": "4711"}) == 200
    (waiting,) = biller.json("payment", "list", "--state", "unassigned")
    biller.run("payment", "assign", waiting["id"], "5001")
    assert balance() == 2410
    assert [gateway({"transaction": "TX-17", "status": "REFUNDED"}) for _ in range(2)] == [200] * 2
    assert balance() == 1205
    biller.stop()
    assert gateway(PAID | {"transaction": "TX-19"}) == 503
    biller.start()
    assert gateway(PAID | {"transaction": "TX-19"}) == 200
    assert balance() == 2410
    biller.run("audit")
