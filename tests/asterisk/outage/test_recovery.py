"""What becomes of calls without the ledger whose script reports no end: they are followed, then charged."""

from datetime import timedelta

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import fail, succeed

from celcombiller.asterisk.ami.codec import AmiRefused
from celcombiller.asterisk.outage.control import AWAY, CATCHING_UP, NORMAL, OutageControl
from celcombiller.asterisk.outage.journal import Journal
from celcombiller.asterisk.outage.recovery import LedgerlessCalls
from celcombiller.config.charging_policy import outage_rules
from celcombiller.config.tables import Calls, Config
from celcombiller.core.charging.requests import Terminate
from celcombiller.core.charging.slices import HOLD_MARGIN
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.known_subscribers import KnownSubscribers
from celcombiller.runtime.metrics import Metrics
from celcombiller.runtime.process.process_identity import identify_process, is_running
from tests.asterisk.outage.test_journal_file import NOW, ended, went
from tests.core.ledger.test_book import ask, credit, database, proved, voice
from tests.support.script_biller import StoreHere

GONE = "1-1-gone"


class Link:
    """An Asterisk with these channels; ``True``: they talk."""

    def __init__(self):
        self.ami, self.channels, self.note = self, {}, None

    def status(self):
        if self.channels is None:
            return fail(AmiRefused("not allowed"))
        return succeed(
            [
                {"event": "Status", "uniqueid": uniqueid, "bridgeid": "b" if talks else ""}
                for uniqueid, talks in self.channels.items()
            ]
        )

    async def read_note(self, _call):
        return self.note


class Scene:
    def __init__(self, folder):
        self.now = NOW
        self.engine = database(folder / "ledger.sqlite")
        ask(self.engine, credit(60))
        self.config = Config(calls=Calls(on_failure="allow", internal_dial="PJSIP/{clid}"))
        self.store, self.link = StoreHere(self.engine, self.config), Link()
        journal = Journal(reactor, folder / "ledger.calls", "l")
        known = KnownSubscribers(0)
        rules = outage_rules(self.config)
        self.control = OutageControl(self.config, rules, known, None, journal, Metrics(), now=lambda: self.now)
        self.journal = journal
        self.links = {"pbx1": self.link}
        self.is_first = True

    async def look(self, times=1, *, after=2.0):
        for _ in range(times):
            self.now += timedelta(seconds=after)
            calls = self.calls = getattr(self, "calls", None) or LedgerlessCalls(
                reactor,
                self.control,
                self.store,
                self.links,
                Metrics(),
                is_first=self.is_first,
                now=lambda: self.now,
            )
            await calls.look()
        await self.journal.write()

    def rows(self):
        with self.engine.begin() as tx:
            return [(row.state, row.cost, row.witness) for row in tx.execute(sa.select(tables.call))]


@pytest.fixture
def scene(tmp_path):
    made = Scene(tmp_path)
    yield made
    proved(made.engine)
    pytest_twisted.blockon(made.journal.close())
    made.engine.dispose()


@pytest_twisted.ensureDeferred
async def test_a_living_call_is_followed_to_its_end(scene):
    await scene.journal.write(went("a", owner=GONE))
    scene.link.channels = {"a.0": False}
    await scene.look(2)
    scene.link.channels = {"a.0": True}
    await scene.look(5)
    assert scene.rows() == []
    scene.link.channels = {}
    await scene.look()
    assert scene.rows() == []  # one list is not enough
    await scene.look()
    assert scene.rows() == [("settled", 8, "sweep")]
    assert scene.journal.state.waiting == 0


@pytest_twisted.ensureDeferred
async def test_an_unanswered_call_costs_nothing(scene):
    await scene.journal.write(went("a", owner=GONE))
    scene.link.channels = {"a.0": False}
    await scene.look(5)
    scene.link.channels = {}
    await scene.look(2)
    assert scene.rows() == [("released", 0, "sweep")]
    assert voice(scene.engine).posted == 60


@pytest.mark.parametrize("channels", [None, "no link"])
@pytest_twisted.ensureDeferred
async def test_without_ami_a_call_is_waited_for(scene, channels):
    """Until it cannot be alive any more; it was seen alive for 10 s, answered or not."""
    entry = went("a", owner=scene.control.owner)
    scene.link.channels = channels
    if channels is not None:
        scene.links.clear()
    scene.control._in_hand["a"] = None
    await scene.journal.write(entry)
    await scene.look(5)
    scene.control.record_loss("a")
    limit = timedelta(seconds=entry.ring_seconds + entry.seconds) + HOLD_MARGIN
    scene.now = NOW + limit - timedelta(seconds=9)
    await scene.look(4)
    assert scene.rows() == []
    await scene.look()
    assert scene.rows() == [("settled", 10, "sweep")]


@pytest.mark.parametrize(
    ("owner", "is_first", "is_charged"),
    [(GONE, True, True), (GONE, False, False), (identify_process(1), True, False), ("", False, True)],
)
@pytest_twisted.ensureDeferred
async def test_each_process_charges_what_is_its_own(scene, owner, is_first, is_charged):
    """A living process has its own calls in hand, and the first one those of the dead."""
    scene.is_first = is_first
    await scene.journal.write(went("a", owner=owner or scene.control.owner), ended("a"))
    await scene.look()
    assert scene.rows() == ([("settled", 5, "agi")] if is_charged else [])
    assert scene.journal.state.waiting == (0 if is_charged else 1)


def test_a_process_is_known_by_its_beginning():
    own = identify_process()
    assert is_running(own)
    number, began, boot = own.split("-")
    assert not any(map(is_running, (f"{number}-{int(began) + 1}-{boot}", f"{number}-{began}-another", "", "x-1-y")))
    assert identify_process(2**22 + 1) == ""


@pytest_twisted.ensureDeferred
async def test_what_the_ledger_has_is_not_estimated(scene):
    """The reducer of another machine has charged it: the journal adds no estimate of its own."""
    entry = went("a", owner=GONE)
    await scene.journal.write(entry)
    ask(scene.engine, Terminate("pbx1", "a.0", "reducer", ended("a").report, unauthorized_request=entry.request))
    await scene.look(3)
    with scene.engine.begin() as tx:
        assert list(tx.execute(sa.select(tables.testimony.c.witness)).scalars()) == ["reducer"]
    assert scene.journal.state.waiting == 0


@pytest_twisted.ensureDeferred
async def test_the_mode_follows_the_ledger(scene):
    await scene.journal.write(went("a", owner=GONE), ended("a"))
    assert scene.control.mode == CATCHING_UP
    scene.control.record_failure("away")
    assert scene.control.mode == AWAY
    transact = scene.store.transact
    scene.store.transact = lambda _work: fail(StoreUnavailable("away"))
    with pytest.raises(StoreUnavailable):
        await scene.look()
    assert (scene.control.mode, scene.rows()) == (AWAY, [])
    scene.store.transact = transact
    await scene.look()
    await scene.journal.write()
    assert (scene.control.mode, scene.rows()) == (NORMAL, [("settled", 5, "agi")])


@pytest_twisted.ensureDeferred
async def test_a_caller_who_is_gone_is_counted(scene):
    await scene.journal.write(went("a", owner=GONE), ended("a"))
    with scene.engine.begin() as tx:
        tx.execute(sa.update(tables.subscriber).values(deleted_at=NOW))
    await scene.look()
    await scene.journal.write()
    assert (scene.rows(), scene.journal.state.waiting) == ([], 0)
    assert scene.control._metrics.lost._value.get() == 1
