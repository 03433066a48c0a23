"""``celcombiller provisioning``: what it says and does, with a network and without one, and when it is away."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.threads import blockingCallFromThread, deferToThread

from tests.support.fakes.node_manager import NodeManager
from tests.system.lab import command

pytestmark = pytest.mark.slow  # each migrates a database, and two start a program
PROGRAM = Path(sys.executable).parent / "celcombiller"


class Here:
    """A folder with settings and a database. Commands run in a thread, and use the reactor of the tests."""

    def __init__(self, folder, manager):
        self.folder = folder
        self.manager = manager
        self.settings(
            f'[[provisioning]]\nname = "village"\nkind = "openbts"\nport = {manager.port}\n'
            f"bts_port = {manager.port}\nanswer_seconds = 1\n"
        )
        command.run(folder, ["init"])

    def settings(self, text):
        (self.folder / "celcombiller.toml").write_text(text)

    async def run(self, *words, status=0):
        code, said = await deferToThread(command.run, self.folder, [str(word) for word in words])
        return self.checked(words, code, said, status)

    def run_program(self, *words, status=0):
        done = subprocess.run(
            [PROGRAM, *words], cwd=self.folder, capture_output=True, text=True, check=False, timeout=60
        )
        return self.checked(words, done.returncode, done.stdout + done.stderr, status)

    def checked(self, words, code, said, status):
        assert "Traceback" not in said
        assert code == status, (words, said)
        return said

    async def add(self, number):
        words = ("--clid", number, "--imsi", f"72400000000{number}", "--name", "N")
        await self.run("user", "add", f"u{number}", *words)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(task, "react", lambda main: blockingCallFromThread(reactor, main, reactor))
    manager = NodeManager().start()
    yield Here(tmp_path, manager)
    manager.stop()


@pytest_twisted.ensureDeferred
async def test_sync_shows_does_and_keeps_later_changes(here):
    await here.add(2001)
    assert "No radio network" in await here.run("provisioning", "status"), "the biller was not started yet"
    here.run_program("provisioning", "sync")
    assert here.manager.numbers() == [("IMSI724000000002001", "2001")]
    await here.add(2002)
    said = json.loads(await here.run("provisioning", "status", "--json"))
    assert [(each["network"], each["waiting"], each["configured"]) for each in said] == [("village", 1, True)]
    here.manager.dialdata.clear()
    assert "1 different" in await here.run("provisioning", "diff", status=1)
    assert "2 would be queued of 2 that differ" in await here.run("provisioning", "sync", "--dry-run", status=1)
    assert here.manager.numbers() == [("IMSI724000000002001", None)]
    assert "0 waiting" in await here.run("provisioning", "sync", "village")
    assert here.manager.numbers() == [("IMSI724000000002001", "2001"), ("IMSI724000000002002", "2002")]
    assert "as the biller says" in await here.run("provisioning", "diff")
    await here.run("audit")


@pytest_twisted.ensureDeferred
async def test_phones_without_subscriber_are_listed(here):
    await here.add(2001)
    here.manager.phones = [("724000000002001", "5s"), ("724000000009001", "3h")]
    said = json.loads(await here.run("provisioning", "unknown-phones", "--json"))
    assert [(each["imsi"], each["network"]) for each in said] == [("724000000009001", "village")]
    here.manager.stop()
    assert "does not answer" in await here.run("provisioning", "unknown-phones", status=1)


@pytest_twisted.ensureDeferred
async def test_unknown_entries_stay_until_removal_is_asked(here):
    here.manager.sip_buddies.append({"username": "IMSI999990000000001", "name": "x", "callerid": "9"})
    assert "1 unknown" in await here.run("provisioning", "diff", status=1)
    await here.run("provisioning", "sync")
    assert len(here.manager.numbers()) == 1
    await here.run("provisioning", "sync", "--remove-unknown")
    assert here.manager.numbers() == []


@pytest_twisted.ensureDeferred
async def test_a_bad_row_is_shown_others_synced(here):
    here.manager.sip_buddies.append({"username": 5, "name": "\x1b[31m", "callerid": "9"})
    await here.add(2001)
    await here.run("provisioning", "sync")
    assert ("IMSI724000000002001", "2001") in here.manager.numbers()
    said = await here.run("provisioning", "diff", status=1)
    assert "1 unreadable" in said
    assert '"imsi": 5' in said
    assert "\x1b" not in said
    assert "rows of its list that cannot be read: 1" in await here.run("provisioning", "status", status=1)
    assert json.loads(await here.run("provisioning", "diff", "--json", status=1))["village"][0]["drift"] == "unreadable"


@pytest_twisted.ensureDeferred
async def test_an_absent_network_is_one_line_queue_waits(here):
    await here.run("provisioning", "sync")
    here.manager.stop()
    await here.add(2001)
    for said in (
        here.run_program("provisioning", "diff", status=3),
        await here.run("provisioning", "sync", status=3),
    ):
        assert said.count("\n") == 1
        assert "does not answer within" in said
    here.manager.start()
    await here.run("provisioning", "sync")
    assert here.manager.numbers() == [("IMSI724000000002001", "2001")]


@pytest_twisted.ensureDeferred
async def test_a_network_without_settings_is_forgotten_on_request(here):
    await here.run("provisioning", "sync")
    assert "take its [[provisioning]] table out first" in await here.run("provisioning", "forget", "village", status=3)
    here.settings("")
    assert "not in the settings" in await here.run("provisioning", "status")
    await here.run("provisioning", "forget", "village")
    assert "there is no network" in await here.run("provisioning", "forget", "village", status=3)
    assert "no such network in the settings" in await here.run("provisioning", "diff", status=3)
