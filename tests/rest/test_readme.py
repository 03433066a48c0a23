"""Every command of the guide to the API works as printed, but for the port, against a started biller."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.lab.biller import Biller

GUIDE = Path(__file__).parents[2].joinpath("docs", "how-to", "use-the-api.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.*)$", GUIDE.partition("```console\n")[2].partition("```")[0], re.MULTILINE)
STATUSES = [201, 201, 200, 200, 201, 200, 200, 201, 201, 200]


@pytest.fixture
def biller(tmp_path):
    made = Biller(tmp_path).init()
    made.start()
    yield made
    made.stop()


@pytest.mark.slow
def test_the_guides_commands_do_what_it_says(biller):
    make_token, define_api, *asking = COMMANDS
    lines = [make_token, define_api, *(f"{line} -w '%{{stderr}}%{{http_code}}\\n'; echo" for line in asking)]
    script = "\n".join(["set -e", *lines]).replace("localhost:5000", f"127.0.0.1:{biller.rest_port}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    done = subprocess.run(
        ["bash", "-c", script], cwd=biller.folder, env=environment, capture_output=True, text=True, check=True
    )
    assert [int(each) for each in done.stderr.split()] == STATUSES, done.stdout
    made, moved, accounts, statement, back, calls, _, schedule, member, changed = done.stdout.split("\n")[:-1]
    assert json.loads(made)["username"] == "caio"
    assert (json.loads(moved)["posted"], json.loads(back)["posted"]) == (600, 0)
    assert [each["posted"] for each in json.loads(accounts)["items"]] == [600, 0, 0]
    assert [each["value"] for each in json.loads(statement)["items"]] == [600]
    assert json.loads(calls) == {"items": [], "next": None}
    assert biller.folder.joinpath("calls.csv").read_text().startswith("id,reference,")
    assert (json.loads(schedule)["day"], json.loads(member)["count"]) == (1, 12)
    assert json.loads(changed)["enabled"] is False
