"""Several billers on one PostgreSQL: they agree on every credit, and what one leaves undone another does."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
import sqlalchemy as sa
from twisted.internet.defer import Deferred, succeed

from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import CallAnswered, ChargingPolicy, Initiate
from celcombiller.core.errors import BillerError
from celcombiller.core.model.calls import CallReport
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import tables
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from celcombiller.jobs.expiry import close_overdue
from celcombiller.runtime.metrics import Metrics
from tests.system.lab.biller import Biller
from tests.system.lab.traffic import Traffic, most_spoken_for
from tests.system.lab.waiting import until

CREDIT = 600
LIMIT = 100
CALLERS = (1000, 1001, 1002)
LINES_EACH = 8
CALLEE = 2001
FORSAKEN = 1009
"""Whose only call nobody ever tells of."""


@pytest.fixture
def nodes(cluster, tmp_path):
    """Three billers on one ledger, with a few callers who have little credit for many lines."""
    made = on_one_ledger(cluster.database(), tmp_path, count=3)
    yield made
    for each in made:
        each.stop()


def on_one_ledger(url, folder, *, count):
    made = [Biller(folder / f"biller{number}", url=url) for number in range(1, count + 1)]
    for each in made:
        each.calls["max_call_seconds"] = LIMIT
        each.write()
    made[0].prepare(dict.fromkeys(CALLERS, CREDIT) | {CALLEE: 0})
    for each in made:
        each.start()
    return made


def rows(url, statement):
    engine = open_engine(url, lock_seconds=5)
    try:
        with engine.begin() as tx:
            result = tx.execute(statement)
            return result.all() if result.returns_rows else []
    finally:
        engine.dispose()


def calls_by_uniqueid(url):
    """Give the last leg of each channel."""
    return {row.uniqueid: row for row in rows(url, sa.select(tables.call).order_by(tables.call.c.id))}


def check_that_what_was_said_is_so(played, url):
    """Every word on the wire is in the database, once, and no account was ever spoken for beyond its credit."""
    recorded = calls_by_uniqueid(url)
    for number in CALLERS:
        assert most_spoken_for(played, number) <= CREDIT
    for call in played:
        if call.dialled_at:
            assert call.uniqueid in recorded, call
        if call.settled and call.dialled_at:
            row = recorded[call.uniqueid]
            assert (row.state, row.talk_ms, row.cost) == ("settled", call.channel.talk_ms, call.cost), call


@pytest.mark.parametrize("kills_least", [3, pytest.param(30, marks=pytest.mark.nightly)])
def test_credit_is_granted_once_despite_killed_nodes(nodes, kills_least):
    traffic = Traffic([each.agi_port for each in nodes], [*CALLERS] * LINES_EACH, CALLEE, forsaken_of_lost=0.5).start()
    kills = 0
    while kills < kills_least or not any(call.sessions_lost for call in list(traffic.played)):
        assert kills < kills_least + 20, "nobody was killed in mid-call"
        victim = nodes[kills % len(nodes)]
        more(traffic, 40)
        victim.kill9()
        more(traffic, 40)
        victim.start()
        kills += 1
    played = traffic.stop()
    url = nodes[0].url
    check_that_what_was_said_is_so(played, url)
    assert {call.result for call in played} >= {"GRANTED", "NO_CREDIT"}
    report = nodes[0].json("audit")
    assert report["ok"], report["differences"]

    # What nobody will tell of any more ends when its validity does, by whichever node looks first: this call at least.
    nodes[0].subscriber(FORSAKEN, LIMIT)
    engine = open_engine(url, lock_seconds=5)
    perform_now(engine, datetime.now(UTC), question("forsaken.0", FORSAKEN))
    engine.dispose()
    left = [row.reference for row in calls_by_uniqueid(url).values() if row.state == "open"]
    assert left, "every call was told of to its end"
    rows(url, sa.update(tables.hold).values(expires_at=sa.func.now()).where(tables.hold.c.state == "open"))
    for each in nodes:
        each.kill9()
    for each in nodes:  # the sweep of overdue holds runs at once
        each.start()
    until(lambda: not rows(url, sa.select(tables.hold).where(tables.hold.c.state == "open")), "no hold is open")
    ended = {row.reference: row for row in calls_by_uniqueid(url).values() if row.reference in left}
    assert {row.witness for row in ended.values()} == {"sweep"}
    spent = {row.username: CREDIT - row.posted for row in rows(url, posted())}
    charged = rows(url, sa.select(sa.func.sum(tables.call.c.cost)).where(tables.call.c.cost > 0))[0][0]
    assert sum(spent.values()) == charged
    report = nodes[0].json("audit")
    assert report["ok"], report["differences"]
    for each in nodes:
        assert "Traceback" not in each.log
        assert "Unhandled Error" not in each.log


def test_three_sweeps_end_each_call_once(cluster, tmp_path):
    url = cluster.database()
    biller = Biller(tmp_path / "biller", url=url).prepare({1000: CREDIT, CALLEE: 0})
    engine, now = open_engine(url, lock_seconds=5), datetime.now(UTC)
    unanswered, answered = question("1.0"), question("2.0")
    perform_now(engine, now, unanswered, answered, CallAnswered("pbx1", "2.0", now))
    together = Barrier(3, timeout=20)
    sweeps = [Sweep(engine, now + timedelta(hours=1), together) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda sweep: sweep.run(), sweeps))
    engine.dispose()
    assert sum(each.firsts for each in sweeps) == 2, "each call was ended by one of them"
    assert sum(each.seconds for each in sweeps) == 4, "and confirmed by the others"
    states = {row.uniqueid: row.state for row in calls_by_uniqueid(url).values()}
    assert states == {"1.0": "expired", "2.0": "settled"}
    assert len(rows(url, sa.select(tables.testimony))) == 2
    report = biller.json("audit")
    assert report["ok"], report["differences"]
    assert biller.user(1000)["voice_held"] == 0


TERMS = ChargingPolicy(Tariff([Rate()]), max_call_seconds=LIMIT)


def question(uniqueid, number=1000):
    nothing = CallReport(answered=False, at=datetime.now(UTC))
    channel = f"PJSIP/{number}-{uniqueid}"
    return Initiate("pbx1", uniqueid, uniqueid, channel, "", str(number), str(CALLEE), False, nothing)


def perform_now(engine, now, *requests):
    answers = transact(engine, lambda tx: process_batch(tx, TERMS, requests, now))
    assert not [each for each in answers if isinstance(each, BillerError)], answers
    return answers


class Sweep:
    """One node's look for overdue holds, in a thread; all have looked before any of them acts."""

    def __init__(self, engine, now, together):
        self.engine, self.now, self.together = engine, now, together
        self.firsts = self.seconds = 0

    def run(self):
        over = Deferred.fromCoroutine(close_overdue(self, {}, self.now, Metrics()))
        assert over.called
        over.addErrback(lambda failure: failure.raiseException())

    def transact(self, work):
        result = transact(self.engine, work)
        if isinstance(result, list):
            assert len(result) == 2
            self.together.wait()
        return succeed(result)

    def charge(self, request):
        (settlement,) = perform_now(self.engine, self.now, request)
        self.firsts += settlement.first
        self.seconds += not settlement.first
        return succeed(settlement)


def posted():
    account, subscriber = tables.account, tables.subscriber
    return (
        sa.select(subscriber.c.username, account.c.posted)
        .join(subscriber, subscriber.c.id == account.c.subscriber_id)
        .where(subscriber.c.username.in_([f"user{number}" for number in CALLERS]), account.c.kind == "voice")
    )


def test_a_change_holds_on_all_nodes_at_once(nodes):
    first, second, third = nodes
    assert "Granted 100 s" in second.run("call", "user1000", CALLEE, "--talk", "0.5")
    first.run("user", "disable", "user1000")
    assert "DISABLED" in second.run("call", "user1000", CALLEE, status=3)
    third.run("user", "enable", "user1000")
    first.run("credit", "user1000", -(CREDIT - 1 - 30))
    assert "Granted 30 s" in second.run("call", "user1000", CALLEE, "--talk", "0.5")
    second.subscriber(1003, 5)
    assert "Granted 5 s" in third.run("call", "user1003", CALLEE, "--talk", "1")


def test_a_price_changes_everywhere_at_one_moment(nodes):
    """3 s. Each call has the price of its moment, whichever of the processes decided on it."""
    first, second, _ = nodes
    first.run("tariff", "add", "town")
    first.run("tariff", "rate", "town", "all", "--price", 1, "--per", 1)
    first.run("tariff", "default", "town")
    traffic = Traffic([each.agi_port for each in nodes], [*CALLERS], CALLEE, talk_ms=(5, 20)).start()
    until(lambda: _tariff_versions(first.url)[1], "the first version is in use")
    second.run("tariff", "rate", "town", "all", "--price", 2, "--per", 1)
    until(lambda: len(_tariff_versions(first.url)[1]) > 60, "the second version is in use")
    played = traffic.stop()
    assert {call.result for call in played} == {"GRANTED"}
    (before, at), after = _tariff_versions(first.url)
    calls = rows(first.url, sa.select(tables.call).where(tables.call.c.tariff_version_id.is_not(None)))
    assert before
    assert all(call.started_at < at for call in before)
    assert all(call.started_at >= at for call in after)
    assert len(calls) == len(before) + len(after)
    assert first.json("audit")["ok"]


def _tariff_versions(url):
    """Return the calls by the first version with the moment of the second, and those by the second."""
    version, call = tables.tariff_version, tables.call
    known = rows(url, sa.select(version.c.id, version.c.effective_at).order_by(version.c.number))
    ids = [row.id for row in known]
    calls = rows(url, sa.select(call).where(call.c.tariff_version_id.in_(ids)))
    last = known[-1]
    return ([each for each in calls if each.tariff_version_id == ids[0]], last.effective_at), [
        each for each in calls if each.tariff_version_id == last.id
    ]


def test_a_node_with_another_price_list_says_so(nodes, tmp_path):
    other = Biller(tmp_path / "other", url=nodes[0].url)
    other.calls["max_call_seconds"] = 2 * LIMIT
    other.write()
    other.start()
    try:
        until(lambda: "Other nodes have other settings" in other.log, "it is told")
        told = next(line for line in other.log.splitlines() if "Other nodes have other settings" in line)
        assert all(f"tcp:{each.agi_port}:" in told for each in nodes)
        assert told.count(": [calls]") == len(nodes)
    finally:
        other.stop()


def more(traffic, calls):
    """Wait until so many more calls are over; and a random moment, so that a kill may fall anywhere."""
    reached = traffic.count() + calls
    until(lambda: traffic.count() >= reached, f"{calls} more calls", every=0.01)
    time.sleep(random.uniform(0, 0.05))
