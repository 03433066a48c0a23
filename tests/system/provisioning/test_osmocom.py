"""Debian's OsmoHLR: told over CTRL, listed by its console, killed and silent in the midst of hundreds of changes."""

import random
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from celcombiller.core.audit.report import audit
from celcombiller.core.errors import NetworkUnavailable
from celcombiller.core.model.subscribers import Level
from celcombiller.core.provisioning import desired_state, status
from celcombiller.core.provisioning.entries import ProvisioningEntry
from celcombiller.core.provisioning.network import NetworkRefused
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from celcombiller.provisioning.osmocom import Osmocom
from celcombiller.provisioning.reconciliation import compare
from celcombiller.provisioning.worker import ProvisioningWorker
from tests.provisioning.test_openbts import some_change
from tests.support import databases
from tests.system.lab.osmo_hlr import CTRL_PORT, VTY_PORT, Hlr

ANA = ProvisioningEntry("724000000002001", "2001")


@pytest.fixture
def hlr(parts):
    made = Hlr().start()
    yield made
    made.remove()


@pytest_twisted.async_yield_fixture
async def osmocom(hlr):
    made = Osmocom(reactor, hlr.host, CTRL_PORT, VTY_PORT, answer_seconds=2)
    yield made
    await made.close()
    await _closed()


async def _closed():
    turn = Deferred()
    reactor.callLater(0.05, turn.callback, None)
    await turn


@pytest_twisted.ensureDeferred
async def test_seen_phones_have_their_age(hlr, osmocom):
    await osmocom.create(ANA)
    await osmocom.create(ProvisioningEntry("724000000002002", "2002"))
    with sqlite3.connect(hlr.folder / "hlr.db", timeout=5) as tx:
        tx.execute("update subscriber set last_lu_seen = datetime('now', '-3 hours') where imsi = ?", [ANA.imsi])
    ages = {each.imsi: each.age for each in await osmocom.list_seen()}
    assert timedelta(hours=3) <= ages[ANA.imsi] < timedelta(hours=3, minutes=5)
    assert ages["724000000002002"] is None


@pytest_twisted.ensureDeferred
async def test_an_entry_is_created_changed_listed_and_removed(osmocom):
    assert await osmocom.list_all() == []
    await osmocom.create(ANA)
    assert await osmocom.read({ANA.imsi}, {"2001", "999"}) == [ANA]
    assert await osmocom.list_all() == [ANA]
    await osmocom.change(ANA, ProvisioningEntry(ANA.imsi, "2002"))
    assert await osmocom.read(set(), {"2002"}) == [ProvisioningEntry(ANA.imsi, "2002")]
    await osmocom.free(ANA)
    assert await osmocom.list_all() == [ProvisioningEntry(ANA.imsi, "")]
    await osmocom.delete(ANA.imsi)
    await osmocom.delete(ANA.imsi)
    assert await osmocom.list_all() == []


@pytest_twisted.ensureDeferred
async def test_it_refuses_a_number_that_another_has(osmocom):
    await osmocom.create(ANA)
    with pytest.raises(NetworkRefused, match="Update MSISDN failed"):
        await osmocom.create(ProvisioningEntry("724000000002002", "2001"))
    assert sorted(await osmocom.list_all(), key=lambda each: each.imsi) == [
        ANA,
        ProvisioningEntry("724000000002002", ""),
    ]


@pytest_twisted.ensureDeferred
async def test_a_silent_server_times_out_then_answers_again(osmocom, hlr):
    assert await osmocom.read({ANA.imsi}, set()) == []
    hlr.pause()
    with pytest.raises(NetworkUnavailable, match="does not answer within"):
        await osmocom.read({ANA.imsi}, set())
    with pytest.raises(NetworkUnavailable, match="does not answer within"):
        await osmocom.list_all()
    hlr.resume()
    assert await osmocom.read({ANA.imsi}, set()) == []
    hlr.kill()
    for asked in (osmocom.read({ANA.imsi}, set()), osmocom.read({ANA.imsi}, set()), osmocom.list_all()):
        with pytest.raises(NetworkUnavailable):
            await asked


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    if request.param == "postgresql":
        made = open_engine(databases.postgresql(request.getfixturevalue("cluster")), lock_seconds=5)
    else:
        made = databases.sqlite(tmp_path / "queue.sqlite", lock_seconds=5)
    yield made
    made.dispose()


class Node:
    """One biller's provisioner, on a database that others share."""

    def __init__(self, engine, network):
        self.engine = engine
        self.network = network
        self.now = datetime(2026, 11, 1, tzinfo=UTC)
        self.provisioner = ProvisioningWorker(
            "village",
            network,
            transact=self.through,
            read=self.through,
            now=lambda: self.now,
            retry_seconds_max=300,
        )
        transact(engine, lambda tx: desired_state.configure(tx, {"village": "osmocom"}, self.now))

    def through(self, work):
        return deferToThread(transact, self.engine, work)


def _add(tx, number, now):
    subscriber_records.add(
        tx,
        username=f"u{number}",
        name="N",
        clid=str(number),
        imsi=f"72400000000{number}",
        cpf=None,
        address="",
        level=Level.SUBSCRIBER,
        password_hash=None,
        now=now,
    )


@pytest_twisted.ensureDeferred
async def test_hundreds_of_changes_survive_kills_of_osmohlr(hlr, osmocom, engine):
    """On two nodes at once, which share the queue."""
    other = Osmocom(reactor, hlr.host, CTRL_PORT, VTY_PORT, answer_seconds=2)
    nodes = [Node(engine, osmocom), Node(engine, other)]
    dice = random.Random(7)
    down = False
    for number in range(2000, 2300):
        transact(engine, lambda tx, number=number: _add(tx, number, nodes[0].now))
        if dice.random() < 0.5:
            one = dice.randrange(2000, number + 1)
            transact(engine, lambda tx, one=one: some_change(tx, one, dice, nodes[0].now))
        if number % 60 == 0:
            hlr.kill()
            down = True
        if number % 60 == 30 and down:
            hlr.start()
            down = False
        if number % 15 == 0:
            await _both(nodes)
            for node in nodes:
                node.now += timedelta(seconds=10)
    if down:
        hlr.start()
    for _ in range(10):
        for node in nodes:
            node.now += timedelta(seconds=300)
        await _both(nodes)
    assert transact(engine, status.backlog)[0].waiting == 0
    wanted = transact(engine, lambda tx: desired_state.desired(tx, "village")).entries
    there = await osmocom.list_all()
    assert sorted((each.imsi, each.msisdn) for each in there) == [(each.imsi, each.msisdn) for each in wanted]
    assert len(there) > 150
    assert await compare("village", osmocom, nodes[0].through) == []
    assert transact(engine, audit).ok
    await other.close()


async def _both(nodes):
    working = [Deferred.fromCoroutine(node.provisioner.work()) for node in nodes]
    for each in working:
        await each
