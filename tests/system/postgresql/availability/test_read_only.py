"""PostgreSQL that takes no writes for a while, as one does that hands over: calls that talk meanwhile are charged."""

import asyncio
import itertools
import time

import pytest

from celcombiller.asterisk.agi.simulator import Channel
from tests.system.lab.biller import Biller
from tests.system.lab.traffic import Played, Traffic
from tests.system.lab.waiting import until

CREDIT = 60
TALK_MS = 7000
DECISION_SECONDS = 3
SLOW_MACHINE_SECONDS = 2


@pytest.fixture
def billers():
    made = []
    yield made
    for each in made:
        each.stop()


def set_for_all_sessions(cluster, url):
    """Turn the sessions that are there; each looks again at its next statement."""
    cluster.sql("alter system set default_transaction_read_only = on")
    cluster.sql("select pg_reload_conf()")
    until(lambda: cluster.sql("show default_transaction_read_only") == "on", "PostgreSQL has read its settings")

    def undo():
        cluster.sql("alter system reset default_transaction_read_only")
        cluster.sql("select pg_reload_conf()")

    return undo


def set_for_new_sessions(cluster, url):
    """End the sessions, and have the next ones take no writes as long as they live, also after it is over."""
    name = url.rpartition("/")[2]
    cluster.sql(f"alter database {name} set default_transaction_read_only = on")
    cluster.sql(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")
    return lambda: cluster.sql(f"alter database {name} reset default_transaction_read_only")


@pytest.mark.parametrize(
    ("set_read_only", "policy", "result"),
    [(set_for_all_sessions, "deny", "FAILED"), (set_for_new_sessions, "allow", "GRANTED")],
)
def test_a_read_only_postgresql_costs_no_charge(cluster, billers, tmp_path, set_read_only, policy, result):
    biller = Biller(tmp_path / "biller", url=cluster.database())
    billers.append(biller)
    biller.calls |= {"on_failure": policy, "decision_seconds": DECISION_SECONDS}
    biller.prepare({1000: CREDIT, 1001: CREDIT, 2001: 0}).start()
    talking = Traffic([biller.agi_port], [1000], 2001, talk_ms=(TALK_MS, TALK_MS), pause=60).start()
    until(lambda: "Granted" in biller.log, "the call is granted")
    undo = set_read_only(cluster, biller.url)
    try:
        new = call(biller, 1001)
        until(lambda: talking.count() == 1, "the talk is over", seconds=TALK_MS / 1000 + 20)
        assert biller.calls_of(1000)[0]["state"] == "open"
    finally:
        undo()
    assert new.result == result, biller.log
    assert new.decided_at - new.began_at < DECISION_SECONDS + SLOW_MACHINE_SECONDS
    assert biller.closed_call(1000, seconds=40)["cost"] == TALK_MS // 1000
    biller.check_books(1000, credit=CREDIT, cost=TALK_MS // 1000)
    if policy == "allow":
        assert biller.closed_call(1001, seconds=40)["cost"] == new.cost
    biller.check_books(1001, credit=CREDIT, cost=new.cost)


def call(biller, number):
    """Play one call to its end."""
    channel = Channel(str(number), "2001", talk_ms=1000, uniqueid=f"pbx1-{time.time():.0f}.{next(_numbers)}")
    played = Played(number, channel, time.monotonic())
    traffic = Traffic([biller.agi_port], [], 0)

    async def sessions():
        for script in ("caller", "reducer"):
            await traffic._session(biller.agi_port, played, script)

    asyncio.run(sessions())
    return played


_numbers = itertools.count(1000)
