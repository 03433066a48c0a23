"""The biller as twistd runs it, told of data by FreeRADIUS' radclient, and killed while a NAS tells."""

import random
import shutil
import socket
import subprocess
import threading
import time
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from celcombiller.core.data import session_records
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from celcombiller.runtime.credentials.password_hash import hash_password
from tests.support.fakes.nas import SECRET, report
from tests.system.lab.biller import Biller
from tests.system.lab.waiting import free_ports, until

SECONDS_MOST = 120
"""Within which every session has had a kill fall between a report and its answer."""


class Radio:
    """A biller with RADIUS in a process of its own."""

    def __init__(self, folder, url):
        self.biller = Biller(folder, url=url)
        self.access, self.accounting = (free_ports(1, socket.SOCK_DGRAM) for _ in range(2))
        self.biller.more = [
            "[radius]",
            f"access_port = {self.access}",
            f"accounting_port = {self.accounting}",
            "[[radius.clients]]",
            'name = "hotspot"',
            'address = "127.0.0.0/8"',
            f'secret = "{SECRET}"',
            'volume = "mikrotik"',
            "disconnect_port = 0",
        ]
        self.biller.init()
        self.biller.run("user", "add", "ana", "--clid", 1002, "--imsi", 724000000001002, "--name", "Ana")
        self.engine = open_engine(url or f"sqlite:///{folder / 'celcombiller.sqlite'}", lock_seconds=5)
        changes = {"password_hash": hash_password("correct horse")}
        transact(self.engine, lambda tx: subscriber_records.change(tx, "ana", changes, datetime.now(UTC)))
        self.biller.start()

    def give(self, value):
        self.biller.run("credit", "ana", value, "--kind", "data")

    def ask(self, *lines, secret=SECRET, seconds=60, times=1):
        return self._radclient(self.access, "auth", (*lines, "Message-Authenticator = 0x00"), secret, seconds, times)

    def tell(self, status, octets=None, *lines, secret=SECRET, seconds=60, times=1, session_id="A1", username="ana"):
        said = [
            *(f"Acct-Status-Type = {status}", f'Acct-Session-Id = "{session_id}"'),
            *('NAS-Identifier = "nas1"', *lines),
        ]
        if username:
            said.append(f'User-Name = "{username}"')
        if octets is not None:
            said += [f"Acct-Output-Octets = {octets % 2**32}", f"Acct-Output-Gigawords = {octets // 2**32}"]
        return self._radclient(self.accounting, "acct", said, secret, seconds, times)

    def _radclient(self, port, command, lines, secret, seconds, times):
        done = subprocess.run(
            [
                *("radclient", "-x", "-r", "1", "-t", str(seconds), "-c", str(times)),
                f"127.0.0.1:{port}",
                command,
                secret,
            ],
            input=", ".join(lines) + "\n",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout + done.stderr

    def pot(self):
        user = self.biller.json("user", "show", "ana")
        return user["data_balance"], user["data_held"]

    def sessions(self):
        with self.engine.connect() as tx:
            return [session_records.session_from_row(row) for row in tx.execute(sa.select(tables.data_session))]

    def stop(self):
        self.biller.stop()
        self.engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def radio(request, tmp_path):
    assert shutil.which("radclient")
    url = request.getfixturevalue("cluster").database() if request.param == "postgresql" else ""
    made = Radio(tmp_path / "biller", url)
    yield made
    made.stop()


def test_radclient_is_let_in_or_refused(radio):
    me = ('User-Name = "ana"', 'User-Password = "correct horse"')
    assert "There is no data credit left" in radio.ask(*me)
    radio.give(5_000_000_000)
    answer = radio.ask(*me)
    assert "Received Access-Accept" in answer
    assert "Session-Timeout = 86400" in answer
    assert "Acct-Interim-Interval = 300" in answer
    assert f"Mikrotik-Total-Limit = {5_000_000_000 - 2**32}" in answer
    assert "Mikrotik-Total-Limit-Gigawords = 1" in answer
    for name, password in (("ana", "wrong"), ("nobody", "correct horse")):
        answer = radio.ask(f'User-Name = "{name}"', f'User-Password = "{password}"')
        assert "Received Access-Reject" in answer
        assert 'Reply-Message = "Wrong user name or password"' in answer
    assert "Only passwords (PAP)" in radio.ask('User-Name = "ana"', 'CHAP-Password = "correct horse"')
    assert "No reply from server" in radio.ask(*me, secret="another", seconds=0.5)
    assert "it was made with another secret, or changed on its way" in radio.biller.log
    assert "Traceback" not in radio.biller.log


def test_radclients_session_is_charged_once_to_the_octet(radio):
    used = 2 * 2**32 + 99
    radio.give(used + 1)
    assert "Received Accounting-Response" in radio.tell("Start")
    assert radio.pot() == (used + 1, 10_000_000)
    radio.tell("Interim-Update", 2**32 + 7, times=3)
    assert radio.pot() == (used + 1 - 2**32 - 7, 10_000_000)
    radio.tell("Interim-Update", 12)
    assert "No reply from server" in radio.tell("Stop", 2**40, secret="another", seconds=0.5)
    radio.tell("Stop", used, "Acct-Terminate-Cause = User-Request", times=3)
    radio.tell("Interim-Update", used)
    assert radio.pot() == (1, 0)
    (session,) = radio.sessions()
    assert (session.charged, session.cause) == (used, "User-Request")
    lines = [line["value"] for line in radio.biller.json("statement", "ana") if line["origin"] == "data"]
    assert (len(lines), sum(lines)) == (2, -used)
    radio.tell("Start", session_id="B2")
    radio.tell("Accounting-On")
    assert radio.pot() == (1, 0)
    assert radio.biller.json("audit")["ok"]
    assert "Traceback" not in radio.biller.log


def test_radclient_uses_an_id_again(radio):
    """A NAS that lost its power, one that names its user otherwise, and a GGSN that names none."""
    now = int(time.time())
    radio.give(10**9)
    for status, octets, *more in (
        ("Start", None, f"Event-Timestamp = {now - 600}"),
        ("Interim-Update", 500_000_000),
        ("Start", None, f"Event-Timestamp = {now - 100}"),
        ("Interim-Update", 200_000_000),
        ("Stop", 400_000_000),
    ):
        assert "Received Accounting-Response" in radio.tell(status, octets, *more)
    assert radio.pot() == (100_000_000, 0)
    radio.tell("Interim-Update", 1000, session_id="B2", username="ana@isp.example")
    radio.tell("Stop", 3000, session_id="B2")
    radio.tell("Stop", 70, 'Calling-Station-Id = "+1002"', session_id="C3", username="")
    radio.tell("Stop", 7, '3GPP-IMSI = "724000000001002"', "Acct-Delay-Time = 5", session_id="D4", username="")
    assert radio.pot() == (100_000_000 - 3077, 0)
    assert len(radio.sessions()) == 5
    assert radio.biller.json("audit")["ok"]
    assert "Traceback" not in radio.biller.log


@pytest.mark.parametrize("kills_least", [3, pytest.param(40, marks=pytest.mark.nightly)])
def test_a_biller_killed_between_reports_charges_octets_once(radio, kills_least):
    """A NAS tells on and repeats what is not acknowledged; the biller is killed at any moment, again and again."""
    radio.give(10**9)
    over = threading.Event()
    acknowledged = dict.fromkeys("ABC", 0)
    last = dict.fromkeys("ABC", 0)

    def tell(name):
        rng = random.Random(name)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
            mine.settimeout(0.25)
            while not over.is_set():
                last[name] += rng.randrange(1, 5000)
                packet = report("Interim-Update", name, octets=last[name])
                datagram = packet.RequestPacket()
                while True:  # the last one too is told until it is acknowledged
                    mine.sendto(datagram, ("127.0.0.1", radio.accounting))
                    try:
                        answer = mine.recv(4096)
                    except TimeoutError:
                        continue
                    if answer[1] == datagram[1]:
                        break
                acknowledged[name] = last[name]

    threads = [threading.Thread(target=tell, args=(name,)) for name in acknowledged]
    for each in threads:
        each.start()
    kills = 0
    untouched = set(acknowledged)
    gives_up_at = time.monotonic() + SECONDS_MOST
    try:
        while untouched or kills < kills_least:
            assert time.monotonic() < gives_up_at or kills < kills_least, f"no kill fell on a report of {untouched}"
            seen = dict(acknowledged)
            until(lambda seen=seen: all(acknowledged[name] > seen[name] for name in seen), "all are acknowledged again")
            threading.Event().wait(random.uniform(0, 0.2))
            seen = dict(acknowledged)
            radio.biller.kill9()
            untouched -= {name for name in last if last[name] > acknowledged[name]}
            kills += 1
            known = {each.session_id: each.charged for each in radio.sessions()}
            assert all(known.get(name, 0) >= octets for name, octets in seen.items())
            radio.biller.start()
    finally:
        over.set()
        for each in threads:
            each.join(30)
    assert not any(each.is_alive() for each in threads)
    assert {each.session_id: each.charged for each in radio.sessions()} == last
    assert min(last.values()) > 0
    assert radio.pot()[0] == 10**9 - sum(last.values())
    assert radio.biller.json("audit")["ok"]
