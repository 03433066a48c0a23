"""A biller that stands still (SIGSTOP): calls go by it, and none is charged for the time. About fifteen seconds each."""

import os
import signal
import time

from tests.system.lab.biller import Biller
from tests.system.lab.sip_phones import callee, caller
from tests.system.lab.waiting import free_ports, until

CREDIT = 60
STANDS_SECONDS = 6


def _signal(biller, number):
    os.kill(biller._process.pid, number)


def test_a_standstill_is_not_charged(biller, pbx, tmp_path):
    biller.prepare({1000: CREDIT, 2003: 0}).start()
    other = callee(tmp_path / "callee", "refers", port=pbx.port_of("2003"), talk=1)
    phone = caller(tmp_path / "caller", "hangs_up", number="1000", dials="2003", sip_port=pbx.sip_port, talk=2)
    phone.until_answered()
    _signal(biller, signal.SIGSTOP)
    try:
        phone.finish()
        time.sleep(STANDS_SECONDS)
    finally:
        _signal(biller, signal.SIGCONT)
    other.stop()
    call = biller.closed_call(1000)
    assert 900 <= call["talk_ms"] <= 2900, call
    biller.check_books(1000, credit=CREDIT, cost=call["cost"])


def test_a_second_biller_takes_over_from_a_standstill(biller, pbx, tmp_path):
    second = Biller(tmp_path / "second", agi_port=free_ports(1), pbx=pbx)
    pbx.ask(biller.agi_port, second.agi_port)
    biller.prepare({1000: CREDIT, 2001: 0}).start()
    second.prepare({1000: CREDIT, 2001: 0}).start()
    try:
        until(lambda: "CELCOMBILLER_ALIVE=1" in pbx.cli("dialplan show globals"), "the first gives a sign")
        _signal(biller, signal.SIGSTOP)
        time.sleep(STANDS_SECONDS + 1)
        other = callee(tmp_path / "callee", "waits", port=pbx.port_of("2001"))
        phone = caller(tmp_path / "caller", "hangs_up", number="1000", dials="2001", sip_port=pbx.sip_port, talk=1.3)
        phone.finish(seconds=20)
        other.finish()
        assert second.closed_call(1000)["cost"] == 2
    finally:
        _signal(biller, signal.SIGCONT)
        second.stop()


def test_a_first_biller_without_ami_is_still_asked(biller, pbx, tmp_path):
    biller.secret = "wrong"
    pbx.ask(biller.agi_port, free_ports(1))
    biller.prepare({1000: CREDIT, 2001: 0}).start()
    pbx.cli("dialplan set global CELCOMBILLER_ALIVE 1")
    other = callee(tmp_path / "callee", "waits", port=pbx.port_of("2001"))
    phone = caller(tmp_path / "caller", "hangs_up", number="1000", dials="2001", sip_port=pbx.sip_port, talk=1.3)
    phone.finish()
    other.finish()
    assert biller.closed_call(1000)["cost"] == 2
