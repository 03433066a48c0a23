"""curl runs every command of the original's README (`original_commands.txt`, as they were printed) against a started biller.

Three things are not as printed: the port, ``localost``, and that the last two commands send the login's cookie too.
"""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from celcombiller.core.model.subscribers import Level
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from celcombiller.runtime.credentials.password_hash import hash_password
from tests.system.lab.biller import Biller

COMMANDS = (Path(__file__).parents[2] / "data" / "original_commands.txt").read_text().splitlines()
ADMIN = {"level": Level.ADMINISTRATOR, "clid": "999999990", "imsi": "999999999999999", "cpf": "0000"}
GUEST = {"level": Level.SUBSCRIBER, "clid": "999999998", "imsi": "999999999999998", "cpf": "1"}


@pytest.fixture
def biller(tmp_path):
    made = Biller(tmp_path).init()
    engine = open_engine(f"sqlite:///{tmp_path / 'celcombiller.sqlite'}", lock_seconds=5)

    def work(tx):
        subscriber_records.change(tx, "admin", ADMIN | {"password_hash": hash_password("adm123")}, datetime.now(UTC))
        now = datetime.now(UTC)
        subscriber_records.add(tx, username="guest", name="guest", address="", password_hash=None, now=now, **GUEST)

    transact(engine, work)
    engine.dispose()
    made.start()
    yield made
    made.stop()


def run(biller, command):
    """Run one line of a shell in the biller's folder; give status and what came, and stand on valid JSON."""
    line = command.replace("localost", "localhost").replace("localhost:5000", f"127.0.0.1:{biller.rest_port}")
    if "/api/" in line and "cookiefile" not in line:
        line += " -b cookiefile"
    done = subprocess.run(
        [*("bash", "-c"), line + r" -w '\n%{http_code}'"], cwd=biller.folder, capture_output=True, text=True, check=True
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body) if body.strip() else None


@pytest.mark.slow
def test_every_command_of_the_originals_readme_works(biller):
    assert len(COMMANDS) == 8
    log_in, add_user, add_data, add_voice, change_user, delete_user, add_group, change_group = COMMANDS

    status, body = run(biller, log_in)
    assert (status, body["roles"], body["id"]) == (200, ["admin"], 1)
    assert "#HttpOnly_127.0.0.1" in (biller.folder / "cookiefile").read_text()

    status, body = run(biller, add_user)
    assert (status, body["_id"], body["username"], body["cpf"], body["level"]) == (201, 3, "yourusername", 0, 1)
    assert (body["clid"], body["imsi"], body["voice_balance"]) == ("999999999", "12345678900", 0)
    assert run(biller, add_user)[0] == 409

    status, body = run(biller, add_data)
    assert (status, body["user_id"], body["value"], body["origin"]) == (201, 3, 1000, "web")
    status, body = run(biller, add_data.replace('"1000"', '"-400"'))
    assert (status, body["value"]) == (201, -400)
    status, body = run(biller, add_voice)
    assert (status, body["from_user_id"], body["value"], body["to_user_id"]) == (201, 1, 1000, None)
    status, body = run(biller, add_voice.replace('"1000"', "-400"))
    assert (status, body["value"]) == (201, -400)
    assert biller.json("user", "show", "yourusername")["data_balance"] == 600
    assert biller.json("user", "show", "admin")["voice_balance"] == 600

    assert run(biller, change_user) == (404, {})
    biller.run("user", "add", "youroldusername", "--clid", 7, "--imsi", 7000000, "--name", "old")
    status, body = run(biller, change_user)
    assert (status, body["_id"], body["username"]) == (200, 4, "yournewusername")
    status, _ = run(biller, log_in.replace("admin&password=adm123", "yournewusername&password=yournewpassowrd"))
    assert status == 200
    run(biller, log_in)

    assert run(biller, delete_user) == (204, None)
    assert run(biller, delete_user) == (404, {})

    status, body = run(biller, add_group)
    assert (status, body) == (201, {"_id": 1, "name": "group_name", "day": 1, "value": 0, "kind": 1})
    assert run(biller, add_group) == (
        400,
        {"message": "Already has this Group", "validation_errors": {"name": "another schedule has it"}},
    )
    assert run(biller, change_group) == (404, {})
    run(biller, add_group.replace("group_name", "schedule"))
    status, body = run(biller, change_group)
    assert (status, body["name"]) == (200, "schedule")

    biller.run("audit")
    assert "Traceback" not in biller.log
    assert "adm123" not in biller.log


IMSI = "724000000002002"


def test_data_usage_by_imsi_counts_once_per_id(biller):
    log_in, _, add_data, *_ = COMMANDS
    run(biller, log_in)
    biller.run("user", "add", "bia", "--clid", 2002, "--imsi", IMSI, "--name", "Bia")
    command = add_data.replace('"user_id":3', f'"user_id":"{IMSI}","user_ip":"192.168.99.2","connection_ip":"8.8.8.8"')
    check = f"""curl -b cookiefile -s -d '{{"imsi": "{IMSI}"}}' http://localhost:5000/check_data_balance"""

    def balance():
        line = check.replace("localhost:5000", f"127.0.0.1:{biller.rest_port}")
        return subprocess.run(
            ["bash", "-c", line], cwd=biller.folder, capture_output=True, text=True, check=True
        ).stdout

    given = command + " -H 'Idempotency-Key: voucher 12'"
    used = command.replace('"1000"', '"-250"').replace('"web"', '"openbts"') + " -H 'Idempotency-Key: report 77'"
    for line, value, origin, left in ((given, 1000, "web", "1000"), (used, -250, "openbts", "750")):
        answers = [run(biller, line) for _ in range(3)]
        assert [status for status, _ in answers] == [201] * 3
        assert answers[0] == answers[1] == answers[2]
        body = answers[0][1]
        assert (body["value"], body["origin"]) == (value, origin)
        assert (body["user_ip"], body["connection_ip"]) == ("192.168.99.2", "8.8.8.8")
        assert balance() == left
    assert run(biller, used.replace("8.8.8.8", "8.8.4.4"))[0] == 409
    assert run(biller, used.replace("-250", "-751").replace("77", "78"))[0] == 409
    assert balance() == "750"
    rows = [line["value"] for line in biller.json("statement", "bia")]
    assert rows == [-250, 1000]
    biller.run("audit")
