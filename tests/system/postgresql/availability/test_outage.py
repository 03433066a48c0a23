"""A PostgreSQL that is stopped in the middle of real calls: within limits they go on, and all are charged, whatever dies."""

import json
import re
import urllib.error
import urllib.request

import pytest

from celcombiller.bench.postgresql import PostgreSQL
from tests.system.lab.biller import Biller
from tests.system.lab.sip_phones import callee, caller
from tests.system.lab.waiting import free_ports, until

CREDIT = 60
SUBSCRIBERS = {1000: CREDIT, 1001: 0, 2001: 0}
RULE = ["[[outage]]", 'prefix = "on-net"', 'policy = "allow"', "call_seconds_max = 20", "live_seconds_max = 30"]


@pytest.fixture
def own_cluster(parts):
    made = PostgreSQL(port=free_ports(1, for_good=True))
    yield made
    made.remove()


@pytest.fixture
def biller(own_cluster, pbx, tmp_path):
    made = Biller(tmp_path / "biller", agi_port=pbx.agi_port, pbx=pbx, url=own_cluster.database())
    made.calls |= {"decision_seconds": 1, "external_dial": "PJSIP/{number}@trunk", "slice_seconds": 10}
    made.more = RULE
    made.prepare(SUBSCRIBERS).start()
    until(lambda: ready(made)["mode"] == "normal", "it is ready")
    until(lambda: known_subscribers(made) >= len(SUBSCRIBERS), "it knows who may call")
    yield made
    made.stop()


def known_subscribers(biller):
    with urllib.request.urlopen(f"http://127.0.0.1:{biller.rest_port}/metrics", timeout=30) as answer:
        return int(float(re.search(rb"^celcombiller_known_subscribers (\S+)", answer.read(), re.MULTILINE)[1]))


def ready(biller):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{biller.rest_port}/readyz", timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        return json.load(refused)


def call(pbx, folder, *, talk, number=1000):
    other = callee(folder / "callee", "waits", port=pbx.port_of("2001"), talk=talk)
    phone = caller(folder / "caller", "hangs_up", number=str(number), dials="2001", sip_port=pbx.sip_port, talk=talk)
    phone.until_answered()
    return phone, other


def end(*phones):
    for each in phones:
        each.finish()


def test_a_call_in_an_outage_is_charged(own_cluster, biller, pbx, tmp_path):
    """A known subscriber is dialled inside, though there is an external_dial. It takes 15 s."""
    own_cluster.stop()
    phones = call(pbx, tmp_path, talk=3.3)
    end(*phones)
    assert "allowed for 20 s by [[outage]] 'on-net'" in biller.log
    until(lambda: ready(biller)["calls_without_ledger"]["exposed_credits"] in (4, 5), "the biller knows that it ended")
    left = ready(biller)
    assert (left["mode"], left["calls_without_ledger"]["waiting"]) == ("ledger away", 1)
    poor = caller(tmp_path / "poor", "refused", number="1001", dials="2001", sip_port=pbx.sip_port)
    poor.finish()
    own_cluster.start()
    assert biller.closed_call(1000)["cost"] in (4, 5)
    until(lambda: ready(biller)["calls_without_ledger"]["waiting"] == 0, "nothing waits")
    assert ready(biller)["mode"] == "normal"
    cost = biller.closed_call(1000)["cost"]
    biller.check_books(1000, credit=CREDIT, cost=cost)
    assert biller.calls_of(1001) == []


def test_a_killed_biller_charges_from_its_journal(own_cluster, biller, pbx, tmp_path):
    """Ledger and biller are away when the call ends, and no reducer reports it. It takes 20 s."""
    own_cluster.stop()
    phones = call(pbx, tmp_path, talk=6.3)
    until(lambda: ready(biller)["calls_without_ledger"]["live"] == 1, "it is in the journal")
    biller.kill9()
    end(*phones)
    until(lambda: pbx.channels() == 0, "the channels are gone")
    own_cluster.start()
    biller.start()
    settled = biller.closed_call(1000)
    assert (settled["state"], settled["cost"], settled["witness"]) == ("settled", 7, "sweep"), settled
    until(lambda: ready(biller)["calls_without_ledger"]["waiting"] == 0, "nothing waits")
    biller.check_books(1000, credit=CREDIT, cost=7)


def test_a_call_goes_on_beyond_its_slice(own_cluster, biller, pbx, tmp_path):
    """Its slice of at most 10 s cannot be renewed: it talks 15 s and pays for them. It takes 25 s."""
    phones = call(pbx, tmp_path, talk=15.3)
    until(lambda: biller.calls_of(1000)[0]["answered_at"], "AMI told of the answer")
    own_cluster.stop()
    end(*phones)
    own_cluster.start()
    settled = biller.closed_call(1000)
    assert settled["cost"] in (16, 17), settled
    assert "goes on to" in biller.log
    biller.check_books(1000, credit=CREDIT, cost=settled["cost"])
