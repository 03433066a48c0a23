"""The AMI witness, with Asterisk's answers played: what it believes, what it settles, what it leaves alone."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from celcombiller.asterisk.ami import event_clock, reconciliation
from celcombiller.asterisk.ami.alive_signal import SIGNAL_SECONDS, AliveSignal
from celcombiller.asterisk.ami.codec import AmiProtocolError, AmiRefused
from celcombiller.asterisk.ami.link import (
    HEARTBEAT_SECONDS,
    OTHERS_SECONDS,
    SECOND_LIST_SECONDS,
    SWEEP_SECONDS,
    AmiLink,
)
from celcombiller.asterisk.ami.live_calls import MISSED, Hearing, LiveCalls
from celcombiller.asterisk.ami.probe import UNHEARD
from celcombiller.asterisk.ami.witness import LOG_NAMESPACE
from celcombiller.core.charging.requests import CallAnswered
from celcombiller.core.errors import BillerError, StoreUnavailable
from celcombiller.core.model.calls import CallReport, CallState, Witness
from celcombiller.core.schema import tables
from celcombiller.core.voice.asterisk_heartbeat import (
    last_call_event,
    server_last_seen,
    server_not_seen_beyond,
    server_seen,
)
from celcombiller.core.voice.call_queries import still_open
from celcombiller.core.voice.evidence import talk_ms
from celcombiller.jobs import expiry
from celcombiller.jobs.expiry import close_overdue
from celcombiller.runtime.metrics import Metrics
from celcombiller.runtime.timers.clock_steps import ClockSteps
from tests.core.ledger.test_book import ask, credit, database, ended, initiate, proved, voice
from tests.support.deferreds import result_of

CHANNEL = "PJSIP/1001-1.0"
LEG = "PJSIP/1002-1.1"
ACTIONS = (
    "Status",
    "AbsoluteTimeout",
    "Hangup",
    "PlayDTMF",
    "Getvar",
    "Setvar",
    "DBGet",
    "CoreSettings",
    "MessageSend",
)
GLOBALS = {"DB_EXISTS(celcombiller/none)": "0", "CELCOMBILLER": "agi://127.0.0.1:4573", "CELCOMBILLER_SECOND": ""}


class StoreHere:
    def __init__(self, engine):
        self.engine, self.away, self.faults = engine, False, []

    def charge(self, request, *, deferrable=False):
        if self.faults:
            return fail(self.faults.pop())
        if self.away:
            return fail(StoreUnavailable("away"))
        (answer,) = ask(self.engine, request, now=datetime.now(UTC))
        return fail(answer) if isinstance(answer, BillerError) else succeed(answer)

    def transact(self, work):
        if self.away:
            return fail(StoreUnavailable("away"))
        with self.engine.begin() as tx:
            return succeed(work(tx))


class Asterisk:
    """AMI as the monitor uses it: what is alive, the note it has, and what it was told to do."""

    def __init__(self):
        self.alive, self.note, self.limits, self.hearers = [CHANNEL], None, [], {}
        self.lacking, self.variables = set(), {"TIMEOUT(absolute)": "0", "STRFTIME(,,%s)": "1", **GLOBALS}
        self.fullyBooted, self.ahead_seconds = True, 0
        self.asked, self.hung_up = [], []
        self.incomplete = False
        self.closed = Deferred()
        self.transport = self

    bridge = ""

    def loseConnection(self):
        closed, self.closed = self.closed, Deferred()
        closed.callback(None)

    def onClose(self):
        return self.closed

    def registerEvent(self, names, hearer):
        for name in [names] if isinstance(names, str) else names:
            self.hearers[name] = hearer

    def absoluteTimeout(self, channel, seconds):
        self.limits.append((channel, seconds))
        return succeed({})

    def hangup(self, channel):
        self.hung_up.append(channel)
        return succeed({})

    def getPeer(self):
        return IPv4Address("TCP", "127.0.0.1", 5038)

    getHost = getPeer

    def getVar(self, channel, variable):
        if "Getvar" in self.lacking:
            return fail(AmiRefused("Permission denied"))
        return succeed(self.variables.get(variable))

    def setVar(self, channel, variable, value):
        self.variables[variable] = value
        return succeed({})

    def sendDeferred(self, message):
        if message["Action"] == "Ping":
            return succeed({"response": "Success", "timestamp": stamp(-self.ahead_seconds)})
        if message["Action"] == "CoreSettings":
            return succeed({"response": "Success", "systemname": "pbx1"})
        return succeed({name.lower(): "(Priv: x)" for name in ACTIONS if name not in self.lacking})

    def collectDeferred(self, request, stop):
        if self.note is None:
            return fail(AmiRefused("Database entry not found"))
        return succeed([{"response": "Success"}, {"event": "DBGetResponse", "val": self.note}, {"event": stop}])

    def status(self, channel=None):
        self.asked.append(channel)
        if self.incomplete:
            return fail(AmiProtocolError("the list is short"))
        if channel is not None and channel not in self.alive:
            return fail(AmiRefused("No such channel"))
        return succeed(
            [
                {"event": "Status", "channel": name, "uniqueid": name.partition("-")[2], "bridgeid": self.bridge}
                for name in self.alive
            ]
        )

    def event(self, name, **fields):
        self.hearers[name](self, {"event": name, "channel": CHANNEL, "uniqueid": "1.0", **fields})


@pytest.fixture
def scene(tmp_path):
    made = Scene(tmp_path / "db.sqlite")
    yield made
    made.monitor.stopService()
    made.engine.dispose()


@pytest.fixture
def expiry_log(monkeypatch):
    """The lines of the log of what is overdue."""
    lines = []
    monkeypatch.setattr(expiry, "_OVERDUE", expiry._OverdueLog())
    observer = lambda event: lines.append(formatEvent(event)) if event.get("log_namespace") == expiry.__name__ else None  # noqa: E731
    globalLogPublisher.addObserver(observer)
    yield lines
    globalLogPublisher.removeObserver(observer)


TALKING_SECONDS = 30
"""So long ago the call of a scene began."""


class Scene:
    """A call of user 1001 is up: granted, known to the monitor, its session in this process."""

    unreachable = False

    def __init__(self, path, *, watched=True):
        self.engine, self.clock, self.asterisk = database(path), Clock(), Asterisk()
        self.store = StoreHere(self.engine)
        ask(self.engine, credit(60))
        self.began = datetime.now(UTC) - timedelta(seconds=TALKING_SECONDS)
        (self.grant,) = ask(self.engine, initiate(), now=self.began)
        self.metrics = Metrics(self.clock.seconds)
        self.start_biller()
        if watched:
            self.monitor.watch(self.grant.call)
            self.monitor.live_calls.find("1.0").watched_at -= TALKING_SECONDS

    def start_biller(self):
        """Begin with a link that knows nothing of what was before: the biller was started again."""
        self.monitor = AmiLink(self.clock, "pbx1", self.login, self.store, self.metrics)
        self.monitor.startService()

    def start_without_channels(self):
        """Start the biller again when no channel is left, and have it see that twice."""
        self.asterisk.alive = []
        self.start_biller()
        self.sweep(2)

    def login(self):
        return fail(AmiProtocolError("not there")) if self.unreachable else succeed(self.asterisk)

    def told(self, name):
        text = self.metrics.exposition(None, {"pbx1": self.monitor.gone}).decode()
        return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).rpartition(" ")[2])

    def sweep(self, times=1):
        self.clock.pump([SWEEP_SECONDS] * times)


def stamp(seconds_ago):
    return f"{(datetime.now(UTC) - timedelta(seconds=seconds_ago)).timestamp():.6f}"


def answered(scene, seconds_ago=10.0, **facts):
    fields = {"dialstatus": "ANSWER", "destuniqueid": "1.1", "timestamp": stamp(seconds_ago), **facts}
    scene.asterisk.event("DialEnd", **fields)


def test_an_answer_restarts_the_limit(scene):
    answered(scene, seconds_ago=0.0)
    ((channel, seconds),) = scene.asterisk.limits
    assert channel == CHANNEL
    assert 59 < seconds <= 60


def test_an_unreported_hangup_settles_by_callee_time(scene):
    answered(scene, seconds_ago=10)
    scene.monitor.session_lost("1.0")
    scene.asterisk.event("Hangup", channel="PJSIP/1002-1.1", uniqueid="1.1", timestamp=stamp(4))
    scene.asterisk.alive = []
    scene.asterisk.event("Hangup", timestamp=stamp(0), cause="16")
    assert voice(scene.engine).held == 0
    assert voice(scene.engine).posted in (53, 54)  # six seconds by two readings of the clock
    proved(scene.engine)


def test_a_forged_hangup_of_live_channels_is_ignored(scene):
    answered(scene)
    scene.asterisk.event("Hangup", timestamp=stamp(0))
    assert voice(scene.engine).held == 60


def test_a_hangup_of_another_channel_is_ignored(scene):
    answered(scene)
    scene.asterisk.alive = []
    scene.asterisk.event("Hangup", channel="PJSIP/evil-1", timestamp=stamp(0))
    assert voice(scene.engine).held == 60


def test_an_unanswered_call_that_is_gone_is_released(scene):
    scene.asterisk.alive = []
    scene.asterisk.event("Hangup", timestamp=stamp(0))
    assert (voice(scene.engine).posted, voice(scene.engine).held) == (60, 0)


def test_a_transferred_caller_pays_to_his_own_end(scene):
    answered(scene, seconds_ago=10)
    scene.asterisk.event("BlindTransfer", transfereeuniqueid="1.0")
    scene.asterisk.event("Hangup", channel="PJSIP/1002-1.1", uniqueid="1.1", timestamp=stamp(8))
    scene.monitor.transferred("1.0")
    scene.asterisk.alive = []
    scene.asterisk.event("Hangup", timestamp=stamp(0))
    assert voice(scene.engine).posted in (49, 50)


@pytest.mark.parametrize("ahead_seconds", [-86_400, -20, 0, 20, 86_400])
def test_the_limit_does_not_depend_on_clocks(scene, logged, ahead_seconds):
    scene.asterisk.ahead_seconds = ahead_seconds
    scene.sweep()
    answered(scene, seconds_ago=10 - ahead_seconds)
    ((_, seconds),) = scene.asterisk.limits
    assert 49 < seconds < 51
    assert any("set both by NTP" in line for line in logged) == (ahead_seconds != 0)


@pytest.mark.parametrize("is_known", ["by the event", "by the session"])
def test_a_transferred_call_gets_no_new_limit(scene, is_known):
    answered(scene, seconds_ago=10)
    if is_known == "by the event":
        scene.asterisk.event("BlindTransfer", transfereeuniqueid="1.0")
    else:
        scene.monitor.transferred("1.0")
    scene.asterisk.event("Hangup", channel="PJSIP/1002-1.1", uniqueid="1.1", timestamp=stamp(8))
    scene.asterisk.event("DialBegin", destuniqueid="1.2", timestamp=stamp(8))
    answered(scene, seconds_ago=6, destuniqueid="1.2")
    assert len(scene.asterisk.limits) == 1
    scene.monitor.transferred("1.0")
    scene.asterisk.alive = []
    scene.asterisk.event("Hangup", timestamp=stamp(0))
    assert voice(scene.engine).posted in (49, 50)


def left_to_others(scene, event, **facts):
    """The call talked for 10 s; its caller then left the callee's channel, which lives, to others."""
    answered(scene, seconds_ago=10)
    scene.asterisk.event(event, **facts)
    settle(scene)
    scene.asterisk.alive = [LEG]
    scene.asterisk.event("Hangup", timestamp=stamp(0))


@pytest.mark.parametrize(
    ("event", "facts"),
    [
        ("AttendedTransfer", {"origtransfereruniqueid": "7.7", "secondtransfereruniqueid": "1.0"}),
        ("AttendedTransfer", {"origtransfereruniqueid": "1.0", "secondtransfereruniqueid": "7.7"}),
        ("ParkedCall", {"parkeeuniqueid": "1.1"}),
    ],
)
def test_a_leg_left_to_others_is_still_paid(scene, event, facts):
    left_to_others(scene, event, **facts)
    assert voice(scene.engine).held == 55
    assert scene.asterisk.limits[-1] == (LEG, 55)
    scene.asterisk.alive = []
    scene.asterisk.event("Hangup", channel=LEG, uniqueid="1.1", timestamp=stamp(-3))
    assert voice(scene.engine).posted in (51, 52)
    assert voice(scene.engine).held == 0
    proved(scene.engine)


def test_one_channel_that_transfers_leaves_no_leg(scene):
    left_to_others(scene, "AttendedTransfer", origtransfereruniqueid="1.0", secondtransfereruniqueid="1.0")
    assert voice(scene.engine).held == 0


def test_a_leg_without_credit_is_hung_up(scene):
    answered(scene, seconds_ago=70)
    scene.asterisk.event("ParkedCall", parkeeuniqueid="1.1")
    ask(scene.engine, ended(talk_ms=60_000))
    scene.monitor.closed("1.0", talked=True)
    scene.asterisk.alive = [LEG]
    scene.asterisk.event("Hangup", timestamp=stamp(0))
    assert scene.asterisk.hung_up == [LEG]
    assert voice(scene.engine).posted == 0


def test_a_leg_waits_for_the_ledger(scene):
    answered(scene, seconds_ago=10)
    scene.asterisk.event("ParkedCall", parkeeuniqueid="1.1")
    settle(scene)
    scene.asterisk.alive = [LEG]
    scene.store.faults = [StoreUnavailable("away"), StoreUnavailable("away")]
    scene.asterisk.event("Hangup", timestamp=stamp(0))
    assert voice(scene.engine).held == 0
    scene.clock.advance(1)
    assert voice(scene.engine).held == 55


def test_a_leg_with_its_own_call_is_left(scene):
    answered(scene, seconds_ago=10)
    scene.asterisk.event("ParkedCall", parkeeuniqueid="1.1")
    settle(scene)
    (own,) = ask(scene.engine, initiate("1.1", caller="1001"))
    scene.monitor.watch(own.call)
    held = voice(scene.engine).held
    scene.asterisk.alive = [LEG]
    scene.asterisk.event("Hangup", timestamp=stamp(0))
    assert voice(scene.engine).held == held


def test_two_lists_without_a_call_end_it(scene):
    answered(scene, seconds_ago=10)
    scene.monitor.session_lost("1.0")
    assert scene.told('celcombiller_gone_calls{server="pbx1"}') == 0
    scene.asterisk.alive = []
    scene.sweep()
    assert voice(scene.engine).held == 60
    assert scene.told('celcombiller_gone_calls{server="pbx1"}') == 1
    scene.sweep()
    assert voice(scene.engine).held == 0
    assert scene.told('celcombiller_gone_calls{server="pbx1"}') == 0
    assert scene.told('celcombiller_calls_ended_total{state="settled",witness="sweep"}') == 1
    assert voice(scene.engine).posted < 60
    proved(scene.engine)


def test_an_end_that_met_faults_is_swept_again(scene, expected_failures):
    answered(scene, seconds_ago=10)
    scene.monitor.session_lost("1.0")
    scene.asterisk.alive = []
    scene.store.faults = [KeyError("in the sweep"), KeyError("at the hangup")]
    scene.asterisk.event("Hangup", timestamp=stamp(0))
    scene.sweep(3)
    assert voice(scene.engine).held == 0
    assert voice(scene.engine).posted in (49, 50)
    proved(scene.engine)
    assert [each.type for each in expected_failures] == [KeyError, KeyError]
    expected_failures.clear()


def test_a_faulty_call_blocks_no_other(scene, expected_failures):
    ask(scene.engine, credit(60, reference="s", username="u1003"))
    ask(scene.engine, initiate("3.0", caller="1003"), now=scene.began)
    scene.monitor.session_lost("1.0")
    scene.asterisk.alive = []
    scene.sweep()
    scene.store.faults = [KeyError("a fault") for _ in range(4)]
    scene.sweep()  # twice: five seconds after the last, and one second after a list that missed a call
    assert not scene.store.faults
    assert len(expected_failures) == 4
    expected_failures.clear()


def test_a_call_with_a_session_is_left_alone(scene):
    scene.asterisk.alive = []
    scene.sweep(5)
    assert voice(scene.engine).held == 60


def test_a_list_that_is_not_complete_ends_nothing(scene):
    scene.monitor.session_lost("1.0")
    scene.asterisk.alive, scene.asterisk.incomplete = [], True
    scene.sweep(5)
    assert voice(scene.engine).held == 60


def test_the_dialplans_note_of_the_end_is_exact(scene):
    scene.monitor.session_lost("1.0")
    scene.asterisk.alive = []
    scene.asterisk.note = f"ANSWER|7100|{stamp(20)}|{stamp(12)}"
    scene.sweep(2)
    assert voice(scene.engine).posted == 52
    proved(scene.engine)


def test_no_call_looks_at_all_others(scene, monkeypatch):
    """Beside 15,000 calls half of the biller's work was to look at each of them whenever one ended."""
    looks, iterate = [], LiveCalls.__iter__
    monkeypatch.setattr(LiveCalls, "__iter__", lambda calls: looks.append(calls) or iterate(calls))
    ask(scene.engine, credit(9, reference="more"))
    (grant,) = ask(scene.engine, initiate("2.0"), now=datetime.now(UTC))
    scene.monitor.watch(grant.call)
    answered(scene, seconds_ago=3, channel=grant.call.channel, uniqueid="2.0", destuniqueid="2.1")
    said = CallReport(answered=True, at=datetime.now(UTC), talk_ms=3000)
    assert scene.monitor.correct("2.0", said, is_fresh=True).talk_ms == 3000
    scene.store.charge(ended("2.0", talk_ms=3000))
    scene.monitor.closed("2.0", talked=True)
    scene.asterisk.event("Hangup", channel=grant.call.channel, uniqueid="2.0", timestamp=stamp(0), cause="16")
    assert scene.monitor.live_calls.find("2.0") is None
    assert looks == []


@pytest.mark.parametrize("calls", range(1, 6))
def test_a_sweep_reads_calls_in_pages(scene, monkeypatch, calls):
    """A transaction that reads all of very many keeps new calls waiting for its thread."""
    monkeypatch.setattr(reconciliation, "PAGE_CALLS", 2)
    for number in range(2, calls + 1):
        ask(scene.engine, credit(9, reference=f"more {number}"), initiate(f"{number}.0"), now=scene.began)
    read, transact = [], scene.store.transact
    monkeypatch.setattr(
        scene.store, "transact", lambda work: transact(work).addCallback(lambda got: read.append(got) or got)
    )
    scene.monitor.session_lost("1.0")
    scene.asterisk.alive = []
    scene.sweep(2)
    assert voice(scene.engine).held == 0
    assert max(len(each) for each in read if isinstance(each, list)) == min(calls, 2)
    proved(scene.engine)


def test_only_what_changed_is_read_whole(scene, monkeypatch):
    read = []
    monkeypatch.setattr(
        reconciliation, "still_open", lambda tx, references: read.append(references) or still_open(tx, references)
    )
    scene.sweep()
    assert read == []
    with scene.engine.begin() as tx:
        tx.execute(sa.update(tables.call).values(granted_seconds=30))
    scene.sweep(2)
    assert read == [[scene.grant.call.reference]]
    assert scene.monitor.live_calls.find("1.0").call.granted_seconds == 30


@pytest.fixture
def others(tmp_path):
    """The same call, begun by another biller; this one has found it in the ledger."""
    made = Scene(tmp_path / "db.sqlite", watched=False)
    made.sweep()
    yield made
    made.monitor.stopService()
    made.engine.dispose()


def test_another_billers_end_costs_nothing_here(others):
    answered(others, seconds_ago=10)
    ask(others.engine, CallAnswered("pbx1", "1.0", datetime.now(UTC) - timedelta(seconds=10)))
    others.asterisk.alive, others.asterisk.asked = [], []
    others.asterisk.event("Hangup", timestamp=stamp(0))
    ask(others.engine, ended(talk_ms=10_000))
    others.clock.advance(OTHERS_SECONDS)
    assert others.asterisk.asked == []
    with others.engine.begin() as tx:
        assert tx.execute(sa.select(tables.testimony.c.witness)).scalars().all() == ["agi"]
    assert voice(others.engine).posted == 50


def test_another_billers_missed_end_is_settled(others):
    answered(others, seconds_ago=10)
    others.asterisk.alive = []
    others.asterisk.event("Hangup", timestamp=stamp(3))
    assert voice(others.engine).held == 60
    others.clock.advance(OTHERS_SECONDS)
    assert voice(others.engine).held == 0
    assert voice(others.engine).posted in (52, 53)
    proved(others.engine)


def test_another_billers_missed_limit_is_set(others):
    answered(others, seconds_ago=0)
    ask(others.engine, CallAnswered("pbx1", "1.0", datetime.now(UTC)))
    others.clock.advance(OTHERS_SECONDS)
    assert others.asterisk.limits == []


def test_a_dead_billers_answered_call_gets_its_limit(others):
    answered(others, seconds_ago=0)
    others.clock.advance(OTHERS_SECONDS)
    assert len(others.asterisk.limits) == 1
    with others.engine.begin() as tx:
        assert tx.execute(sa.select(tables.call.c.answered_at)).scalar_one() is not None


@pytest.mark.parametrize("ahead_seconds", [0, -3600, 3600])
@pytest.mark.parametrize(("channel", "witness", "posted"), [(None, "ami", {52, 53}), ("PJSIP/9-9.9", "sweep", {59})])
def test_a_hangup_before_its_call_is_known(others, channel, witness, posted, ahead_seconds):
    """Another biller began it after the last list, and died; a Hangup of another channel is not the call's.

    Asterisk's clock is set before the next list.
    """
    ask(others.engine, ended(answered=False))
    (grant,) = ask(others.engine, initiate("2.0"), now=datetime.now(UTC) - timedelta(seconds=30))
    ask(others.engine, CallAnswered("pbx1", "2.0", datetime.now(UTC) - timedelta(seconds=10)))
    others.asterisk.event("Hangup", uniqueid="2.0", channel=channel or grant.call.channel, timestamp=stamp(3))
    forget_times(others.engine, datetime.now(UTC) - timedelta(minutes=5))
    others.asterisk.alive, others.asterisk.ahead_seconds = [], ahead_seconds
    others.sweep(2)
    with others.engine.begin() as tx:
        query = sa.select(tables.testimony.c.witness).where(tables.testimony.c.reference == grant.call.reference)
        assert tx.execute(query).scalar_one() == witness
    assert voice(others.engine).posted in posted
    proved(others.engine)


def test_a_hangup_during_an_outage_keeps_its_time(others):
    answered(others, seconds_ago=10)
    others.clock.advance(OTHERS_SECONDS)
    others.asterisk.alive, others.store.away = [], True
    others.asterisk.event("Hangup", timestamp=stamp(-4))  # four seconds after the list that still had it
    others.clock.advance(OTHERS_SECONDS)
    others.store.away = False
    others.sweep(2)
    assert voice(others.engine).held == 0
    assert voice(others.engine).posted in (45, 46)
    proved(others.engine)


def test_the_second_leg_of_anothers_channel_is_known(others):
    ask(others.engine, ended(answered=False))
    ask(others.engine, credit(5, reference="more"), initiate(authorization="second"), now=others.began)
    others.sweep()
    answered(others, seconds_ago=10)
    others.asterisk.alive = []
    others.asterisk.event("Hangup", timestamp=stamp(0))
    others.clock.advance(OTHERS_SECONDS)
    assert voice(others.engine).held == 0
    assert voice(others.engine).posted in (54, 55)


def test_long_lists_are_asked_for_less_often(scene):
    answer = Deferred()
    scene.asterisk.status = lambda channel=None: answer
    scene.sweep()
    scene.clock.advance(2)
    items = [{"event": "Status", "channel": CHANNEL, "uniqueid": "1.0"}]
    lists = []
    scene.asterisk.status = lambda channel=None: lists.append(1) or succeed(items)
    answer.callback(items)
    for _ in range(7):
        scene.sweep()
    assert lists == []
    scene.sweep()
    assert lists == [1]


@pytest.mark.parametrize("is_here", [True, False])
def test_linked_servers_calls_never_just_expire(scene, is_here):
    """Their sweep asks Asterisk for the channel first, in this biller or in another one."""
    scene.sweep()
    late = scene.grant.expires_at + timedelta(days=1)
    with scene.engine.begin() as tx:
        server_seen(tx, "pbx1", late - timedelta(seconds=0 if is_here else 20))
    Deferred.fromCoroutine(
        close_overdue(StoreHere(scene.engine), {"pbx1": scene.monitor} if is_here else {}, late, Metrics())
    )
    assert voice(scene.engine).held == 60


def test_a_lost_link_is_connected_again(scene):
    scene.asterisk.loseConnection()
    scene.clock.advance(0)
    assert scene.monitor.connected


def test_the_time_without_a_link_is_measured(scene):
    up, gap_seconds = 'celcombiller_ami_up{server="pbx1"}', 'celcombiller_ami_gap_seconds_total{server="pbx1"}'
    scene.clock.advance(100)
    assert (scene.told(up), scene.told(gap_seconds)) == (1, 0)
    scene.unreachable = True
    scene.asterisk.loseConnection()
    scene.clock.advance(0.25)
    assert (scene.told(up), scene.told(gap_seconds)) == (0, 0.25)


@pytest.mark.parametrize(("link_lost_after", "cost"), [(10, 10), (600, 60)])
def test_a_call_lost_with_asterisk_costs_known_talk(scene, link_lost_after, cost):
    began = scene.grant.call.started_at
    ask(scene.engine, CallAnswered("pbx1", "1.0", began))
    scene.monitor.stopService()
    with scene.engine.begin() as tx:
        tx.execute(sa.delete(tables.server))
        server_seen(tx, "pbx1", began + timedelta(seconds=link_lost_after))
    late = scene.grant.expires_at + timedelta(seconds=1)
    Deferred.fromCoroutine(close_overdue(StoreHere(scene.engine), {}, late, Metrics()))
    assert (voice(scene.engine).posted, voice(scene.engine).held) == (60 - cost, 0)
    proved(scene.engine)


@pytest.mark.parametrize(("is_configured", "late_seconds"), [(True, 3601), (False, 1)])
def test_a_call_without_witness_ends_after_its_hold(scene, expiry_log, is_configured, late_seconds):
    """A link that is configured is waited for, as Asterisk may have a note of the end, but not for ever."""
    scene.monitor.stopService()
    store = StoreHere(scene.engine)
    links = {"pbx1": scene.monitor} if is_configured else {}
    soon, late = (scene.grant.expires_at + timedelta(seconds=seconds) for seconds in (late_seconds - 2, late_seconds))
    for _ in range(2):
        Deferred.fromCoroutine(close_overdue(store, links, soon, Metrics()))
    assert voice(scene.engine).held == 60
    assert [line for line in expiry_log if "longer than it was valid" in line] == [
        "Open calls of pbx1 (1) hold credit for longer than it was valid: they wait for its AMI link, 60 min at most"
    ] * is_configured
    Deferred.fromCoroutine(close_overdue(store, links, late, scene.metrics))
    assert scene.told('celcombiller_calls_ended_total{state="expired",witness="sweep"}') == 1
    assert (voice(scene.engine).posted, voice(scene.engine).held) == (60, 0)
    proved(scene.engine)


# -- what the link cannot do -----------------------------------------------------------------------------------------


@pytest.fixture
def logged():
    """The lines of the link's log."""
    lines = []

    def hear(event):
        if event.get("log_namespace") == LOG_NAMESPACE:
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(hear)
    yield lines
    globalLogPublisher.removeObserver(hear)


def hold_next_ping(scene):
    """Return the answer of the next ping, which the test gives when it likes."""
    answer, usual = Deferred(), scene.asterisk.sendDeferred
    held = [answer]
    scene.asterisk.sendDeferred = lambda message: held.pop() if held and message["Action"] == "Ping" else usual(message)
    return answer


def reconnect(scene, **facts):
    for name, value in facts.items():
        setattr(scene.asterisk, name, value)
    scene.asterisk.loseConnection()
    scene.clock.advance(0)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"lacking": {"Status", "DBGet"}}, '"write=" in manager.conf needs call,reporting'),
        ({"fullyBooted": False}, "hears no events"),
        ({"variables": {}}, "func_timeout is not loaded"),
    ],
)
def test_what_a_login_lacks_is_reported(scene, logged, facts, says):
    assert scene.monitor.faults == []
    reconnect(scene, **facts)
    scene.sweep(3)
    assert any(says in fault for fault in scene.monitor.faults)
    assert sum(says in line for line in logged) == 1
    assert scene.told('celcombiller_ami_faults{server="pbx1"}') == len(scene.monitor.faults)


def test_a_right_for_messages_is_needed_to_send(scene):
    reconnect(scene, lacking={"MessageSend"})
    assert scene.monitor.faults == []
    scene.monitor._sends_messages = True
    reconnect(scene)
    assert "MessageSend" in scene.monitor.faults[0]


@pytest.mark.parametrize(
    ("stamped", "says"),
    [
        (None, "timestampevents=yes"),
        ("9" * 5000, "cannot be read"),
        ("1795387182.22405\ufffd", "cannot be read"),
        ("-1", "cannot be read"),
        ("1e400", "cannot be read"),
        ("\u0661\u0662", "cannot be read"),
        ("253402300799.999999", "is not from now"),
        ("12.5", "is not from now"),
    ],
)
def test_a_useless_timestamp_is_one_line(scene, logged, stamped, says):
    facts = {} if stamped is None else {"timestamp": stamped}
    for _ in range(3):
        scene.asterisk.event("DialEnd", dialstatus="ANSWER", destuniqueid="1.1", **facts)
    assert len(scene.asterisk.limits) == 1
    assert len([line for line in logged if says in line]) == 1
    scene.monitor.session_lost("1.0")
    scene.asterisk.alive = []
    scene.asterisk.event("Hangup", cause="16", **facts)
    assert voice(scene.engine).held == 0
    proved(scene.engine)


VALUES = st.one_of(st.text(max_size=40), st.sampled_from(["9" * 5000, "\0", "1.0", "1.1", CHANNEL, "ANSWER", "-0"]))
KEYS = ("channel", "uniqueid", "timestamp", "dialstatus", "destuniqueid", "cause", "linkedid")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["DialBegin", "DialEnd", "Hangup", "BlindTransfer", "AttendedTransfer", "ParkedCall"]),
            st.dictionaries(st.sampled_from(KEYS), VALUES),
        ),
        max_size=6,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_event_is_a_fault_whatever_it_says(scene, events):
    for name, fields in events:
        scene.asterisk.hearers[name](scene.asterisk, {"event": name, **fields})
    proved(scene.engine)


def test_events_that_should_have_come_are_missed(scene, logged):
    settle(scene)
    scene.asterisk.alive = []
    scene.sweep(2)
    assert scene.monitor.faults == [UNHEARD["DialEnd"], UNHEARD["Hangup"]]
    assert len([line for line in logged if "no DialEnd" in line]) == 1


def test_events_that_came_are_not_missed(scene):
    answered(scene)
    settle(scene)
    scene.asterisk.alive = []
    scene.asterisk.event("Hangup", timestamp=stamp(0))
    scene.sweep(2)
    assert scene.monitor.faults == []


def test_events_while_unlinked_are_not_missed(scene):
    reconnect(scene)
    settle(scene)
    scene.asterisk.alive = []
    scene.sweep(2)
    assert scene.monitor.faults == []


def settle(scene):
    """The session reports the end of the call, before AMI does."""
    (settlement,) = ask(scene.engine, ended(talk_ms=5000))
    scene.monitor.closed("1.0", talked=settlement.call.state is CallState.SETTLED)


@pytest.mark.parametrize(("heard", "cost"), [(True, 0), (False, 30)])
def test_silence_on_a_deaf_link_proves_nothing(tmp_path, heard, cost):
    scene = Scene(tmp_path / "db.sqlite", watched=False)
    if heard:
        scene.asterisk.event("DialBegin", timestamp=stamp(30))
    scene.sweep()  # the channel is alive, 30 s after it began
    scene.asterisk.alive = []
    scene.sweep(2)
    assert voice(scene.engine).held == 0
    assert voice(scene.engine).posted in (60 - cost, 60 - cost - 1)
    scene.monitor.stopService()
    proved(scene.engine)
    scene.engine.dispose()


def test_a_biller_started_again_knows_that_events_come(tmp_path):
    scene = Scene(tmp_path / "db.sqlite", watched=False)
    scene.asterisk.event("DialBegin", timestamp=stamp(30))
    scene.monitor.stopService()
    scene.asterisk = Asterisk()
    scene.start_without_channels()
    assert (voice(scene.engine).posted, voice(scene.engine).held) == (60, 0)
    scene.monitor.stopService()
    scene.engine.dispose()


def test_calls_in_progress_are_recorded_each_second(scene):
    with scene.engine.begin() as tx:
        tx.execute(sa.delete(tables.server))
    scene.clock.advance(HEARTBEAT_SECONDS)
    with scene.engine.begin() as tx:
        assert server_last_seen(tx, "pbx1") is not None
        tx.execute(sa.delete(tables.server))
    settle(scene)
    scene.clock.advance(HEARTBEAT_SECONDS)
    with scene.engine.begin() as tx:
        assert server_last_seen(tx, "pbx1") is None


@pytest.mark.parametrize(("step_hours", "held"), [(0, 0), (5, 60), (24 * 365 * 56, 60)])
def test_a_step_of_the_clock_expires_no_call(scene, step_hours, held):
    scene.monitor.stopService()
    steps, step = ClockSteps(), timedelta(hours=step_hours)
    steps.look(scene.began + timedelta(seconds=30), 1000.0)
    now = scene.began + timedelta(seconds=90) + step
    steps.look(now, 1060.0)
    late = scene.grant.expires_at + timedelta(seconds=1) if not step_hours else now
    expire = close_overdue(StoreHere(scene.engine), {}, late, Metrics(), steps.excess_age)
    assert result_of(Deferred.fromCoroutine(expire)) is None
    assert voice(scene.engine).held == held
    over = close_overdue(
        StoreHere(scene.engine), {}, scene.grant.expires_at + timedelta(seconds=1) + step, Metrics(), steps.excess_age
    )
    assert result_of(Deferred.fromCoroutine(over)) is None
    assert voice(scene.engine).held == 0


@pytest.mark.parametrize(("seconds_ago", "posted"), [(20, 53), (0.5, 33)])
def test_hanging_up_in_a_standstill_ends_the_call(scene, seconds_ago, posted):
    """The biller stood still for 20 s from 7 s after the answer; the channel, in AGI, ended only after that."""
    answered(scene, seconds_ago=27)
    scene.monitor.transferred("1.0")
    scene.asterisk.event("HangupRequest", timestamp=stamp(seconds_ago))
    now = datetime.now(UTC)
    report = CallReport(answered=True, at=now)
    at = scene.monitor.correct("1.0", report).at
    assert (now - at).total_seconds() == pytest.approx(seconds_ago if seconds_ago > 2 else 0, abs=0.5)
    scene.asterisk.alive = []
    scene.asterisk.event("Hangup", timestamp=stamp(0))
    assert voice(scene.engine).posted in (posted - 1, posted)
    assert scene.monitor.correct("unknown", report) == report


def test_earlier_reports_show_that_ami_hears(tmp_path):
    scene = Scene(tmp_path / "db.sqlite", watched=False)
    with scene.engine.begin() as tx:
        assert last_call_event(tx, "pbx1") is None
    ask(scene.engine, ended(talk_ms=1000), ended(talk_ms=1000, witness=Witness.AMI), now=scene.began)
    with scene.engine.begin() as tx:
        assert last_call_event(tx, "pbx1") == scene.began
        assert last_call_event(tx, "pbx2") is None
    scene.monitor.stopService()
    scene.engine.dispose()


def test_a_connected_biller_signs_at_once(scene):
    scene.monitor._signal = AliveSignal(4573)
    scene.asterisk.variables["CELCOMBILLER_SECOND"] = "agi://192.0.2.2"
    reconnect(scene)
    first = scene.asterisk.variables["CELCOMBILLER_ALIVE"]
    assert abs(int(first) - datetime.now(UTC).timestamp()) < 2
    scene.asterisk.variables["CELCOMBILLER_ALIVE"] = "1"
    scene.clock.advance(SIGNAL_SECONDS)
    assert scene.asterisk.variables["CELCOMBILLER_ALIVE"] != "1"


@pytest.mark.parametrize("step_seconds", [3600, -3600, 56 * 365 * 86_400])
def test_a_step_of_asterisks_clock_is_no_talk(scene, step_seconds):
    scene.clock.advance(HEARTBEAT_SECONDS)
    answered(scene, seconds_ago=10)
    scene.asterisk.ahead_seconds = step_seconds
    scene.clock.advance(HEARTBEAT_SECONDS)
    now = datetime.now(UTC) + timedelta(seconds=step_seconds)
    answered_at = now - timedelta(seconds=10 + step_seconds)
    said = CallReport(answered=True, at=now, talk_ms=10_000 + 1000 * step_seconds, answered_at=answered_at)
    corrected = scene.monitor.correct("1.0", said)
    assert corrected.talk_ms == pytest.approx(10_000, abs=1500)
    assert (now - corrected.answered_at).total_seconds() == pytest.approx(10, abs=1.5)
    scene.monitor.session_lost("1.0")
    scene.asterisk.alive = []
    scene.asterisk.event("Hangup", timestamp=stamp(-step_seconds))
    assert voice(scene.engine).posted in (48, 49, 50, 51)
    proved(scene.engine)


@pytest.mark.parametrize("step_seconds", [600, -600, 3600, -3600, 19_000])
@pytest.mark.parametrize("witness", ["script", "ami"])
def test_a_step_before_the_answer_is_no_talk(scene, step_seconds, witness, monkeypatch):
    """Both fell into a standstill of the biller, so the step is measured only after the answer was heard."""
    scene.clock.advance(HEARTBEAT_SECONDS)
    monkeypatch.setattr(event_clock, "FRESH_SECONDS", 0.0)
    scene.asterisk.ahead_seconds = step_seconds
    answered(scene, seconds_ago=10 - step_seconds)
    scene.clock.advance(HEARTBEAT_SECONDS)
    now = datetime.now(UTC) + timedelta(seconds=step_seconds)
    said = CallReport(answered=True, at=now, talk_ms=10_000, answered_at=now - timedelta(seconds=10))
    if witness == "script":
        assert scene.monitor.correct("1.0", said) == said
        return
    scene.monitor.session_lost("1.0")
    scene.asterisk.alive = []
    scene.asterisk.event("Hangup", timestamp=stamp(-step_seconds))
    assert voice(scene.engine).posted in (48, 49, 50, 51)
    proved(scene.engine)


def test_a_wrong_timestamp_explains_no_later_step(scene):
    scene.clock.advance(HEARTBEAT_SECONDS)
    answered(scene, seconds_ago=10 - 3600)
    scene.clock.advance(HEARTBEAT_SECONDS)
    scene.asterisk.ahead_seconds = 3600
    scene.clock.advance(HEARTBEAT_SECONDS)
    said = CallReport(answered=True, at=datetime.now(UTC) + timedelta(hours=1), talk_ms=3_610_000)
    assert scene.monitor.correct("1.0", said).talk_ms == pytest.approx(10_000, abs=1500)


def test_no_talk_is_longer_than_its_call(scene):
    """The caller was transferred, the answer was not heard, and Asterisk's clock is hours ahead."""
    scene.monitor.session_lost("1.0")
    at = datetime.now(UTC) + timedelta(hours=5)
    corrected = scene.monitor.correct("1.0", CallReport(answered=True, at=at))
    assert talk_ms(scene.grant.call, corrected) == pytest.approx(30_000, abs=1000)
    unanswered = CallReport(answered=False, at=at)
    assert scene.monitor.correct("1.0", unanswered) == unanswered


def test_a_talk_without_times_ends_at_its_grant(scene):
    ended = CallReport(answered=True, at=datetime.now(UTC) + timedelta(hours=5))
    assert talk_ms(scene.grant.call, ended) == scene.grant.call.granted_seconds * 1000 == 60_000


@pytest.mark.parametrize("step_seconds", [3600, -3600])
def test_a_step_before_the_end_is_no_talk(scene, step_seconds):
    scene.clock.advance(HEARTBEAT_SECONDS)
    answered(scene, seconds_ago=10)
    now = datetime.now(UTC) + timedelta(seconds=step_seconds)
    said = CallReport(answered=True, at=now, talk_ms=10_000 + 1000 * step_seconds)
    assert scene.monitor.correct("1.0", said, is_fresh=True).talk_ms == pytest.approx(10_000, abs=1500)


@pytest.mark.parametrize("step_seconds", [600, -600, 3600, -3600])
def test_a_step_after_a_crash_is_no_talk(scene, step_seconds):
    """Asterisk is killed 10 s after the answer, and its clock is set before it is heard again."""
    scene.clock.advance(HEARTBEAT_SECONDS)
    answered(scene, seconds_ago=10)
    scene.clock.advance(HEARTBEAT_SECONDS)
    scene.monitor.session_lost("1.0")
    reconnect(scene, alive=[], ahead_seconds=step_seconds)
    scene.sweep(2)
    assert voice(scene.engine).posted in (48, 49, 50)
    proved(scene.engine)


@pytest.mark.parametrize("ahead_seconds", [-7200, 0, 7200])
def test_a_loss_is_read_once_the_ledger_answers(scene, ahead_seconds):
    """The ledger is away when Asterisk, which was killed 10 s after the answer, is heard again."""
    scene.asterisk.ahead_seconds = ahead_seconds
    scene.clock.advance(HEARTBEAT_SECONDS)
    answered(scene, seconds_ago=10 - ahead_seconds)
    scene.clock.advance(HEARTBEAT_SECONDS)
    scene.monitor.session_lost("1.0")
    scene.store.away = True
    reconnect(scene, alive=[])
    scene.store.away = False
    scene.sweep(2)
    assert voice(scene.engine).posted in (48, 49, 50)
    proved(scene.engine)


@pytest.mark.parametrize(
    ("ahead", "posted"),
    [(timedelta(hours=1), {59}), (timedelta(seconds=40), {48, 49, 50})],
    ids=["a step ahead", "less than a step"],
)
def test_a_loss_after_now_is_not_believed(scene, ahead, posted):
    """The clock was set back just before the biller was started again, and nothing shows it that it was.

    Where it is later by less than a step, the call may have lived until now.
    """
    scene.clock.advance(HEARTBEAT_SECONDS)
    answered(scene, seconds_ago=10)
    scene.monitor.stopService()
    forget_times(scene.engine, datetime.now(UTC) + ahead)
    scene.start_without_channels()
    assert voice(scene.engine).posted in posted
    proved(scene.engine)


def test_a_loss_belongs_to_its_own_clock(scene):
    """The clock was set back after both, and the biller started again, so that nothing shows it that it was."""
    later = datetime.now(UTC) + timedelta(hours=1)
    scene.monitor.stopService()
    ask(scene.engine, CallAnswered("pbx1", "1.0", later - timedelta(seconds=10)))
    forget_times(scene.engine, later)
    scene.start_without_channels()
    assert voice(scene.engine).posted == 50
    proved(scene.engine)


def restart_after_a_step_back(scene, seen_at):
    """The biller's clock was set back by 30 s, and the only call, which began before that, is gone since a while."""
    scene.monitor.stopService()
    ask(scene.engine, CallAnswered("pbx1", "1.0", seen_at - timedelta(seconds=10)))
    forget_times(scene.engine, seen_at)
    with scene.engine.begin() as tx:
        tx.execute(sa.update(tables.call).values(started_at=datetime.now(UTC) + timedelta(seconds=30)))


def test_a_call_from_the_future_was_lost_before(scene):
    """It did not live until now, and is closed after two lists, so that others are seen alive again."""
    restart_after_a_step_back(scene, datetime.now(UTC) - timedelta(seconds=20))
    scene.start_without_channels()
    assert (voice(scene.engine).posted, voice(scene.engine).held) == (50, 0)
    scene.sweep()
    with scene.engine.begin() as tx:
        assert datetime.now(UTC) - server_last_seen(tx, "pbx1") < timedelta(seconds=20)
    proved(scene.engine)


def miss_after_a_step_back(scene, seconds):
    """Asterisk's clock was set back by so much, and a call is missing, so that nothing else is recorded."""
    restart_after_a_step_back(scene, datetime.now(UTC) + timedelta(seconds=seconds))
    scene.asterisk.alive = []
    scene.start_biller()
    scene.clock.advance(HEARTBEAT_SECONDS)
    assert voice(scene.engine).held == 60


def test_no_server_was_seen_after_now(scene):
    miss_after_a_step_back(scene, 75)
    with scene.engine.begin() as tx:
        assert server_last_seen(tx, "pbx1") <= datetime.now(UTC)


def test_a_second_start_knows_the_loss_before(scene):
    """The biller that found the call missing, after a step back, was killed before its second list."""
    miss_after_a_step_back(scene, 300)
    with scene.engine.begin() as tx:  # another biller's clock, a little ahead, is no step
        server_seen(tx, "pbx1", datetime.now(UTC) + timedelta(seconds=1))
        server_not_seen_beyond(tx, "pbx1", datetime.now(UTC))
    scene.monitor.stopService()
    scene.start_without_channels()
    assert (voice(scene.engine).posted, voice(scene.engine).held) == (50, 0)
    proved(scene.engine)


def test_a_list_that_hangs_doubles_no_loop(scene):
    """It is answered only when the next connection is there."""
    hung, usual = Deferred(), scene.asterisk.status
    scene.asterisk.status = lambda _channel=None: hung
    scene.sweep()
    scene.asterisk.status = usual
    reconnect(scene)
    hung.callback([])
    scene.asterisk.asked.clear()
    scene.sweep(4)
    assert len(scene.asterisk.asked) == 4


def test_a_first_event_is_recorded_before_a_measurement(scene):
    hold_next_ping(scene)
    reconnect(scene)
    scene.asterisk.event("DialBegin", timestamp=stamp(0))
    with scene.engine.begin() as tx:
        assert last_call_event(tx, "pbx1") is not None


@pytest.mark.parametrize("step_seconds", [3600, -3600])
def test_an_answer_before_a_measurement_is_exact(scene, step_seconds):
    """The clock is set while the link is down; the answer comes before the clock is measured again."""
    scene.clock.advance(HEARTBEAT_SECONDS)
    ping = hold_next_ping(scene)
    reconnect(scene, ahead_seconds=step_seconds)
    answered(scene, seconds_ago=-step_seconds)
    ping.callback({"response": "Success", "timestamp": stamp(-step_seconds)})
    said = CallReport(answered=True, at=datetime.now(UTC) + timedelta(seconds=step_seconds), talk_ms=2000)
    assert scene.monitor.correct("1.0", said).talk_ms == 2000


@pytest.mark.parametrize("ahead_seconds", [-7200, -1800, 1800, 7200])
def test_an_answer_counts_by_its_own_timestamp(scene, ahead_seconds):
    """The clock of Asterisk is another one, and not measured yet on this connection."""
    hold_next_ping(scene)
    reconnect(scene, ahead_seconds=ahead_seconds)
    answered(scene, seconds_ago=-ahead_seconds)
    assert abs(answer_of(scene) - datetime.now(UTC) - timedelta(seconds=ahead_seconds)) < timedelta(seconds=5)
    (_, limit_seconds) = scene.asterisk.limits[-1]
    assert limit_seconds == pytest.approx(60, abs=1)


def test_impossible_timestamp_counts_not_even_unmeasured(scene):
    hold_next_ping(scene)
    reconnect(scene)
    answered(scene, timestamp="253402300799.999999")
    assert abs(answer_of(scene) - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize("ahead_seconds", [-7200, 0, 7200])
def test_a_listed_channel_is_alive_by_any_clock(scene, ahead_seconds):
    scene.asterisk.ahead_seconds = ahead_seconds
    reconnect(scene)
    live = scene.monitor.live_calls.find("1.0")
    assert scene.monitor.is_alive(live)
    reconnect(scene, incomplete=True)  # without a list, nothing is known of a call from before
    assert not scene.monitor.is_alive(live)


@pytest.mark.parametrize("step_seconds", [7200, -7200])
def test_a_note_from_before_steps_is_exact(scene, step_seconds):
    scene.clock.advance(HEARTBEAT_SECONDS)
    answered(scene, seconds_ago=10)
    scene.monitor.session_lost("1.0")
    note = f"ANSWER|2500|{stamp(10)}|{stamp(7.5)}"
    reconnect(scene, alive=[], ahead_seconds=step_seconds, note=note)
    scene.sweep(2)
    assert voice(scene.engine).posted == 57
    proved(scene.engine)


@pytest.mark.parametrize("step_seconds", [1800, -1800, 3600, -3600])
@pytest.mark.parametrize("is_step_first", [False, True])
def test_an_answer_beside_a_step_is_exact(scene, step_seconds, is_step_first):
    """The clock is set just before the answer or just after it; the event comes on the other side of the heartbeat."""
    scene.clock.advance(HEARTBEAT_SECONDS)
    if is_step_first:
        answered(scene, seconds_ago=-step_seconds)
        scene.asterisk.ahead_seconds = step_seconds
        scene.clock.advance(HEARTBEAT_SECONDS)
    else:
        scene.asterisk.ahead_seconds = step_seconds
        scene.clock.advance(HEARTBEAT_SECONDS)
        answered(scene, seconds_ago=0)
    in_talk = 0 if is_step_first else step_seconds
    ((_, limit),) = scene.asterisk.limits
    assert limit == pytest.approx(60, abs=1.5)
    at = datetime.now(UTC) + timedelta(seconds=step_seconds)
    said = CallReport(answered=True, at=at, talk_ms=2000 + 1000 * in_talk)
    assert scene.monitor.correct("1.0", said).talk_ms == pytest.approx(2000, abs=1500)
    scene.monitor.session_lost("1.0")
    scene.asterisk.alive = []
    scene.asterisk.event("Hangup", timestamp=stamp(-step_seconds))
    assert voice(scene.engine).posted >= 58


@pytest.mark.parametrize("step_seconds", [3600, -3600])
def test_an_answer_after_a_step_survives_restarts(scene, step_seconds):
    """The answer is the first that shows the step, and the biller is started again right after it."""
    scene.clock.advance(HEARTBEAT_SECONDS)
    scene.asterisk.ahead_seconds = step_seconds
    answered(scene, seconds_ago=-step_seconds)
    assert scene.asterisk.limits[-1][1] == pytest.approx(60, abs=1)
    scene.monitor.stopService()
    scene.start_biller()
    scene.monitor.stopService()
    scene.start_without_channels()
    assert voice(scene.engine).posted >= 58
    assert abs(answer_of(scene) - datetime.now(UTC) - timedelta(seconds=step_seconds)) < timedelta(seconds=5)
    proved(scene.engine)


@pytest.mark.parametrize("off_seconds", [1800, -1800, 86_400])
def test_a_wrong_timestamp_is_no_step(scene, off_seconds):
    scene.clock.advance(HEARTBEAT_SECONDS)
    answered(scene, seconds_ago=off_seconds)
    scene.clock.advance(HEARTBEAT_SECONDS)
    said = CallReport(answered=True, at=datetime.now(UTC), talk_ms=2000)
    assert scene.monitor.correct("1.0", said).talk_ms == 2000
    assert abs(answer_of(scene) - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_step_has_limits_set_again(scene):
    scene.clock.advance(HEARTBEAT_SECONDS)
    answered(scene, seconds_ago=10)
    live = scene.monitor.live_calls.find("1.0")
    live.look_at, live.limit_seconds = datetime.max.replace(tzinfo=UTC), 60
    scene.asterisk.ahead_seconds = -3600
    scene.clock.advance(HEARTBEAT_SECONDS)
    assert live.limit_seconds == 0
    assert live.look_at < datetime.now(UTC)
    assert scene.monitor.used_seconds(live) == pytest.approx(10, abs=1.5)


def test_what_is_used_up_is_granted_no_more(scene):
    answered(scene, seconds_ago=10)
    live = scene.monitor.live_calls.find("1.0")
    assert live.remaining_seconds(live.answered_at + timedelta(seconds=59)) == 1
    assert live.remaining_seconds(live.answered_at + timedelta(seconds=61)) == 0.1


def test_a_time_told_long_ago_is_no_step(scene):
    scene.clock.advance(HEARTBEAT_SECONDS)
    ping = hold_next_ping(scene)
    scene.clock.advance(HEARTBEAT_SECONDS)
    told, scene.asterisk.ahead_seconds = stamp(0), 600
    scene.clock.advance(600)  # the biller stands still, and time goes on
    ping.callback({"response": "Success", "timestamp": told})
    assert scene.monitor._events_clock.steps.total == timedelta()


@pytest.mark.parametrize(("still_seconds", "is_seen"), [(0.5, True), (5, False)])
def test_a_standstill_hears_no_loss_in_time(scene, still_seconds, is_seen):
    """Asterisk may have been killed at the beginning of the standstill: its calls were not alive to the end of it."""
    scene.clock.advance(HEARTBEAT_SECONDS)
    long_ago = datetime.now(UTC) - timedelta(seconds=20)
    forget_times(scene.engine, long_ago)
    scene.clock.rightNow, scene.unreachable = scene.clock.rightNow + still_seconds, True
    scene.asterisk.loseConnection()
    with scene.engine.begin() as tx:
        assert (server_last_seen(tx, "pbx1") > long_ago) == is_seen


def test_a_server_is_seen_once_calls_are_closed(tmp_path):
    """A biller that is killed soon after it closed them must leave the other calls a time until which they lived."""
    scene = Scene(tmp_path / "db.sqlite", watched=False)
    scene.monitor.stopService()
    long_ago = datetime.now(UTC) - timedelta(seconds=20)
    forget_times(scene.engine, long_ago)
    scene.asterisk.alive = []
    scene.start_biller()
    with scene.engine.begin() as tx:
        assert server_last_seen(tx, "pbx1") == long_ago
    scene.clock.advance(SECOND_LIST_SECONDS)
    assert voice(scene.engine).held == 0
    with scene.engine.begin() as tx:
        assert server_last_seen(tx, "pbx1") > long_ago
    scene.monitor.stopService()


@pytest.mark.parametrize("ahead_seconds", [-7200, 0, 7200])
def test_calls_gone_with_asterisk_lived_no_longer(tmp_path, ahead_seconds):
    """Asterisk was killed 8 s after the answer; the biller that saw it come back is killed before it closes the call."""
    scene = Scene(tmp_path / "db.sqlite", watched=False)
    scene.asterisk.ahead_seconds = ahead_seconds
    scene.sweep()
    ahead = timedelta(seconds=ahead_seconds)
    ask(scene.engine, CallAnswered("pbx1", "1.0", datetime.now(UTC) + ahead - timedelta(seconds=8)))
    scene.clock.advance(HEARTBEAT_SECONDS)
    scene.monitor.stopService()
    forget_times(scene.engine, datetime.now(UTC) + ahead)
    scene.asterisk.alive = []
    scene.start_biller()
    with scene.engine.begin() as tx:
        before = server_last_seen(tx, "pbx1")
    scene.clock.advance(SECOND_LIST_SECONDS * 0.9)
    scene.monitor.stopService()
    with scene.engine.begin() as tx:
        assert server_last_seen(tx, "pbx1") == before
    scene.start_biller()
    scene.sweep(2)
    assert voice(scene.engine).posted in (51, 52)
    scene.monitor.stopService()
    proved(scene.engine)
    scene.engine.dispose()


@pytest.mark.parametrize(("links_begin", "held"), [(True, 60), (False, 0)])
def test_links_that_begin_are_waited_for(scene, links_begin, held):
    """The clock was set by years, and the biller killed: after the start nothing shows that it was set."""
    scene.monitor.stopService()
    late = scene.grant.expires_at + timedelta(days=20_000)
    over = close_overdue(scene.store, {"pbx1": scene.monitor}, late, Metrics(), links_begin=links_begin)
    assert result_of(Deferred.fromCoroutine(over)) is None
    assert voice(scene.engine).held == held


def test_a_found_answer_is_after_earlier_steps(scene):
    scene.clock.advance(HEARTBEAT_SECONDS)
    scene.asterisk.ahead_seconds = -3600
    scene.clock.advance(HEARTBEAT_SECONDS)
    scene.monitor.watch(scene.grant.call)  # it began while the link was down, and no event of it came
    scene.asterisk.bridge, scene.asterisk.variables["CELCOMBILLER_ANSWERED"] = "b", stamp(3600 + 10)
    scene.sweep()
    assert scene.monitor.used_seconds(scene.monitor.live_calls.find("1.0")) == pytest.approx(10, abs=2)
    said = CallReport(answered=True, at=datetime.now(UTC) - timedelta(hours=1), talk_ms=10_000)
    assert scene.monitor.correct("1.0", said).talk_ms == 10_000


def test_a_lost_link_says_nothing_of_channels(scene):
    live = scene.monitor.live_calls.find("1.0")
    scene.monitor.stopService()
    asked = Deferred.fromCoroutine(scene.monitor.has_channel(live))
    asked.addCallbacks(lambda _: pytest.fail("it was asked"), lambda failure: failure.trap(ConnectionDone))
    assert asked.called


def test_a_clock_set_back_keeps_no_call_open(tmp_path):
    scene = Scene(tmp_path / "db.sqlite", watched=False)
    with scene.engine.begin() as tx:
        tx.execute(sa.update(tables.call).values(started_at=datetime.now(UTC) + timedelta(hours=1)))
    scene.asterisk.alive = []
    scene.sweep(2)
    assert voice(scene.engine).held == 0
    scene.monitor.stopService()
    scene.engine.dispose()


def forget_times(engine, seen_at):
    with engine.begin() as tx:
        tx.execute(sa.update(tables.server).where(tables.server.c.name == "pbx1").values(seen_at=seen_at))


@pytest.mark.parametrize(("back_seconds", "seen"), [(3600, True), (1, False)])
def test_a_clock_set_back_is_recorded(scene, back_seconds, seen):
    now = datetime.now(UTC)
    with scene.engine.begin() as tx:
        server_seen(tx, "pbx7", now)
        server_seen(tx, "pbx7", now - timedelta(seconds=back_seconds))
        assert (server_last_seen(tx, "pbx7") < now) == seen


@pytest.mark.parametrize("ahead_seconds", [-1950, 0, 1950])
def test_a_note_without_talk_has_one_clock(scene, ahead_seconds):
    """The call began 30 s ago by the biller's clock and ended 20 s ago by Asterisk's clock. No answer is known."""
    scene.asterisk.ahead_seconds = ahead_seconds
    scene.clock.advance(HEARTBEAT_SECONDS)
    scene.monitor.session_lost("1.0")
    ended_at = datetime.now(UTC).timestamp() + ahead_seconds - 20
    scene.asterisk.alive, scene.asterisk.note = [], f"ANSWER|||{ended_at:.6f}"
    scene.sweep(2)
    assert voice(scene.engine).posted in (49, 50)
    proved(scene.engine)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "|||",
        "ANSWER||||",
        "ANSWER|1000||" + "9" * 5000,
        "ANSWER|||253402300799",
        "ANSWER|" + "9" * 5000 + "|12|253402300799.999999",
        "ANSWER||1|2",
        "\ufffd|-1|1e9|\u0661",
        "BUSY|||253402300799",
    ],
)
def test_an_impossible_note_is_not_read(scene, note):
    answered(scene, seconds_ago=10)
    scene.monitor.session_lost("1.0")
    scene.asterisk.alive, scene.asterisk.note = [], note
    scene.asterisk.event("Hangup", timestamp=stamp(0))
    assert voice(scene.engine).held == 0
    assert voice(scene.engine).posted in (49, 50)
    proved(scene.engine)


@pytest.mark.parametrize("said", ["253402300799", "1", "9" * 5000, "nonsense"])
def test_an_impossible_answer_stamp_is_not_used(tmp_path, said):
    scene = Scene(tmp_path / "db.sqlite", watched=False)
    scene.asterisk.variables |= {"CELCOMBILLER_ANSWERED": said, "CDR(answer,u)": said}
    scene.asterisk.bridge = "b"
    scene.sweep()
    assert scene.asterisk.limits == []
    assert abs(answer_of(scene) - datetime.now(UTC)) < timedelta(seconds=5)
    scene.monitor.stopService()
    scene.engine.dispose()


def test_a_ledger_that_is_away_fills_no_log(scene, logged):
    scene.store.away = True
    for _ in range(20):
        scene.clock.advance(HEARTBEAT_SECONDS)
    assert len([line for line in logged if "away" in line]) == 1
    scene.store.away = False
    scene.sweep()
    scene.store.away = True
    scene.sweep()
    assert len([line for line in logged if "away" in line]) == 2


def test_one_call_without_an_event_is_no_fault():
    hearing = Hearing()
    hearing.hear("DialEnd")
    for _ in range(MISSED - 1):
        hearing.miss("DialEnd")
    assert hearing.unheard == []
    hearing.miss("DialEnd")
    hearing.miss("Hangup")
    assert hearing.unheard == ["DialEnd", "Hangup"]
    hearing.hear("Hangup")
    assert hearing.unheard == ["DialEnd"]


def test_a_name_is_known_while_disconnected(scene):
    assert scene.monitor.system_name == "pbx1"
    scene.unreachable = True
    reconnect(scene)
    assert (scene.monitor.connected, scene.monitor.system_name) == (False, "pbx1")


def test_an_asterisk_that_still_boots_is_not_deaf(scene, logged):
    reconnect(scene, fullyBooted=False)
    assert scene.monitor.faults == []
    scene.asterisk.fullyBooted = True
    scene.sweep(2)
    assert (scene.monitor.faults, [line for line in logged if "hears no events" in line]) == ([], [])


def answer_of(scene):
    with scene.engine.begin() as tx:
        return tx.execute(sa.select(tables.call.c.answered_at)).scalar_one()


@pytest.mark.parametrize("source", ["CELCOMBILLER_ANSWERED", "CDR(answer,u)"])
def test_an_answer_that_was_missed_is_read(tmp_path, source):
    scene = Scene(tmp_path / "db.sqlite", watched=False)
    scene.asterisk.variables[source] = stamp(20)
    scene.asterisk.bridge = "b"
    scene.sweep()
    ((_, seconds),) = scene.asterisk.limits
    assert 39 < seconds <= 40
    assert abs(answer_of(scene) - datetime.now(UTC) + timedelta(seconds=20)) < timedelta(seconds=1)
    scene.monitor.stopService()
    scene.engine.dispose()


def test_a_missing_right_puts_no_sweep_off(tmp_path):
    scene = Scene(tmp_path / "db.sqlite", watched=False)
    ask(scene.engine, credit(60, reference="s", username="u1003"))
    ask(scene.engine, initiate("3.0", caller="1003"), now=scene.began + timedelta(seconds=1))
    scene.asterisk.lacking, scene.asterisk.bridge = {"Getvar", "DBGet"}, "b"
    scene.sweep(2)  # the first call is alive and answered, the second is gone
    with scene.engine.begin() as tx:
        open_references = tx.execute(sa.select(tables.call.c.uniqueid).where(tables.call.c.state == "open")).scalars()
        assert open_references.all() == ["1.0"]
    scene.monitor.stopService()
    scene.engine.dispose()


def test_a_server_that_looks_like_another_is_reported(scene, logged):
    other = SimpleNamespace(address="127.0.0.1", system_name="pbx2")
    scene.monitor._links = {"pbx1": scene.monitor, "second": other}
    scene.sweep()
    assert scene.monitor.faults == []
    other.system_name = "pbx1"
    scene.sweep(2)
    (fault,) = scene.monitor.faults
    assert "systemname 'pbx1' and the address of second" in fault
    assert sum(fault in line for line in logged) == 1
