"""Two Asterisk servers of one systemname on one machine, and one biller; about fifteen seconds."""

import json

import pytest

from tests.system.lab.asterisk import SECRET, Asterisk
from tests.system.lab.sip_phones import callee, caller
from tests.system.lab.waiting import until

CREDIT = 60


@pytest.fixture
def other_pbx(pbx):
    made = Asterisk()
    made.begin()
    made.ask(pbx.agi_port)
    yield made
    made.remove()


def _call(pbx, tmp_path, number, called, *, talk):
    other = callee(tmp_path / f"callee{number}", "waits", port=pbx.port_of(called))
    phone = caller(
        tmp_path / f"caller{number}", "hangs_up", number=str(number), dials=called, sip_port=pbx.sip_port, talk=talk
    )
    return phone, other


def test_servers_of_one_name_are_charged_apart(biller, pbx, other_pbx, tmp_path):
    facts = {"name": "pbx2", "host": "127.0.0.1", "port": other_pbx.ami_port}
    facts |= {"username": "celcombiller", "secret": SECRET}
    biller.more += ["[[asterisk]]", *(f"{key} = {json.dumps(value)}" for key, value in facts.items())]
    biller.prepare({1200: CREDIT, 1201: CREDIT, 2001: 0, 2002: 0}).start()
    until(lambda: "AMI of pbx2 is connected" in biller.log, "both links are up")
    phones = (*_call(pbx, tmp_path, 1200, "2001", talk=8), *_call(other_pbx, tmp_path, 1201, "2002", talk=8))
    for phone in phones[::2]:
        phone.until_answered()
    until(lambda: all(biller.calls_of(number)[0]["answered_at"] for number in (1200, 1201)), "both are answered")
    assert {biller.calls_of(number)[0]["server"] for number in (1200, 1201)} == {"pbx1", "pbx2"}
    biller.kill9()
    biller.start()
    for phone in phones:
        phone.finish()
    for number in (1200, 1201):
        call = biller.closed_call(number)
        assert (call["state"], call["cost"] in (8, 9)) == ("settled", True), call
        biller.check_books(number, credit=CREDIT, cost=call["cost"])
