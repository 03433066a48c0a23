"""Asterisk's own call detail records settle what the biller did not see. About 15 s a test."""

import json
from datetime import datetime, timedelta

import pytest

from tests.system.asterisk.availability.test_crashes import CREDIT, _begin, _call, _end
from tests.system.lab.waiting import until


def _killed_in_a_call(biller, pbx, tmp_path, *, number=1200, talk=3.4):
    """Kill the biller during a call of a phone without a note, which ends unseen; return the talk by SIP."""
    _begin(biller, number, 2001)
    phones = _call(pbx, tmp_path, number=number, talk=talk)
    biller.kill9()
    _end(*phones)
    until(lambda: pbx.channels() == 0, "the channels are gone")


@pytest.mark.parametrize("as_csv", [True, False])
def test_an_unseen_end_is_settled_by_the_record(biller, pbx, tmp_path, as_csv):
    _killed_in_a_call(biller, pbx, tmp_path)
    (call,) = biller.json("calls")
    source = pbx.cdrs(as_csv=as_csv)
    since = datetime.fromisoformat(call["started_at"]) - timedelta(
        seconds=2
    )  # it has the calls of tests before as well
    words = ("reconcile", "--cdr", source, "--server", "pbx1", "--zone", "UTC", "--ended", 0, "--since", since)

    def reconcile(*more, status=0):
        return json.loads(biller.run(*words, *more, "--json", status=status))["items"]

    until(lambda: source.exists() and call["uniqueid"].encode() in source.read_bytes(), "Asterisk writes")
    (shown,) = reconcile(status=1)
    assert (shown["kind"], shown["uniqueid"], shown["settled"]) == ("open", call["uniqueid"], False)
    assert 3 <= shown["cost"] == shown["cdr_ms"] / 1000, shown
    (settled,) = reconcile("--apply")
    assert (settled["settled"], settled["cost"]) == (True, shown["cost"])
    assert reconcile("--apply") == []
    (call,) = biller.json("calls")
    assert (call["witness"], call["cost"]) == ("cdr", settled["cost"])
    assert biller.run("audit")
    biller.start()
    biller.check_books(1200, credit=CREDIT, cost=settled["cost"])


def test_the_sweep_asks_the_record(biller, pbx, tmp_path):
    source = pbx.cdrs(as_csv=True)
    biller.more += ["[cdr]", f"source = {json.dumps(str(source))}", 'zone = "UTC"']
    _killed_in_a_call(biller, pbx, tmp_path, number=1201)
    biller.start()
    call = biller.closed_call(1201)
    assert (call["witness"], call["note"].startswith("by the CDR of ")) == ("cdr", True), call
    assert 3 <= call["cost"] == call["talk_ms"] / 1000, call  # a CDR has the whole seconds
    biller.check_books(1201, credit=CREDIT, cost=call["cost"])
