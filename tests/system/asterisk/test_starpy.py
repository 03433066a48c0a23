"""Calls through starpy's FastAGI and AMI on a real Asterisk; skipped where starpy is not installed."""

from importlib.util import find_spec

import pytest

from tests.system.asterisk.test_calls import CREDIT, begin, place_call
from tests.system.lab.sip_phones import caller
from tests.system.lab.waiting import until

pytestmark = pytest.mark.skipif(find_spec("starpy") is None, reason="starpy is not on PyPI: install it by hand")


@pytest.fixture
def starpy_biller(biller):
    biller.agi["library"] = "starpy"
    return biller


@pytest.mark.parametrize(("does", "answers"), [("hangs_up", "waits"), ("waits", "hangs_up")])
def test_a_call_is_charged_through_starpy(starpy_biller, pbx, tmp_path, does, answers):
    biller = begin(starpy_biller, 1000, 2001)
    for phone in place_call(pbx, tmp_path, does, answers):
        phone.finish()
    call = biller.closed_call(1000)
    assert (call["state"], call["witness"], call["cost"]) == ("settled", "agi", 2)
    assert pbx.notes() == ""
    biller.check_books(1000, credit=CREDIT, cost=2)


def test_starpy_limits_a_call_to_the_balance(starpy_biller, pbx, tmp_path):
    biller = begin(starpy_biller, 1000, 2001, credit=2)
    for phone in place_call(pbx, tmp_path, "waits", "waits", talk=20):
        phone.finish()
    assert 2000 - 1 <= biller.closed_call(1000)["talk_ms"] <= 3000
    biller.check_books(1000, credit=2, cost=2)


@pytest.mark.parametrize(("does", "answers"), [("cancels", "never_answers"), ("refused", "busy")])
def test_an_unanswered_call_through_starpy_is_free(starpy_biller, pbx, tmp_path, does, answers):
    biller = begin(starpy_biller, 1000, 2001)
    for phone in place_call(pbx, tmp_path, does, answers):
        phone.finish()
    assert biller.closed_call(1000)["state"] == "released"
    biller.check_books(1000, credit=CREDIT, cost=0)


def test_a_refusal_through_starpy_reaches_the_caller(starpy_biller, pbx, tmp_path):
    biller = begin(starpy_biller, 1000, 2001, credit=0)
    phone = caller(tmp_path / "caller", "refused", number="1000", dials="2001", sip_port=pbx.sip_port)
    phone.finish()
    assert 403 in phone.answers
    until(lambda: "NO_CREDIT, " in biller.log, "the refusal is logged")
    biller.check_books(1000, credit=0, cost=0)


def test_starpys_ami_settles_a_call_after_a_kill(starpy_biller, pbx, tmp_path):
    """The biller is killed in mid-call, and its successor sees by AMI that the call goes on, and then its end."""
    biller = begin(starpy_biller, 1300, 2001)
    phone, other = place_call(pbx, tmp_path, "hangs_up", number=1300, talk=4)
    phone.until_answered()
    biller.kill9()
    biller.start()
    for each in (phone, other):
        each.finish()
    assert biller.closed_call(1300)["cost"] in (4, 5)
