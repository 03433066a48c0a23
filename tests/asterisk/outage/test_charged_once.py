"""A biller that dies anywhere in a call without the ledger: the next one charges what was talked, once."""

from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed

from celcombiller.asterisk import pending_updates
from celcombiller.asterisk.agi.simulator import Channel
from celcombiller.asterisk.outage.recovery import LedgerlessCalls
from celcombiller.asterisk.scripts import settlement
from celcombiller.core.charging.requests import Initiate, Terminate
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.model.calls import CallReport
from celcombiller.runtime.metrics import Metrics
from tests.asterisk.scripts.test_outage import learn, waiting
from tests.core.ledger.test_book import proved, voice
from tests.support.script_biller import House

STEPS_MAX = 40
"""More than one call has."""

TALK_SECONDS = 5
GONE = "1-1-gone"
"""A process that does not run."""


class Dead:
    """Kills a biller before a step of this number: nothing that it does after reaches anything."""

    def __init__(self, at):
        self.left = at

    def is_now(self):
        self.left -= 1
        return self.left < 0

    @property
    def is_dead(self):
        return self.left < 0


def mortal(house, dead):
    """Have a biller die at a step: a command of AGI, a write of the journal, or a request of the ledger."""
    change, charge = house.outage.journal.change, house.store.charge

    def step(work):
        if dead.is_now():
            return Deferred()
        done = work()
        if not dead.is_now():
            return done
        if isinstance(done, Deferred):
            done.addErrback(lambda _: None)
        return Deferred()

    house.outage.journal.change = lambda work: step(lambda: change(work))
    house.store.charge = lambda request, **facts: step(lambda: charge(request, **facts))

    def main(agi):
        send = agi.sendCommand

        def sent(text):
            if dead.is_now():
                agi.transport.abortConnection()
                return Deferred()
            answer = send(text)
            if text.startswith("EXEC DIAL") and dead.is_now():  # it dials, and the biller does not hear how it ends
                answer.addBoth(lambda _: agi.transport.abortConnection())
                return Deferred()
            return answer

        agi.sendCommand = sent
        return house.scripts(agi)

    house.port.factory.mainFunction = main


class Link:
    """An Asterisk that has no channel any more, and perhaps a note of the end of one."""

    def __init__(self, note):
        self._note = note
        self.ami = self

    def get(self, _server):
        return self

    def __getitem__(self, _server):
        return self

    def status(self):
        return succeed([])

    async def read_note(self, call):
        if self._note is None:
            return None
        at = call.started_at + timedelta(seconds=TALK_SECONDS)
        return CallReport(answered=True, at=at, talk_ms=TALK_SECONDS * 1000, outcome="ANSWER")


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(settlement, "SETTLE_SECONDS", 0.02)
    monkeypatch.setattr(pending_updates, "DRAIN_SECONDS", 0.02)


async def bury(house, timers):
    """Let nothing go on that a process which is gone would do."""
    house.scripts.updates._under_way.clear()
    await house.close()
    for each in reactor.getDelayedCalls():
        if each not in timers:
            each.cancel()


async def die_in_a_call(path, at, *, back_in_call):
    """Return how a call went whose biller died at this step, whether it died at all, and the channel."""
    timers = reactor.getDelayedCalls()
    house, dead = House(path, on_failure="allow", decision_seconds=0.01), Dead(at)
    house.outage.owner = GONE
    learn(house, "1001", "1002")
    house.store.trouble = {Initiate: [StoreUnavailable("away")] * 999}
    if not back_in_call:
        house.store.trouble[Terminate] = [StoreUnavailable("away")] * 999
    mortal(house, dead)
    channel = Channel("1001", "1002", talk_ms=TALK_SECONDS * 1000)
    await house.play(channel, "caller")
    house.store.charge = lambda *_args, **_facts: Deferred()
    has_died = dead.is_dead
    dead.left = -1
    await bury(house, timers)
    return has_died, channel, house.engine


async def recover(path, channel, engine, *, note, reducer):
    """Start another biller, with the ledger back, and have it look until nothing more happens."""
    house = House(path, engine=engine)
    now = datetime.now(UTC)
    calls = LedgerlessCalls(
        reactor, house.outage, house.store, Link(note), Metrics(), now=lambda: now + timedelta(hours=9)
    )
    if reducer == "before":
        await house.play(channel, "reducer")
    for _ in range(3):
        await calls.look()
    if reducer == "after":
        await house.play(channel, "reducer")
    await house.scripts.updates.drain()
    await house.outage.journal.write()
    left, account = waiting(house), voice(house.engine)
    proved(house.engine)
    await house.close()
    return left, account


WAYS = [
    (False, None, ""),
    (True, None, ""),
    (False, "ANSWER", "after"),
    (True, "ANSWER", ""),
    (False, None, "before"),
    (True, None, "after"),
]
"""Whether the ledger is back before the call ends, what the dialplan noted, and when its reducer asks."""


@pytest.mark.slow
@pytest.mark.parametrize("stride", [len(WAYS), pytest.param(1, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("way", range(len(WAYS)))
@pytest_twisted.ensureDeferred
async def test_whenever_it_dies_the_talk_is_charged_once(tmp_path, fast, way, stride):
    """Each way to be found out takes other steps to die at, and together they take all. It takes 2 s, each."""
    back_in_call, note, reducer = WAYS[way]
    for at in [*range(way % stride, STEPS_MAX, stride), STEPS_MAX]:
        path = tmp_path / f"{at}.sqlite"
        has_died, channel, engine = await die_in_a_call(path, at, back_in_call=back_in_call)
        talked = channel.dialled != ""
        left, account = await recover(path, channel, engine, note=note if talked else None, reducer=reducer)
        assert left == [], at
        assert account.held == 0, at
        is_exact = note is not None or reducer != "" or not has_died
        assert account.posted == 60 - TALK_SECONDS * talked or (talked and not is_exact and account.posted == 60), at
        if not has_died:
            break
    assert not has_died, "it has more steps than this"
