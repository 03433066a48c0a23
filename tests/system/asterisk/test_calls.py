"""One prepaid call after another on a real Asterisk with real SIP phones; after each, the books are proved."""

import contextlib
import re
import sqlite3
import time

import pytest

from tests.system.lab.sip_phones import callee, caller
from tests.system.lab.waiting import until

CREDIT = 60


def begin(biller, *numbers, credit=CREDIT):
    return biller.prepare({number: credit if number < 2000 else 0 for number in numbers}).start()


def place_call(pbx, tmp_path, does, answers="waits", *, number=1000, dials=2001, talk=1.3, **how):
    """Place one call and wait for both phones."""
    other = callee(tmp_path / f"callee{number}", answers, port=pbx.port_of(str(dials)), talk=talk, **how)
    phone = caller(
        tmp_path / f"caller{number}", does, number=str(number), dials=str(dials), sip_port=pbx.sip_port, talk=talk
    )
    return phone, other


def test_a_call_ended_by_caller_costs_started_seconds(biller_on_each, pbx, tmp_path):
    biller_on_each.as_program = True
    biller = begin(biller_on_each, 1000, 2001)
    phone, other = place_call(pbx, tmp_path, "hangs_up")
    phone.finish()
    other.finish()
    call = biller.closed_call(1000)
    assert (call["state"], call["witness"], call["from"], call["to"], call["cost"]) == (
        "settled",
        "agi",
        "1000",
        "2001",
        2,
    )
    assert 1200 <= call["talk_ms"] <= 1900
    until(lambda: "Discrepancy" in biller.log or pbx.channels() == 0, "the channels are gone")
    biller.check_books(1000, credit=CREDIT, cost=2)


def test_a_call_ended_by_callee_costs_started_seconds(biller, pbx, tmp_path):
    begin(biller, 1000, 2001)
    for phone in place_call(pbx, tmp_path, "waits", "hangs_up"):
        phone.finish()
    call = biller.closed_call(1000)
    assert (call["state"], call["cost"]) == ("settled", 2)
    biller.check_books(1000, credit=CREDIT, cost=2)


def test_a_busy_callee_costs_nothing(biller_on_each, pbx, tmp_path):
    biller = begin(biller_on_each, 1000, 2001)
    for phone in place_call(pbx, tmp_path, "refused", "busy"):
        phone.finish()
    assert biller.closed_call(1000)["state"] == "released"
    biller.check_books(1000, credit=CREDIT, cost=0)


def test_a_callee_who_never_answers_costs_nothing(biller, pbx, tmp_path):
    begin(biller, 1000, 2001)
    for phone in place_call(pbx, tmp_path, "refused", "never_answers"):
        phone.finish()
    assert biller.closed_call(1000)["state"] == "released"
    biller.check_books(1000, credit=CREDIT, cost=0)


def test_an_unanswered_call_is_free(biller, pbx, tmp_path):
    begin(biller, 1000, 2001)
    phone, other = place_call(pbx, tmp_path, "cancels", "never_answers")
    phone.finish()
    other.finish()
    assert biller.closed_call(1000)["state"] == "released"
    biller.check_books(1000, credit=CREDIT, cost=0)


def test_without_credit_unknown_or_disabled_nobody_is_dialled(biller, pbx, tmp_path):
    begin(biller, 1000, 1001, 2001)
    biller.run("credit", "user1000", -CREDIT)
    biller.run("user", "disable", "user1001")
    for number in (1000, 1001, 1002):
        phone = caller(tmp_path / f"caller{number}", "refused", number=str(number), dials="2001", sip_port=pbx.sip_port)
        phone.finish()
        assert 403 in phone.answers
    assert biller.json("calls") == []
    for code in ("NO_CREDIT", "DISABLED", "UNKNOWN"):
        assert f"{code}, " in biller.log
    biller.check_books(1001, credit=CREDIT, cost=0)


def test_the_limit_cuts_when_the_balance_is_spent(biller_on_each, pbx, tmp_path):
    biller = begin(biller_on_each, 1000, 2001, credit=2)
    phone, other = place_call(pbx, tmp_path, "waits", "waits", talk=20)
    phone.finish()
    other.finish()
    call = biller.closed_call(1000)
    # Asterisk's limit fires when less than a whole millisecond is left (bridge_channel_handle_interval), and what it
    # says of the talk is in whole ones too.
    assert 2000 - 1 <= call["talk_ms"] <= 3000
    biller.check_books(1000, credit=2, cost=2)


def test_the_channel_ends_with_ringing_and_granted_talk(biller, pbx, tmp_path):
    begin(biller, 1000, 2001)
    phone, other = place_call(pbx, tmp_path, "hangs_up", ring=4)
    phone.until_rings()
    (channel,) = re.findall(r"^PJSIP/1000-[0-9a-f]+", pbx.cli("core show channels concise"), re.MULTILINE)
    shown = pbx.cli(f"core show channel {channel}")
    ends_at = int(re.search(r"Time to Hangup: (\d+)", shown)[1])
    assert ends_at - time.time() == pytest.approx(biller.calls["ring_seconds"] + CREDIT, abs=3), shown
    phone.finish()
    other.finish()


def test_two_calls_never_spend_the_same_credit(biller_on_each, pbx, tmp_path):
    biller_on_each.calls["slice_seconds"] = 0  # or the first would leave the second a part
    biller = begin(biller_on_each, 1000, 2001, 2002, credit=3)
    first, other = place_call(pbx, tmp_path, "hangs_up", talk=1.5)
    first.until_answered()
    second = caller(tmp_path / "second", "refused", number="1000", dials="2002", sip_port=pbx.sip_port)
    second.finish()
    first.finish()
    other.finish()
    assert "NO_CREDIT" in biller.log
    biller.closed_call(1000)
    biller.check_books(1000, credit=3, cost=2)


def test_a_number_outside_goes_by_the_external_template(biller, pbx, tmp_path):
    begin(biller, 1000)
    other = callee(tmp_path / "trunk", "waits", port=pbx.trunk_port)
    phone = caller(tmp_path / "caller", "hangs_up", number="1000", dials="08005551234", sip_port=pbx.sip_port, talk=1.3)
    phone.finish()
    other.finish()
    assert biller.closed_call(1000)["to"] == "08005551234"
    biller.check_books(1000, credit=CREDIT, cost=2)


def test_an_allowed_number_works_without_biller(pbx, tmp_path):
    other = callee(tmp_path / "trunk", "waits", port=pbx.trunk_port)
    phone = caller(tmp_path / "caller", "hangs_up", number="1000", dials="112", sip_port=pbx.sip_port, talk=0.5)
    phone.finish()
    other.finish()


def test_ringing_is_free_after_an_early_answer(biller, pbx, tmp_path):
    begin(biller, 1100, 2001)
    for phone in place_call(pbx, tmp_path, "waits", "hangs_up", number=1100, ring=1.5, talk=1.3):
        phone.finish()
    call = biller.closed_call(1100)
    assert call["cost"] == 2, call
    biller.check_books(1100, credit=CREDIT, cost=2)


def test_a_callee_who_forwards_is_charged_once(biller, pbx, tmp_path):
    begin(biller, 1000, 2001, 2002)
    target = callee(tmp_path / "target", "waits", port=pbx.port_of("2002"))
    phone, other = place_call(pbx, tmp_path, "refused", "forwards", forward_to=2002)
    phone.finish()
    other.finish()
    target.stop()
    biller.closed_call(1000)
    biller.check_books(1000, credit=CREDIT, cost=0)


def test_a_transferred_caller_pays_to_the_end(biller, pbx, tmp_path):
    # A number that no other test dials: Asterisk goes on telling this phone of the transfer when it is gone.
    begin(biller, 1000, 2003)
    phone, other = place_call(pbx, tmp_path, "waits", "refers", dials=2003, talk=1)
    phone.finish()
    other.stop()
    call = biller.closed_call(1000)
    assert call["state"] == "settled"
    assert call["talk_ms"] >= 1800, call
    biller.check_books(1000, credit=CREDIT, cost=call["cost"])
    assert call["cost"] >= 2


def test_a_caller_transferring_the_callee_pays_both(biller, pbx, tmp_path):
    """Each as a call of its own; nobody answers the second."""
    begin(biller, 1000, 2001)
    phone, other = place_call(pbx, tmp_path, "refers", talk=1.3)
    phone.finish()
    other.finish()
    until(lambda: len(biller.calls_of(1000)) == 2, "both are called")
    until(lambda: all(each["state"] != "open" for each in biller.calls_of(1000)), "both are closed")
    assert {each["to"]: each["state"] for each in biller.calls_of(1000)} == {"2001": "settled", "7000": "released"}
    biller.check_books(1000, credit=CREDIT, cost=2)


def test_without_biller_a_call_is_refused_as_congestion(pbx, tmp_path):
    phone = caller(tmp_path / "caller", "refused", number="1000", dials="2001", sip_port=pbx.sip_port)
    phone.finish()
    assert 503 in phone.answers
    assert pbx.notes() == ""


def test_the_original_two_lines_of_dialplan_are_enough(biller, pbx, tmp_path):
    begin(biller, 1200, 2001)
    for phone in place_call(pbx, tmp_path, "hangs_up", number=1200):
        phone.finish()
    assert biller.closed_call(1200)["witness"] == "agi"
    biller.check_books(1200, credit=CREDIT, cost=2)


def test_a_reducer_that_is_never_called_changes_nothing(biller, pbx, tmp_path):
    begin(biller, 1300, 2001)
    for phone in place_call(pbx, tmp_path, "hangs_up", number=1300):
        phone.finish()
    biller.closed_call(1300)
    biller.check_books(1300, credit=CREDIT, cost=2)


def test_two_calls_on_one_channel_pay_apart(biller, pbx, tmp_path):
    """The dialplan names both numbers; without AMI and without a stamp. It takes 6 s."""
    biller.secret = "wrong"
    begin(biller, 1200, 2001, 2002)
    first = callee(tmp_path / "first", "hangs_up", port=pbx.port_of("2001"), talk=2)
    second = callee(tmp_path / "second", "hangs_up", port=pbx.port_of("2002"), talk=3)
    phone = caller(tmp_path / "caller", "waits", number="1200", dials="92001", sip_port=pbx.sip_port)
    for each in (first, second, phone):
        each.finish()
    until(lambda: [each["state"] for each in biller.calls_of(1200)] == ["settled"] * 2, "both are settled")
    costs = {each["to"]: each["cost"] for each in biller.calls_of(1200)}
    assert costs["2001"] in (2, 3)
    assert costs["2002"] in (3, 4)
    assert biller.user(1200)["voice_balance"] == CREDIT - sum(costs.values())


@contextlib.contextmanager
def _locked(biller):
    """Lock the biller's file, as another program may."""
    with contextlib.closing(sqlite3.connect(biller.folder / "celcombiller.sqlite", isolation_level=None)) as other:
        other.execute("begin exclusive")
        yield


def test_an_allowed_call_without_ledger_is_charged(biller, pbx, tmp_path):
    """The ledger comes back in mid-call, and with it the late grant. It takes 6 s."""
    biller.calls |= {"on_failure": "allow", "decision_seconds": 1, "external_dial": ""}
    begin(biller, 1000, 2001)
    with _locked(biller):
        phone, other = place_call(pbx, tmp_path, "hangs_up", talk=4)
        phone.until_answered()
    phone.finish()
    other.finish()
    call = biller.closed_call(1000)
    assert (call["state"], call["cost"]) == ("settled", 5), call
    biller.check_books(1000, credit=CREDIT, cost=5)


def test_a_refusal_comes_within_decision_seconds(biller, pbx, tmp_path):
    """The refused channel's end does not wait for the database once more. It takes 8 s."""

    def refuse(number):
        began = time.monotonic()
        phone = caller(tmp_path / number, "refused", number=number, dials="2001", sip_port=pbx.sip_port)
        phone.finish()
        return time.monotonic() - began, phone.answers

    biller.calls |= {"decision_seconds": 5}
    begin(biller, 1000, 2001)
    at_once, _ = refuse("1002")
    with _locked(biller):
        took, answers = refuse("1000")
    assert took - at_once < 2 * 5
    assert 503 in answers
    biller.check_books(1000, credit=CREDIT, cost=0)
