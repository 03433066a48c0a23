"""The limit of a call holds after each way in which it can move; each test takes about ten seconds."""

import re
import socket
import time

from tests.system.lab.asterisk import SECRET
from tests.system.lab.sip_phones import callee, caller
from tests.system.lab.waiting import until

GRANT = 5


def _begin(biller, *numbers):
    return biller.prepare({number: GRANT if number < 2000 else 0 for number in numbers}).start()


def _caller(pbx, tmp_path, does="waits", *, dials="2003", talk=20.0):
    return caller(tmp_path / "caller", does, number="1000", dials=dials, sip_port=pbx.sip_port, talk=talk)


def _check(biller, *, most_ms=GRANT * 1000 + 400):
    call = biller.closed_call(1000)
    assert GRANT * 1000 - 100 <= call["talk_ms"] <= most_ms, call
    biller.check_books(1000, credit=GRANT, cost=GRANT)


def test_a_transferred_caller_keeps_the_limit(biller, pbx, tmp_path):
    _begin(biller, 1000, 2003, 2004)
    target = callee(tmp_path / "target", "waits", port=pbx.port_of("2004"), talk=20)
    other = callee(tmp_path / "callee", "refers", port=pbx.port_of("2003"), talk=1.8, refer_to="7001")
    phone = _caller(pbx, tmp_path)
    phone.until_answered()
    until(lambda: pbx.channels() == 0, "the call is cut")
    _check(biller)
    for each in (phone, target, other):
        each.stop()


def test_a_call_that_rings_two_phones_is_cut(biller, pbx, tmp_path):
    biller.calls["internal_dial"] = "PJSIP/{clid}&PJSIP/2004"
    _begin(biller, 1000, 2003, 2004)
    loser = callee(tmp_path / "loser", "never_answers", port=pbx.port_of("2004"))
    other = callee(tmp_path / "callee", "waits", port=pbx.port_of("2003"), talk=20, ring=1.5)
    phone = _caller(pbx, tmp_path)
    phone.until_answered()
    until(lambda: pbx.channels() == 0, "the call is cut")
    _check(biller)
    for each in (phone, loser, other):
        each.stop()


def test_a_transfer_by_dtmf_dials_the_whole_number(biller, pbx, tmp_path):
    biller.calls["dial_options"] = "giT"
    biller.prepare({1000: 60, 2001: 0, 2002: 0}).start()
    other = callee(tmp_path / "callee", "waits", port=pbx.port_of("2001"), talk=20)
    phone = _caller(pbx, tmp_path, dials="2001")
    phone.until_answered()
    (channel,) = re.findall(r"^PJSIP/1000-[0-9a-f]+", pbx.cli("core show channels concise"), re.MULTILINE)
    with socket.create_connection(("127.0.0.1", pbx.ami_port)) as manager:
        for action in (
            {"Action": "Login", "Username": "celcombiller", "Secret": SECRET, "Events": "off"},
            *(
                {"Action": "PlayDTMF", "Channel": channel, "Digit": digit, "Receive": "true", "Duration": 100}
                for digit in "#2002"
            ),
        ):
            manager.sendall("".join(f"{key}: {value}\r\n" for key, value in action.items()).encode() + b"\r\n")
            time.sleep(0.5)  # a digit as fingers dial it
        dialled = re.compile(r"Executing \[(\d+)@celcombiller-call:1\]")
        until(lambda: len(dialled.findall(pbx.log)) == 2, "the transfer is dialled")
    assert dialled.findall(pbx.log) == ["2001", "2002"]
    for each in (phone, other):
        each.stop()
