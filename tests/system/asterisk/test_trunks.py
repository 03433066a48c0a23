"""Trunks on a real Asterisk: from one that fails to the next, and limits; all of it takes about half a minute."""

import pytest

from tests.system.lab.sip_phones import callee, caller
from tests.system.lab.waiting import until

CREDIT = 60
NUMBER = "5511999"


@pytest.fixture
def trunks(biller, pbx, tmp_path):
    """Begin with these trunks in one route: each a number of a phone, or a word that is no endpoint."""

    def begin(*places, credit=CREDIT, callers=(1000,), options=()):
        biller.prepare(dict.fromkeys(callers, credit))
        for each in places:
            biller.run("trunk", "add", f"t{each}", f"PJSIP/{{number}}@{each}", *options)
        biller.run("route", "add", "55", *(f"t{each}" for each in places))
        return biller.start()

    return begin


def answering(pbx, tmp_path, number, does="waits", **how):
    return callee(tmp_path / f"callee{number}", does, port=pbx.port_of(number), **how)


def calling(pbx, tmp_path, does="hangs_up", *, number=1000, **how):
    return caller(tmp_path / f"caller{number}", does, number=str(number), dials=NUMBER, sip_port=pbx.sip_port, **how)


def check(biller, *, cost, trunk, tried, credit=CREDIT):
    call = biller.closed_call(1000)
    assert (call["cost"] or 0, call["trunk"], call["trunks_tried"]) == (cost, trunk, tried), call
    biller.check_books(1000, credit=credit, cost=cost)
    return call


@pytest.mark.parametrize("with_ami", [True, False])
def test_congestion_and_no_way_go_on(trunks, biller, pbx, tmp_path, with_ami):
    if not with_ami:
        biller.ami_port = biller.pbx = None
    trunks("2001", "nowhere", "2002", options=("--caller-id", "+55{number}"))
    first, third = answering(pbx, tmp_path, "2001", "congested"), answering(pbx, tmp_path, "2002")
    phone = calling(pbx, tmp_path, talk=1.3)
    for each in (phone, first, third):
        each.finish()
    check(biller, cost=2, trunk="t2002", tried=["t2001", "tnowhere"])
    assert "<sip:+551000@" in third.messages  # the caller as the provider gets them


def test_a_busy_callee_is_tried_once(trunks, biller, pbx, tmp_path):
    trunks("2001", "2002")
    other, phone = answering(pbx, tmp_path, "2001", "busy"), calling(pbx, tmp_path, "refused")
    for each in (phone, other):
        each.finish()
    check(biller, cost=0, trunk="t2001", tried=[])


def test_when_every_trunk_fails_the_caller_is_told(trunks, biller, pbx, tmp_path):
    trunks("2001", "nowhere")
    other, phone = answering(pbx, tmp_path, "2001", "congested"), calling(pbx, tmp_path, "refused")
    for each in (phone, other):
        each.finish()
    check(biller, cost=0, trunk="tnowhere", tried=["t2001"])


def test_all_trunks_ring_no_longer_than_one(trunks, biller, pbx, tmp_path):
    trunks("2001", "2002")  # the lab's phones ring for 5 s
    first = answering(pbx, tmp_path, "2001", "congested", ring=3)
    second = answering(pbx, tmp_path, "2002", "never_answers")
    phone = calling(pbx, tmp_path, "refused")
    for each in (phone, first):
        each.finish()
    second.stop()
    call = check(biller, cost=0, trunk="t2002", tried=["t2001"])
    assert "NOANSWER" in call["outcome"]
    assert f"PJSIP/{NUMBER}@2002,1," in pbx.log or f"PJSIP/{NUMBER}@2002,2," in pbx.log


def test_a_caller_who_leaves_ends_the_trying(trunks, biller, pbx, tmp_path):
    trunks("2001", "2002", "2003")
    first, second = answering(pbx, tmp_path, "2001", "congested"), answering(pbx, tmp_path, "2002", "never_answers")
    phone = calling(pbx, tmp_path, "cancels")
    for each in (phone, first, second):
        each.finish()
    check(biller, cost=0, trunk="t2002", tried=["t2001"])


def test_the_limit_holds_after_a_failover(trunks, biller, pbx, tmp_path):
    trunks("2001", "2002", credit=3)
    first, second = answering(pbx, tmp_path, "2001", "congested"), answering(pbx, tmp_path, "2002", talk=20)
    phone = calling(pbx, tmp_path, "waits", talk=20)
    phone.until_answered()
    until(lambda: pbx.channels() == 0, "the call is cut")
    call = check(biller, cost=3, trunk="t2002", tried=["t2001"], credit=3)
    assert 2900 <= call["talk_ms"] <= 3400
    for each in (phone, first, second):
        each.stop()


def test_a_full_trunk_refuses_a_second_call(trunks, biller, pbx, tmp_path):
    trunks("2001", callers=(1000, 1001), options=("--calls-max", 1))
    other = answering(pbx, tmp_path, "2001", talk=20)
    first = calling(pbx, tmp_path, "waits", talk=20)
    first.until_answered()
    calling(pbx, tmp_path, "refused", number=1001).finish()
    assert biller.calls_of(1001) == []
    assert "NO_TRUNK" in biller.log
    for each in (first, other):
        each.stop()
