"""Calls that are renewed slice by slice on a real Asterisk. Each test takes as long as its call: 5 to 15 s."""

import contextlib
import json
import re
import socket
import subprocess
import threading
import time
import urllib.request

import pytest

from tests.system.asterisk.messages.test_balance import Ear
from tests.system.lab.sip_phones import callee, caller
from tests.system.lab.waiting import free_ports, until

SLICE = 4


@pytest.fixture
def sliced(biller):
    biller.calls["slice_seconds"] = SLICE
    return biller


@pytest.fixture
def phones(pbx, tmp_path):
    """Make a phone that answers 2003 or 2004, and one that calls it."""
    made = []

    def call(number, dials="2003", *, talk=60.0):
        made.append(callee(tmp_path / f"callee{dials}", "waits", port=pbx.port_of(dials), talk=talk))
        made.append(
            caller(
                tmp_path / f"caller{number}-{dials}",
                "waits",
                number=str(number),
                dials=dials,
                sip_port=pbx.sip_port,
                talk=talk,
            )
        )
        made[-1].until_answered()
        return made[-1]

    yield call
    for each in made:
        each.stop()


class Cable:
    """The AMI connection of a biller, which can be pulled out."""

    def __init__(self, port):
        self.port, self._to, self._pulled = free_ports(1), port, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._ends = []
        threading.Thread(target=self._accept, daemon=True).start()

    def pull(self):
        self._pulled.set()
        for each in self._ends:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def plug(self):
        self._pulled.clear()

    def close(self):
        self.pull()
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                if self._pulled.is_set():
                    here.close()
                    continue
                there = socket.create_connection(("127.0.0.1", self._to))
                self._ends = [here, there]
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    @staticmethod
    def _carry(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def cable(sliced, pbx):
    made = Cable(pbx.ami_port)
    sliced.ami_port = made.port
    yield made
    made.close()


def until_cut(pbx):
    until(lambda: pbx.channels() == 0, "the calls are over", every=0.02)


def check_cut(biller, credit, number=1000):
    """It was cut within one second after the last paid second, and not before it."""
    call = biller.closed_call(number)
    assert credit * 1000 <= call["talk_ms"] < credit * 1000 + 1000, call
    biller.check_books(number, credit=credit, cost=credit)
    return call


def test_calls_of_several_slices_end_in_time(sliced, pbx, phones):
    """12 s."""
    sliced.prepare({1000: 11, 2003: 0}).start()
    phones(1000)
    until_cut(pbx)
    check_cut(sliced, 11)
    assert "beyond its grant" not in sliced.log


def test_a_top_up_lengthens_a_live_call(biller_on_each, pbx, phones):
    """10 s on each database: the credit comes 1 s before the end."""
    biller_on_each.calls["slice_seconds"] = SLICE
    biller_on_each.prepare({1000: 6, 2003: 0}).start()
    phones(1000)
    time.sleep(4.8)
    biller_on_each.run("credit", "user1000", 3)
    until_cut(pbx)
    check_cut(biller_on_each, 9)


def test_a_call_without_slices_is_lengthened_too(biller, pbx, phones):
    """8 s: the shipped slice is longer than what its credit pays for."""
    biller.prepare({1000: 5, 2003: 0}).start()
    phones(1000)
    time.sleep(1)
    biller.run("credit", "user1000", 3)
    until_cut(pbx)
    check_cut(biller, 8)


def test_disabling_a_subscriber_ends_their_call(sliced, pbx, phones):
    """4 s. A renewal is not what ends it: there is none before its last second."""
    sliced.calls["slice_seconds"] = 60
    sliced.prepare({1000: 60, 2003: 0}).start()
    phones(1000)
    time.sleep(1)
    sliced.run("user", "disable", "user1000")
    until_cut(pbx)
    call = sliced.closed_call(1000)
    assert (call["state"], call["talk_ms"] < 30_000) == ("settled", True)


def test_an_operator_hangs_up_a_call(sliced, pbx, phones):
    """3 s."""
    sliced.prepare({1000: 60, 2003: 0}).start()
    phones(1000)
    (live,) = sliced.json("live")
    said = sliced.run("hangup", live["id"], "--reason", "it was stolen")
    assert "Hung up call" in said
    until_cut(pbx)
    assert sliced.closed_call(1000)["outcome"].startswith("ANSWER")


def test_two_calls_share_what_is_left(sliced, pbx, phones):
    """9 s: the second call begins 2 s after the first, and both end when the 14 credits are used."""
    sliced.calls["slice_seconds"] = 60
    sliced.prepare({1000: 14, 2003: 0, 2004: 0}).start()
    phones(1000)
    began = time.monotonic()
    time.sleep(2)
    phones(1000, "2004")
    until(lambda: pbx.channels() == 2, "one call is over", every=0.02)
    first = time.monotonic() - began
    until_cut(pbx)
    second = time.monotonic() - began
    until(lambda: all(each["state"] == "settled" for each in sliced.calls_of(1000)), "both are charged")
    calls = sliced.calls_of(1000)
    assert sum(each["cost"] for each in calls) == 14
    assert all(each["talk_ms"] < (each["cost"] + 1) * 1000 for each in calls)
    assert second - first < 3
    assert (sliced.user(1000)["voice_balance"], sliced.user(1000)["voice_held"]) == (0, 0)
    assert sliced.json("audit")["ok"]


def test_without_billers_calls_end_at_their_slice(sliced, pbx, phones):
    """6 s."""
    sliced.prepare({1000: 60, 2003: 0}).start()
    phones(1000)
    time.sleep(1)
    sliced.kill9()
    until_cut(pbx)
    sliced.start()
    call = sliced.closed_call(1000)
    assert call["talk_ms"] <= (SLICE + 2) * 1000
    assert -(-call["talk_ms"] // 1000) - 1 <= call["cost"] <= SLICE + 2
    assert sliced.json("audit")["ok"]


def test_calls_without_link_end_at_their_slice(cable, sliced, pbx, phones):
    """6 s."""
    sliced.prepare({1000: 60, 2003: 0}).start()
    phones(1000)
    time.sleep(1)
    cable.pull()
    until_cut(pbx)
    call = sliced.closed_call(1000)
    assert SLICE / 2 * 1000 <= call["talk_ms"] < (SLICE + 3) * 1000
    assert call["talk_ms"] < (call["cost"] + 1) * 1000
    assert sliced.json("audit")["ok"]


def test_a_link_that_comes_back_renews_calls(cable, sliced, pbx, phones):
    """12 s."""
    sliced.calls["slice_seconds"] = 10
    sliced.prepare({1000: 12, 2003: 0}).start()
    phones(1000)
    time.sleep(0.5)
    cable.pull()
    until(lambda: "is lost" in sliced.log, "the link is lost")
    cable.plug()
    until_cut(pbx)
    check_cut(sliced, 12)


def test_a_caller_hears_that_the_credit_ends(sliced, pbx, phones, tmp_path):
    """6 s: two tones, as digits of RFC 4733, to the caller alone."""
    ear = Ear()
    sliced.calls |= {"slice_seconds": 60, "warning_seconds": [4, 2]}
    sliced.prepare({1000: 6, 2003: 0}).start()
    other = callee(tmp_path / "callee", "waits", port=pbx.port_of("2003"), talk=30)
    phone = caller(
        tmp_path / "caller", "listens", number="1000", dials="2003", sip_port=pbx.sip_port, media_port=ear.port
    )
    phone.until_answered()
    until_cut(pbx)
    assert len(ear.digits()) == 2
    check_cut(sliced, 6)
    for each in (phone, other, ear):
        each.stop() if each is not ear else each.close()


def test_a_caller_hears_a_sound_of_choice(sliced, pbx, phones):
    """6 s: the whisper ends with the call."""
    sliced.calls |= {"slice_seconds": 60, "warning_seconds": [3], "warning_sound": "vm-youhave"}
    sliced.ami_user = "whispering"
    sliced.prepare({1000: 5, 2003: 0}).start()
    phones(1000)
    until(lambda: re.search(r"Spying on channel PJSIP/1000", pbx.log), "it is whispered", seconds=10)
    assert "Playing 'vm-youhave.gsm'" in pbx.log
    until_cut(pbx)
    check_cut(sliced, 5)


def test_a_biller_that_is_started_again_renews(sliced, pbx, phones):
    """11 s."""
    sliced.calls["slice_seconds"] = 8
    sliced.prepare({1000: 11, 2003: 0}).start()
    phones(1000)
    time.sleep(1)
    sliced.kill9()
    sliced.start()
    until_cut(pbx)
    check_cut(sliced, 11)


def test_readyz_says_why_calls_get_no_slices(sliced, pbx, phones):
    """3 s."""
    sliced.secret = "wrong"
    sliced.prepare({1000: 60, 2003: 0}).start()
    phones(1000)
    with urllib.request.urlopen(f"http://127.0.0.1:{sliced.rest_port}/readyz") as ready:
        assert b'"without_slices":{"pbx1":"its AMI link is down"}' in ready.read()
    assert sliced.log.count("Calls of pbx1 get no slices: its AMI link is down") == 1
    assert sliced.user(1000)["voice_held"] == 60


def test_the_api_hangs_up_and_streams_events(sliced, pbx, phones, tmp_path):
    """5 s: the call ends within a second of the request, and is charged for its talk."""
    sliced.prepare({1000: 60, 2003: 0}).start()
    secret = sliced.run("token", "add", "t", "--user", "admin", "--scope", "write").split()[-1]
    base = f"http://127.0.0.1:{sliced.rest_port}/api/v1/live"
    header = ("-H", f"Authorization: Bearer {secret}")
    with (tmp_path / "events").open("wb") as file:
        stream = subprocess.Popen(["curl", "-sN", *header, f"{base}/events"], stdout=file)
    try:
        until(lambda: b"event: snapshot" in (tmp_path / "events").read_bytes(), "the stream has begun")
        phones(1000)
        time.sleep(2)
        (live,) = sliced.json("live")
        assert live["answered_at"] is not None
        assert live["cost"] == live["used_seconds"] >= 2
        asked = [*("curl", "-s", "-X", "DELETE"), *header, f"{base}/{live['id']}?reason=stolen"]
        said = json.loads(subprocess.run(asked, stdout=subprocess.PIPE, check=True).stdout)
        assert (said["result"], said["reason"]) == ("done", "stolen")
        until_cut(pbx)
        call = sliced.closed_call(1000)
        sliced.check_books(1000, credit=60, cost=-(-call["talk_ms"] // 1000))
        until(lambda: b"event: end" in (tmp_path / "events").read_bytes(), "the end is told")
        kinds = re.findall(rb"event: (\w+)", (tmp_path / "events").read_bytes())
        assert [each for each in kinds if each != b"grant"] == [b"snapshot", b"begin", b"answer", b"end"]
    finally:
        stream.kill()
        stream.wait()
