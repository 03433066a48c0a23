"""A subscriber asks his balance from a real phone, and hears it in Asterisk's own voice."""

import contextlib
import re
import socket

import pytest

from tests.system.lab.sip_phones import caller
from tests.system.lab.waiting import free_ports, until

PACKETS_A_SECOND = 50


class Ear:
    """A phone's media port: keeps what is sent to it."""

    def __init__(self):
        self.port = free_ports(1, socket.SOCK_DGRAM)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", self.port))
        self._socket.setblocking(False)

    def packets(self):
        """Give how many packets of ulaw have come."""
        count = 0
        while True:
            try:
                packet = self._socket.recv(2048)
            except BlockingIOError:
                return count
            count += packet[0] == 0x80 and packet[1] & 0x7F == 0

    def digits(self):
        """Give the events of digits (RFC 4733) that have come, by their timestamps."""
        found = set()
        with contextlib.suppress(BlockingIOError):
            while packet := self._socket.recv(2048):
                if packet[1] & 0x7F == 101:
                    found.add(packet[4:8])
        return found

    def close(self):
        self._socket.close()


@pytest.fixture
def ear():
    made = Ear()
    yield made
    made.close()


def played(pbx):
    return re.findall(r"Playing '([^']+)\.gsm'", pbx.log)


def dial(pbx, tmp_path, ear, number):
    return caller(
        tmp_path / f"caller{number}",
        "listens",
        number=str(number),
        dials="*100",
        sip_port=pbx.sip_port,
        media_port=ear.port,
    )


def nothing_was_charged(biller, *numbers, credit):
    for number in numbers:
        assert biller.calls_of(number) == []
        biller.check_books(number, credit=credit, cost=0)


def test_the_short_code_says_the_balance_free(biller, pbx, tmp_path, ear):
    biller.prepare({1000: 125}).start()
    dial(pbx, tmp_path, ear, 1000).finish()
    assert played(pbx) == ["vm-youhave", "digits/2", "minutes", "digits/5", "seconds"]
    assert ear.packets() >= 2 * PACKETS_A_SECOND
    nothing_was_charged(biller, 1000, credit=125)


def test_sms_credit_of_its_own_is_said_after(biller, pbx, tmp_path, ear):
    biller.prepare({1000: 125})
    with (biller.folder / "celcombiller.toml").open("a") as settings:
        settings.write('[sms]\naccount = "sms"\n')
    biller.run("credit", "user1000", 3, "--kind", "sms")
    biller.start()
    dial(pbx, tmp_path, ear, 1000).finish()
    said = ["vm-youhave", "digits/2", "minutes", "digits/5", "seconds", "vm-and", "digits/3", "vm-messages"]
    assert played(pbx) == said
    nothing_was_charged(biller, 1000, credit=125)


def test_a_long_balance_is_said_to_its_end(biller, pbx, tmp_path, ear):
    biller.agi = {"idle_seconds": 1}
    biller.prepare({1000: 77_777 * 60 + 47}).start()
    dial(pbx, tmp_path, ear, 1000).finish()
    assert played(pbx)[-3:] == ["digits/40", "digits/7", "seconds"]
    assert "dropped" not in biller.log
    nothing_was_charged(biller, 1000, credit=77_777 * 60 + 47)


def test_missing_sounds_and_long_numbers_are_survived(biller, pbx, tmp_path, ear):
    biller.prepare({1000: 98_765_432_101_05}).run("check-config")
    with (biller.folder / "celcombiller.toml").open("a") as settings:
        settings.write('[balance]\nsay = "number"\nscale = 2\nintro = "no-such-sound"\n')
    biller.start()
    dial(pbx, tmp_path, ear, 1000).finish()
    digits = [f"digits/{digit}" for digit in "98765432101"]
    assert played(pbx) == [*digits, "letters/dot", "digits/0", "digits/5"]
    assert "A balance was told without STREAM FILE no-such-sound" in biller.log
    nothing_was_charged(biller, 1000, credit=98_765_432_101_05)


def test_a_hangup_while_speaking_leaves_no_trace(biller, pbx, tmp_path):
    biller.prepare({1000: 125}).start()
    caller(tmp_path / "caller", "hangs_up", number="1000", dials="*100", sip_port=pbx.sip_port, talk=0.5).finish()
    until(lambda: pbx.channels() == 0, "the channel is gone")
    assert "was told without" not in biller.log
    nothing_was_charged(biller, 1000, credit=125)


def test_strangers_and_outages_are_refused(biller, pbx, tmp_path):
    biller.prepare({1000: 125}).start()
    stranger = caller(tmp_path / "stranger", "refused", number="1002", dials="*100", sip_port=pbx.sip_port)
    stranger.finish()
    assert stranger.answers[-1] == 403
    biller.stop()
    phone = caller(tmp_path / "away", "refused", number="1000", dials="*100", sip_port=pbx.sip_port)
    phone.finish()
    assert phone.answers[-1] == 503
    assert played(pbx) == []
