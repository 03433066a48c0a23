"""PostgreSQL away: restarted, or killed and replaced by its standby, with calls going on all the time."""

import time

import pytest

from celcombiller.bench.postgresql import PostgreSQL
from celcombiller.core.schema import tables
from tests.system.lab.biller import Biller
from tests.system.lab.sip_phones import callee, caller
from tests.system.lab.traffic import Traffic, balance
from tests.system.lab.waiting import free_ports, until
from tests.system.postgresql.availability.test_several_nodes import (
    CALLEE,
    CALLERS,
    CREDIT,
    LINES_EACH,
    check_that_what_was_said_is_so,
    more,
    on_one_ledger,
    rows,
)

DECISION_SECONDS = 3
SLOW_MACHINE_SECONDS = 2
"""What an answer may take beyond its deadline where cores are shared with everything else."""


@pytest.fixture
def own_cluster(parts):
    """A PostgreSQL that a test may end as it likes."""
    made = PostgreSQL(port=free_ports(1, for_good=True))
    yield made
    made.remove()


@pytest.fixture
def standby(own_cluster):
    made = own_cluster.replicate()
    yield made
    made.remove()


@pytest.fixture
def billers():
    made = []
    yield made
    for each in made:
        each.stop()


def test_a_failover_loses_nothing_acknowledged(own_cluster, standby, billers, tmp_path):
    name = own_cluster.database().rpartition("/")[2]
    hosts = f"host=127.0.0.1:{own_cluster.port}&host=127.0.0.1:{standby.port}"
    url = f"postgresql+psycopg://postgres@/{name}?{hosts}&target_session_attrs=read-write"
    billers += on_one_ledger(url, tmp_path, count=2)
    assert [balance(each.agi_port, CALLERS[0]) for each in billers] == [str(CREDIT)] * 2
    traffic = begin(billers)
    more(traffic, 150)
    killed_at = time.monotonic()
    own_cluster.kill()
    more_refused(traffic, 20)
    standby.promote()
    until_calls_are_granted_again(traffic)
    more(traffic, 150)
    played = traffic.stop()
    check_the_gap(played, killed_at)
    check_books_after(played, billers, url)
    # Reads had connections of their own to the server that died.
    left = billers[0].user(CALLERS[0])["voice_balance"]
    assert [balance(each.agi_port, CALLERS[0]) for each in billers] == [str(left)] * 2


def test_a_restart_of_postgresql_under_load_loses_nothing(own_cluster, billers, tmp_path):
    url = own_cluster.database()
    billers += on_one_ledger(url, tmp_path, count=2)
    traffic = begin(billers)
    more(traffic, 100)
    ended_at = time.monotonic()
    own_cluster.stop()
    more_refused(traffic, 20)
    own_cluster.start()
    until_calls_are_granted_again(traffic)
    more(traffic, 100)
    played = traffic.stop()
    check_the_gap(played, ended_at)
    check_books_after(played, billers, url)


def test_a_call_allowed_during_an_outage_is_charged(own_cluster, pbx, billers, tmp_path):
    biller = Biller(tmp_path / "biller", agi_port=pbx.agi_port, pbx=pbx, url=own_cluster.database())
    billers.append(biller)
    biller.calls |= {"on_failure": "allow", "external_dial": ""}
    biller.prepare({1000: 2, CALLEE: 0}).start()
    own_cluster.stop()
    other = callee(tmp_path / "callee", "waits", port=pbx.port_of(str(CALLEE)), talk=3.3)
    phone = caller(tmp_path / "caller", "hangs_up", number="1000", dials=str(CALLEE), sip_port=pbx.sip_port, talk=3.3)
    for each in (phone, other):
        each.finish()
    assert "allowed as calls.on_failure says" in biller.log
    own_cluster.start()
    call = biller.closed_call(1000)
    assert (call["state"], call["cost"], call["witness"]) == ("settled", 4, "agi"), call
    assert "let go without an authorization" in call["note"]
    assert "4 for the talk, 0 were held" in call["note"]
    biller.check_books(1000, credit=2, cost=4)


def begin(billers):
    return Traffic([each.agi_port for each in billers], [*CALLERS] * LINES_EACH, CALLEE, pause=0.05).start()


def more_refused(traffic, calls):
    """Wait until so many calls were refused because the ledger is away."""
    before = failed(traffic)
    until(lambda: failed(traffic) >= before + calls, f"{calls} calls refused")


def failed(traffic):
    return sum(call.result == "FAILED" for call in list(traffic.played))


def until_calls_are_granted_again(traffic):
    began_at = time.monotonic()
    until(lambda: any(call.dialled_at > began_at for call in list(traffic.played)), "calls are granted")


def check_the_gap(played, gone_at):
    """While the ledger was away callers had an answer in time, and it was the failure policy's."""
    refused = [call for call in played if call.result == "FAILED"]
    for call in refused:
        assert call.decided_at > gone_at
        assert call.decided_at - call.began_at < DECISION_SECONDS + SLOW_MACHINE_SECONDS, call
    assert not any(call.sessions_lost for call in played)


def check_books_after(played, billers, url):
    """All that was dialled is charged, also what ended in the gap: it waited for the ledger."""
    check_that_what_was_said_is_so(played, url)
    in_the_gap = [call for call in played if call.dialled_at and not call.settled]
    assert in_the_gap, "no call ended while the ledger was away"
    until(lambda: not rows(url, OPEN_HOLDS), "no hold is open")
    for call in played:
        call.channel.variables["CELCOMBILLER_SETTLED"] = "1"
    check_that_what_was_said_is_so(played, url)
    for each in billers:
        report = each.json("audit")
        assert report["ok"], report["differences"]
        assert "Traceback" not in each.log


OPEN_HOLDS = tables.hold.select().where(tables.hold.c.state == "open")
