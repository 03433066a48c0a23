"""A biller of AGI scripts without AMI, on a socket of its own."""

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed

from celcombiller.asterisk.agi.server import FastAGIFactory
from celcombiller.asterisk.agi.simulator import Channel, play
from celcombiller.asterisk.outage.control import make_control
from celcombiller.asterisk.scripts import Scripts
from celcombiller.config.charging_policy import charging_policy
from celcombiller.config.tables import Calls, Config, Database, Fees, Prompts
from celcombiller.core.catalogue.catalogue import Catalogue, CatalogueHolder
from celcombiller.core.errors import BillerError
from celcombiller.database.reader import Reader
from celcombiller.runtime.metrics import Metrics
from tests.core.ledger.test_book import ask, credit, database


class StoreHere:
    """The store in this thread, answering at once; `trouble` makes it fail or wait."""

    def __init__(self, engine, config):
        self.engine, self.config, self.trouble = engine, config, {}

    def charge(self, request, *, deferrable=False):
        trouble = self.trouble.get(type(request))
        if isinstance(trouble, Deferred):  # done at once, told when the Deferred fires
            del self.trouble[type(request)]
            result = self._now(request)
            return trouble.addCallback(lambda _: result)
        if trouble:
            return fail(trouble.pop(0))
        return self._now(request)

    def transact(self, work):
        with self.engine.begin() as tx:
            return succeed(work(tx))

    def _now(self, request):
        (answer,) = ask(self.engine, request, terms=charging_policy(self.config))
        return fail(answer) if isinstance(answer, BillerError) else succeed(answer)


class House:
    """A biller without AMI: scripts, a ledger, and a port."""

    def __init__(self, path, *, outage=(), engine=None, fees=None, **calls):
        facts = {"internal_dial": "PJSIP/{clid}", "decision_seconds": 1, **calls}
        url = f"sqlite:///{path}"
        self.config = Config(
            calls=Calls(**facts),
            prompts=Prompts(no_credit="no-money", suspended="pay-first"),
            database=Database(url=url),
            outage=outage,
            fees=fees or Fees(),
        )
        self.engine = engine or database(path)
        if engine is None:
            ask(self.engine, credit(60))
        self.store = StoreHere(self.engine, self.config)
        self.metrics = Metrics()
        self.catalogue = CatalogueHolder(Catalogue())
        charging_policy(self.config, self.catalogue)
        self.outage = make_control(reactor, self.config, self.catalogue, self.metrics)
        reader = Reader(reactor, self.engine)
        self.scripts = Scripts(
            reactor, self.config, self.store, reader, {}, self.metrics, self.catalogue, outage=self.outage
        )
        self.port = reactor.listenTCP(0, FastAGIFactory(self.scripts, clock=reactor), interface="127.0.0.1")

    async def call(self, called="1002", caller="1001", **facts):
        return await self.play(Channel(caller, called, **facts), "caller", "reducer")

    async def play(self, channel, *scripts):
        return await play(reactor, "127.0.0.1", self.port.getHost().port, channel, scripts)

    def decided(self):
        (family,) = self.metrics.calls.authorizations.collect()
        return {each.labels["result"]: each.value for each in family.samples if each.value}

    async def close(self):
        await self.scripts.updates.drain()
        await self.port.stopListening()
        await self.outage.journal.close()
        self.engine.dispose()
