"""Calls while the ledger is away: by class of number, by what is known of the caller, within limits, and in the journal."""

import contextlib

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from celcombiller.asterisk.agi.simulator import Channel
from celcombiller.asterisk.outage import journal_file
from celcombiller.asterisk.outage.control import AWAY, NORMAL
from celcombiller.asterisk.outage.journal_file import JournalFault, JournalFile
from celcombiller.asterisk.scripts import call as call_script
from celcombiller.config.tables import Outage
from celcombiller.core.charging.requests import Initiate, Terminate
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.subscriber_records import find_by_clid
from tests.core.ledger.test_book import proved, voice

ON_NET = Outage(prefix="on-net", policy="allow", call_seconds_max=30, credits_max=40)
AWAY_FOR_EVER = [StoreUnavailable("away")] * 999


def learn(house, *numbers, available=60):
    with house.engine.begin() as tx:
        for each in numbers:
            house.outage.known.learn(find_by_clid(tx, each), available)


@pytest.fixture
def away(houses):
    """A biller whose ledger is away, and that knows two subscribers."""

    def build(*rules, known=("1001", "1002"), **facts):
        house = houses(outage=rules or (ON_NET,), decision_seconds=0.1, **facts)
        learn(house, *known)
        house.store.trouble = {Initiate: [*AWAY_FOR_EVER], Terminate: [*AWAY_FOR_EVER]}
        return house

    return build


def waiting(house):
    """Return the calls that wait in the file, as another process reads it."""
    file = JournalFile(house.outage.journal._file.path, house.outage.journal._file._ledger)
    (found,) = file.change([lambda entries: ((), [*entries])])
    file.close()
    return found


def back(house):
    house.store.trouble = {}


async def settled(house):
    await house.scripts.updates.drain()
    await house.outage.journal.write()


@pytest_twisted.ensureDeferred
async def test_a_call_is_let_go_within_its_limits(away):
    house = away()
    channel = await house.call(talk_ms=5000)
    assert channel.dialled == "PJSIP/1002,40,giL(30000)"
    assert channel.variables["CELCOMBILLER_RESULT"] == "GRANTED"
    (entry,) = waiting(house)
    assert (entry.went.seconds, entry.went.credits, entry.ended.credits) == (30, 30, 5)
    assert (house.outage.mode, house.decided()) == (AWAY, {"ALLOWED_ON_FAILURE": 1})
    back(house)
    await settled(house)
    assert voice(house.engine).posted == 55
    assert (waiting(house), house.outage.mode) == ([], NORMAL)
    proved(house.engine)


@pytest_twisted.ensureDeferred
async def test_its_line_is_durable_before_the_dial(away):
    house, seen = away(), []

    class Watching(Channel):
        def _dial(self, argument):
            seen.extend(waiting(house))
            return super()._dial(argument)

    await house.play(Watching("1001", "1002", talk_ms=1000), "caller")
    assert [each.went.called_number for each in seen] == ["1002"]
    back(house)


@pytest.mark.parametrize(
    ("caller", "called", "known", "rule", "result"),
    [
        ("1001", "2002", ("1001",), ON_NET, "FAILED"),
        ("1001", "1002", ("1001",), ON_NET, "FAILED"),
        ("1001", "1002", ("1002",), ON_NET, "UNKNOWN"),
        ("1001", "1002", ("1001", "1002"), Outage(prefix="on-net", policy="deny"), "FAILED"),
        ("1001", "1002", ("1001", "1002"), Outage(prefix="", policy="allow", credits_max=0), "FAILED"),
        ("1001", "1002", ("1001", "1002"), Outage(prefix="", policy="allow", total_credits_max=0), "FAILED"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_no_rule_allows_is_refused(away, caller, called, known, rule, result):
    house = away(rule, known=known)
    channel = await house.call(called, caller)
    assert (channel.variables["CELCOMBILLER_RESULT"], channel.dialled) == (result, "")
    assert waiting(house) == []
    back(house)


@pytest_twisted.ensureDeferred
async def test_a_rule_may_let_unknown_callers_go(away):
    house = away(Outage(prefix="", policy="allow", unknown_callers="allow", credits_max=7), known=())
    channel = await house.call(talk_ms=20_000)
    assert channel.dialled.endswith("giL(7000)")
    back(house)
    await settled(house)
    assert voice(house.engine).posted == 53


@pytest_twisted.ensureDeferred
async def test_exposure_adds_up_until_it_is_charged(away):
    house = away()
    dialled = [(await house.call(talk_ms=25_000)).dialled for _ in range(3)]
    assert [each.partition("L(")[2] for each in dialled] == ["30000)", "15000)", ""]
    back(house)
    await settled(house)
    assert voice(house.engine).posted == 20
    house.store.trouble = {Initiate: [*AWAY_FOR_EVER]}
    learn(house, "1001", available=20)
    assert (await house.call(talk_ms=1000)).dialled.endswith("L(20000)")


@pytest_twisted.ensureDeferred
async def test_no_more_than_the_known_balance_is_exposed(away):
    house = away()
    learn(house, "1001", available=0)
    channel = await house.call()
    assert (channel.variables["CELCOMBILLER_RESULT"], channel.dialled) == ("NO_CREDIT", "")
    back(house)


@pytest_twisted.ensureDeferred
async def test_a_full_disk_denies_and_says_so(away, monkeypatch):
    house = away()

    def full(*_facts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal_file.os, "pwrite", full)
    channel = await house.call()
    assert (channel.variables["CELCOMBILLER_RESULT"], channel.dialled) == ("FAILED", "")
    assert "No space left on device" in house.outage.journal.state.fault
    monkeypatch.undo()
    channel = await house.call(talk_ms=1000)
    assert channel.dialled != ""
    assert house.outage.journal.state.fault == ""
    back(house)
    await settled(house)
    assert voice(house.engine).posted == 59


@pytest_twisted.ensureDeferred
async def test_an_end_that_cannot_be_written_is_charged(away, monkeypatch):
    house = away()

    class Filling(Channel):
        def _dial(self, argument):
            def full(*_facts):
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(journal_file.os, "pwrite", full)
            return super()._dial(argument)

    await house.play(Filling("1001", "1002", talk_ms=5000), "caller", "reducer")
    with contextlib.suppress(JournalFault):
        await house.outage.journal.write()
    (entry,) = waiting(house)
    assert entry.ended is None
    monkeypatch.undo()
    await house.outage.journal.write()
    assert house.outage.journal.state.fault == ""
    house.outage.write_again()
    await house.outage.journal.write()
    (entry,) = waiting(house)
    assert entry.ended.credits == 5
    back(house)
    await settled(house)
    assert (voice(house.engine).posted, waiting(house)) == (55, [])


@pytest_twisted.ensureDeferred
async def test_a_slow_journal_denies(away, monkeypatch):
    house = away()
    monkeypatch.setattr(call_script, "JOURNAL_SECONDS", 0.05)
    change, late = house.outage.journal.change, Deferred()

    def slowly(work):
        done = change(work)
        monkeypatch.setattr(house.outage.journal, "change", change)
        return late.addCallback(lambda _: done)

    monkeypatch.setattr(house.outage.journal, "change", slowly)
    channel = await house.call()
    assert (channel.variables["CELCOMBILLER_RESULT"], channel.dialled) == ("FAILED", "")
    late.callback(None)
    await deferLater(reactor, 0.05)
    await house.outage.journal.write()
    assert waiting(house) == []
    back(house)


@pytest.mark.parametrize("trouble", [None, OSError(28, "No space left on device"), ZeroDivisionError()])
@pytest_twisted.ensureDeferred
async def test_a_grant_during_the_journal_is_not_lost(away, monkeypatch, expected_failures, trouble):
    """It comes while the line is written: the call has it, or gives it back."""
    house = away()
    late = house.store.trouble[Initiate] = Deferred()
    house.store.trouble[Terminate] = []
    change = house.outage.journal.change

    def fail(*_facts):
        raise trouble

    def meanwhile(work):
        if not late.called:
            late.callback(None)
            if trouble:
                monkeypatch.setattr(journal_file.os, "pwrite", fail)
        return change(work)

    monkeypatch.setattr(house.outage.journal, "change", meanwhile)
    channel = await house.call(talk_ms=5000)
    monkeypatch.undo()
    await settled(house)
    assert (channel.dialled != "") == (trouble is None)
    assert channel.variables["CELCOMBILLER_RESULT"] == ("FAILED" if trouble else "GRANTED")
    assert (voice(house.engine).posted, voice(house.engine).held) == (60 if trouble else 55, 0)
    proved(house.engine)
    assert {each.type for each in expected_failures} <= {ZeroDivisionError}
    expected_failures.clear()


@pytest_twisted.ensureDeferred
async def test_a_known_number_stays_off_the_trunk(away):
    """With external_dial a subscriber's number was dialled by the trunk while the ledger was away."""
    house = away(external_dial="PJSIP/{number}@trunk", internal_dial="PJSIP/IMSI{imsi}", on_failure="allow")
    dialled = [(await house.call(each)).dialled.partition(",")[0] for each in ("1002", "5511")]
    with house.engine.begin() as tx:
        imsi = find_by_clid(tx, "1002").imsi
    assert dialled == [f"PJSIP/IMSI{imsi}", "PJSIP/5511@trunk"]
    back(house)


@pytest_twisted.ensureDeferred
async def test_a_refused_charge_is_done_with(away):
    """The caller is deleted before the ledger is back: the log says that nobody pays, and nothing waits for ever."""
    house = away()
    await house.call(talk_ms=5000)
    with house.engine.begin() as tx:
        tx.execute(sa.update(tables.subscriber).values(deleted_at=sa.func.now()))
    back(house)
    await settled(house)
    assert waiting(house) == []
    with house.engine.begin() as tx:
        assert tx.execute(sa.select(tables.call.c.id)).all() == []


@pytest_twisted.ensureDeferred
async def test_a_lost_session_leaves_its_call_waiting(away):
    house = away()

    class Cut(Channel):
        def answer(self, line):
            answered = super().answer(line)
            if line.startswith("EXEC DIAL"):
                peer.transport.abortConnection()
            return answered

    from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol  # noqa: PLC0415

    from celcombiller.asterisk.agi.simulator import AgiPeer  # noqa: PLC0415

    channel = Cut("1001", "1002", talk_ms=5000)
    peer = AgiPeer(channel, channel.environment("caller", "127.0.0.1"))
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", house.port.getHost().port), peer)
    await peer.over
    await deferLater(reactor, 0.02)
    await house.outage.journal.write()
    (entry,) = waiting(house)
    assert (entry.is_lost, entry.ended) == (True, None)
    assert not house.outage.has_in_hand(entry.went.id)
    back(house)
    await house.play(channel, "reducer")
    await settled(house)
    assert (voice(house.engine).posted, waiting(house)) == (55, [])
