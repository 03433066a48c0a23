"""The catalogue in memory follows the ledger: within a second, as a whole, and never to something unreadable."""

import sys
from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from celcombiller.core.catalogue import loading
from celcombiller.core.catalogue.catalogue import Catalogue, CatalogueHolder
from celcombiller.core.model.subscribers import Level, Subscriber
from celcombiller.core.model.tariffs import Service, flat_rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import tables
from celcombiller.core.schema.catalogue_change import record_change
from celcombiller.core.subscribers import group_records
from celcombiller.core.tariffs import tariff_records, versions
from celcombiller.database import catalogue_watch
from celcombiller.database.catalogue_watch import CatalogueWatch
from celcombiller.database.reader import Reader
from celcombiller.runtime.metrics import Metrics
from celcombiller.runtime.process import thread_turns
from tests.support import databases
from tests.support.http.api_service import Biller, people
from tests.support.tariffs import make_tariff, rate, write

SECONDS = timedelta(seconds=1)
ANA = Subscriber(1, "ana", "Ana", "2001", "724001", None, "", Level.SUBSCRIBER, enabled=True)


class Node:
    """A biller's catalogue, as the service keeps it."""

    def __init__(self, engine):
        self.holder = CatalogueHolder(Catalogue(settings={Service.VOICE: Tariff([flat_rate(price=1)])}))
        self.metrics = Metrics()
        self.reader = Reader(reactor, engine)
        listening = engine if engine.dialect.name == "postgresql" else None
        self.watch = CatalogueWatch(reactor, self.reader, self.holder, self.metrics, listening)

    def start(self):
        self.reader.start()
        self.watch.startService()

    async def stop(self):
        await self.watch.stopService()
        self.reader.stop()

    def price(self, at):
        tariff, _ = self.holder.current.tariff_for(ANA, Service.VOICE, at)
        return tariff.rate_for("5591", at).price

    def metric(self, name):
        return self.metrics.registry.get_sample_value(f"celcombiller_catalogue_{name}")


@pytest_twisted.async_yield_fixture
async def nodes(engine):
    """Two nodes of one ledger."""
    made = [Node(engine), Node(engine)]
    for each in made:
        each.start()
    yield made
    for each in made:
        await each.stop()


async def until(happens, seconds=20):
    """Wait until it happens; how long a busy machine needs is not tested here."""
    end = reactor.seconds() + seconds
    while not happens():
        assert reactor.seconds() < end
        await deferLater(reactor, 0.02, lambda: None)


def now():
    return datetime.now(UTC)


@pytest_twisted.ensureDeferred
async def test_nodes_switch_at_the_same_moment(engine, nodes):
    with engine.begin() as tx:
        tariff = make_tariff(tx, now())
        tariff_records.set_default(tx, tariff.id)
        version = write(tx, tariff.id, now(), rate("55", 7), effective_at=now() + 60 * SECONDS)
    known = lambda: all(each.holder.current.version_at(tariff.id, version.effective_at) for each in nodes)  # noqa: E731
    await until(known)
    before = version.effective_at - timedelta(microseconds=1)
    assert [each.price(before) for each in nodes] == [1, 1]
    assert [each.price(version.effective_at) for each in nodes] == [7, 7]
    assert nodes[0].metric("change") == nodes[1].metric("change") == 3


@pytest_twisted.ensureDeferred
async def test_known_versions_are_not_read_again(engine, nodes):
    node = nodes[0]
    with engine.begin() as tx:
        tariff = make_tariff(tx, now())
        first = write(tx, tariff.id, now(), rate("55", 7))
    await until(lambda: node.holder.current.number == 2)
    kept = node.holder.current.version_at(tariff.id, first.effective_at)
    with engine.begin() as tx:
        group_records.add(tx, name="students", now=now())
        second = write(tx, tariff.id, first.effective_at, rate("55", 8), effective_at=now() + 60 * SECONDS)
    await until(lambda: node.holder.current.number == 4)
    assert node.holder.current.version_at(tariff.id, first.effective_at) is kept
    assert [each.name for each in node.holder.current.groups.values()] == ["students"]
    with engine.begin() as tx:
        versions.withdraw(tx, tariff.id, second.number, now())
    await until(lambda: node.holder.current.number == 5)
    assert node.holder.current.version_at(tariff.id, second.effective_at) is kept


@pytest_twisted.ensureDeferred
async def test_a_cancelled_look_is_over():
    class SilentReader:
        async def read(self, _work):
            await Deferred()

    holder = CatalogueHolder(Catalogue(settings={Service.VOICE: Tariff([flat_rate(price=1)])}))
    looking = Deferred.fromCoroutine(CatalogueWatch(reactor, SilentReader(), holder, Metrics()).look())
    looking.cancel()
    with pytest.raises(CancelledError):
        await looking
    assert not holder.fault


@pytest_twisted.ensureDeferred
async def test_a_reading_leaves_others_their_turns(engine, nodes, monkeypatch):
    turns, list_rates = set(), loading.list_rates

    def noted(*words, **more):
        turns.add(sys.getswitchinterval())
        return list_rates(*words, **more)

    monkeypatch.setattr(loading, "list_rates", noted)
    with engine.begin() as tx:
        tariff = make_tariff(tx, now())
        write(tx, tariff.id, now(), rate("55", 7))
    await until(lambda: all(each.holder.current.number == 2 for each in nodes))
    assert min(turns) == pytest.approx(thread_turns.SHORT_SECONDS)
    assert sys.getswitchinterval() == thread_turns.USUAL_SECONDS


@pytest_twisted.ensureDeferred
async def test_unreadable_change_keeps_the_state_before(engine, nodes):
    node = nodes[0]
    with engine.begin() as tx:
        tariff = make_tariff(tx, now())
        tariff_records.set_default(tx, tariff.id)
        made = write(tx, tariff.id, now(), rate("55", 7))
    await until(lambda: node.holder.current.number == 3)
    with engine.begin() as tx:
        write(tx, tariff.id, made.effective_at, rate("55", 8), effective_at=now() + 60 * SECONDS)
        tx.execute(sa.update(tables.rate).where(tables.rate.c.since_version == 2).values(steps="?"))
    await until(lambda: node.holder.fault)
    assert node.price(made.effective_at) == 7
    assert (node.metric("stale"), node.holder.current.number) == (1, 3)
    with engine.begin() as tx:
        tx.execute(sa.update(tables.rate).where(tables.rate.c.since_version == 2).values(steps="[[0,1,8,1]]"))
        record_change(tx)
    await until(lambda: not node.holder.fault)
    assert (node.metric("stale"), node.holder.current.number) == (0, 5)


@pytest.mark.real
@pytest_twisted.ensureDeferred
async def test_postgresql_notifies_of_a_change(cluster, monkeypatch):
    monkeypatch.setattr(catalogue_watch, "LOOK_SECONDS", 3600)
    with databases.on_postgresql(cluster) as engine:
        node = Node(engine)
        node.start()
        try:
            await until(lambda: listeners(engine))
            with engine.begin() as tx:
                make_tariff(tx, now())
            await until(lambda: node.holder.current.number == 1)
            (listener,) = listeners(engine)
            with engine.begin() as tx:
                tx.execute(sa.select(sa.func.pg_terminate_backend(listener)))
                make_tariff(tx, now(), "other")
            await until(lambda: node.holder.current.number == 2)
            await until(lambda: listeners(engine) not in ([], [listener]))
        finally:
            await node.stop()


def listeners(engine):
    """The processes of the server that have asked for notifications last."""
    activity = "select pid from pg_stat_activity where query like 'listen%' and datname = current_database()"
    with engine.connect() as tx:
        return list(tx.execute(sa.text(activity)).scalars())


@pytest_twisted.ensureDeferred
async def test_service_has_tariffs_from_its_start(tmp_path):
    engine = databases.sqlite(tmp_path / "ledger.sqlite", people)
    with engine.begin() as tx:
        tariff = make_tariff(tx, now())
        tariff_records.set_default(tx, tariff.id)
        made = write(tx, tariff.id, now(), rate("55", 7))
    biller = Biller(tmp_path, {}, engine.url.render_as_string())
    try:
        (watch,) = [each for each in biller.service if isinstance(each, CatalogueWatch)]
        tariff, version_id = watch.catalogue.tariff_for(ANA, Service.VOICE, made.effective_at)
        assert (tariff.rate_for("55").price, version_id) == (7, made.id)
        assert (await biller.client().get("/readyz")).body["catalogue_fault"] == ""
    finally:
        await biller.stop()
        engine.dispose()
