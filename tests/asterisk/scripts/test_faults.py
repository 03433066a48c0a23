"""Calls are never left undecided or unsettled: refusals of the channel, faults of our own, and a ledger that is away."""

import re
import sqlite3

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock, deferLater

from celcombiller.asterisk.agi.commands import AgiCommands
from celcombiller.asterisk.agi.simulator import AgiPeer, Channel
from celcombiller.asterisk.pending_updates import PendingUpdates
from celcombiller.asterisk.scripts import settlement
from celcombiller.config.charging_policy import charging_policy
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import Initiate, Terminate
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.schema import tables
from celcombiller.database.batch_writer import BatchWriter
from celcombiller.runtime.metrics import Metrics
from tests.core.ledger.test_book import proved, voice

COMMANDS_MAX = 8


class Refusing(Channel):
    """A channel that answers some commands as one that has hung up, or as an Asterisk that lacks a module."""

    refused = ""
    answer_with = "511 Command Not Permitted on a dead channel or intercept routine"

    def answer(self, line):
        return self.answer_with if re.match(self.refused, line) else super().answer(line)

    def _expand(self, text):
        return super()._expand(text.replace("${TIMEOUT(absolute)}", ""))


class Answering(Refusing):
    """A channel on which some functions are there that the other lacks."""

    def _expand(self, text):
        return Channel._expand(self, text)


def refusing(refused, answer_with=Refusing.answer_with, kind=Refusing, **facts):
    made = kind("1001", "1002", **facts)
    made.refused, made.answer_with = refused, answer_with
    return made


def ended_calls(house):
    with house.engine.begin() as tx:
        return tx.execute(sa.select(tables.call.c.state, tables.call.c.cost)).all()


@pytest_twisted.ensureDeferred
async def test_a_dead_channel_is_settled_at_once(house):
    channel = await house.play(refusing("SET AUTOHANGUP"), "caller")
    assert channel.dialled == ""
    assert ended_calls(house) == [("released", 0)]


@pytest.mark.parametrize("answer", ["510 Invalid or unknown command", "200 result=-1", "200 result=" + "9" * 5000])
@pytest_twisted.ensureDeferred
async def test_a_call_goes_on_with_dials_own_limit(house, answer):
    channel = await house.play(refusing("SET AUTOHANGUP", answer, talk_ms=5000), "caller")
    assert channel.dialled == "PJSIP/1002,40,giL(60000)"
    assert ended_calls(house) == [("settled", 5)]


@pytest.mark.parametrize("refused", ["EXEC MSET", "CHANNEL STATUS", "SET VARIABLE"])
@pytest.mark.parametrize("answer", [Refusing.answer_with, "510 Invalid or unknown command", "200 result=-2"])
@pytest_twisted.ensureDeferred
async def test_a_refused_command_ends_no_call(house, refused, answer):
    channel = refusing(refused, answer, Answering, talk_ms=5000)
    if refused == "CHANNEL STATUS":
        channel.variables["CHANNEL(state)"] = ""
    await house.play(channel, "caller", "reducer")
    assert ended_calls(house) == [("settled", 5)]
    assert channel.variables["CELCOMBILLER_RESULT"] == "GRANTED"


@pytest.mark.parametrize("answer", [Refusing.answer_with, "200 result=-2", "510 Invalid or unknown command"])
@pytest_twisted.ensureDeferred
async def test_a_dial_that_is_refused_costs_nothing(house, answer):
    await house.play(refusing("EXEC DIAL", answer, Answering), "caller")
    assert ended_calls(house) == [("released", 0)]


@pytest.mark.parametrize("refused", ["SET VARIABLE", "STREAM FILE", "GET FULL VARIABLE", "CHANNEL STATUS"])
@pytest.mark.parametrize("script", ["caller", "reducer", "balance"])
@pytest_twisted.ensureDeferred
async def test_a_refused_command_leaves_no_traceback(house, refused, script):
    channel = refusing(refused)
    channel.caller_number = "1003"
    await house.play(channel, script)
    assert voice(house.engine).held == 0


class Fault(Exception):
    pass


def break_command(house, number, script):
    """Let the command of this number raise in each session of a script, once."""

    def main(agi):
        count = 0
        ask = agi.sendCommand

        def send(text):
            nonlocal count
            count += 1
            return fail(Fault(text)) if count == number else ask(text)

        if agi.variables["agi_network_script"] == script:
            agi.sendCommand = send
        return house.scripts(agi)

    house.port.factory.mainFunction = main


@pytest.mark.parametrize("policy", ["deny", "allow"])
@pytest.mark.parametrize("number", range(1, COMMANDS_MAX))
@pytest.mark.parametrize("script", ["caller", "reducer"])
@pytest.mark.parametrize("has_limit", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_fault_anywhere_leaves_no_call_open(houses, expected_failures, policy, number, script, has_limit):
    house = houses(on_failure=policy)
    break_command(house, number, script)
    channel = refusing("never", kind=Answering if has_limit else Refusing, talk_ms=5000)
    await house.play(channel, "caller", "reducer")
    result = channel.variables["CELCOMBILLER_RESULT"]
    assert result == "GRANTED" if policy == "allow" else result in ("GRANTED", "FAILED")
    dialled = channel.dialled != ""
    assert dialled == (result == "GRANTED")
    assert (voice(house.engine).posted, voice(house.engine).held) == (55 if dialled else 60, 0)
    if dialled:
        assert channel.variables["CELCOMBILLER_SETTLED"] == "1"
    proved(house.engine)
    assert {each.type for each in expected_failures} <= {Fault}
    assert len(expected_failures) <= 1
    counted = [each.value for each in house.metrics.calls.script_faults.collect()[0].samples if "total" in each.name]
    assert sum(counted) == len(expected_failures)
    expected_failures.clear()


@pytest.mark.parametrize("request_type", [Initiate, Terminate])
@pytest_twisted.ensureDeferred
async def test_a_raising_ledger_leaves_no_call_open(houses, expected_failures, monkeypatch, request_type):
    house = houses(on_failure="allow")
    charge, raised = house.store.charge, []

    def once(request, **facts):
        if isinstance(request, request_type) and not raised:
            raised.append(request)
            raise Fault("at once")
        return charge(request, **facts)

    monkeypatch.setattr(house.store, "charge", once)
    await house.call(talk_ms=5000)
    await house.scripts.updates.drain()
    assert (voice(house.engine).posted, voice(house.engine).held) == (55, 0)
    assert [each.type for each in expected_failures] == [Fault]
    expected_failures.clear()


@pytest_twisted.ensureDeferred
async def test_a_message_script_that_fails_sets_a_result(house, expected_failures):
    async def broken(agi):
        raise Fault

    house.scripts.add_sms(broken)
    channel = await house.play(Channel("1001", "1002"), "sms")
    assert channel.variables["CELCOMBILLER_RESULT"] == "FAILED"
    assert [each.type for each in expected_failures] == [Fault]
    expected_failures.clear()


# -- ends that cannot be recorded --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [sa.exc.DataError("", None, Exception()), UnicodeError(), OverflowError()])
def test_data_that_is_refused_is_not_tried_again(expected_failures, fault):
    clock, metrics, tried = Clock(), Metrics(), []
    updates = PendingUpdates(clock, metrics)

    def update():
        tried.append(1)
        return fail(StoreUnavailable("away") if len(tried) == 1 else fault)

    recorded = updates.submit(update, "The end")
    for _ in range(100):
        clock.advance(31)
    assert (len(tried), len(updates), recorded.result) == (2, 0, None)
    assert [each.value for each in expected_failures] == [fault]
    assert metrics.calls.updates_lost._value.get() == 1
    expected_failures.clear()


# -- calls without the ledger ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grant", [60, 5])
@pytest_twisted.ensureDeferred
async def test_a_late_grant_of_allowed_calls_is_charged(houses, grant):
    house = houses(on_failure="allow", decision_seconds=0.1)
    if grant == 5:
        await house.call(talk_ms=55_000)
    before = voice(house.engine).posted

    class Patient(Channel):
        def _dial(self, argument):
            late.callback(None)
            return super()._dial(argument)

    late = house.store.trouble[Initiate] = Deferred()
    channel = await house.play(Patient("1001", "1002", talk_ms=9900), "caller", "reducer")
    assert channel.dialled == "PJSIP/1002,40,giL(7200000)"
    assert (voice(house.engine).posted, voice(house.engine).held) == (before - 10, 0)
    assert channel.variables["CELCOMBILLER_SETTLED"] == "1"
    proved(house.engine)


@pytest_twisted.ensureDeferred
async def test_an_allowed_call_is_charged_by_another_biller(houses):
    """The biller that let the call go is killed before it recorded anything; the reducer of the next one charges."""
    first, second = houses(on_failure="allow", decision_seconds=0.1), None
    first.store.trouble = {Initiate: [StoreUnavailable("away")] * 10, Terminate: [StoreUnavailable("away")] * 99}
    channel = await first.play(Channel("1001", "1002", talk_ms=5000), "caller")
    second = houses()
    await second.play(channel, "reducer")
    assert (voice(second.engine).posted, voice(second.engine).held) == (55, 0)
    first.store.trouble = {}


# -- one channel, several calls ----------------------------------------------------------------------------------------


class Spoken(Channel):
    """A channel whose talk takes its time, and whose ANSWEREDTIME_MS counts from its first answer."""

    up_ms = 0

    def answer(self, line):
        answered = super().answer(line)
        if line.startswith("EXEC DIAL"):
            self.up_ms += self.talk_ms + 500
            self.variables |= {"CHANNEL(state)": "Up", "ANSWEREDTIME_MS": str(self.up_ms)}
        return answered


class SlowPeer(AgiPeer):
    """Answers Dial when its talk is over."""

    def lineReceived(self, line):
        if not line.startswith(b"EXEC DIAL"):
            return super().lineReceived(line)
        return reactor.callLater(self._channel.talk_ms / 1000, super().lineReceived, line)


@pytest_twisted.ensureDeferred
async def test_each_call_on_channels_pays_own_talk(house, monkeypatch):  # takes a second of talk
    monkeypatch.setattr("celcombiller.asterisk.agi.simulator.AgiPeer", SlowPeer)
    channel = Spoken("1001", "1002", talk_ms=300)
    await house.play(channel, "caller", "caller")
    with house.engine.begin() as tx:
        first, second = tx.execute(sa.select(tables.call.c.talk_ms).order_by(tables.call.c.leg)).scalars()
    assert first == 800  # the channel was not up before: its own word counts
    assert 300 <= second < 800
    proved(house.engine)


# -- no wait for a database --------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_refused_call_ends_without_the_ledger(houses, monkeypatch):
    monkeypatch.setattr(settlement, "SETTLE_SECONDS", 30)
    house = houses(decision_seconds=0.1)
    house.store.trouble = {Initiate: [StoreUnavailable("away")] * 10}
    channel = await house.play(Channel("1001", "1002"), "caller")
    house.store.trouble = {Terminate: Deferred()}
    recorded = house.store.trouble[Terminate]
    await house.play(channel, "reducer")
    assert channel.variables["CELCOMBILLER_RESULT"] == "FAILED"
    recorded.callback(None)


@pytest.mark.parametrize("script", ["caller", "reducer"])
@pytest_twisted.ensureDeferred
async def test_an_end_waits_for_no_second_attempt(house, monkeypatch, script):
    monkeypatch.setattr(settlement, "SETTLE_SECONDS", 30)
    if script == "reducer":
        channel = await house.play(Channel("1001", "1002", talk_ms=5000), "caller")
        channel.variables["ANSWEREDTIME_MS"] = "5001"  # so that it is no repeat
    else:
        channel = Channel("1001", "1002", talk_ms=5000)
    house.store.trouble[Terminate] = [StoreUnavailable("away")] * 3
    await house.play(channel, script)
    assert "CELCOMBILLER_SETTLED" not in channel.variables
    assert len(house.scripts.updates) == 1
    await house.scripts.updates.drain()
    assert voice(house.engine).posted == 55


@pytest_twisted.ensureDeferred
async def test_a_hung_up_channel_waits_for_no_decision(houses):
    house = houses(decision_seconds=30, on_failure="allow")

    class HangingUp(AgiPeer):
        def lineReceived(self, line):
            super().lineReceived(line)
            if b"FULL" in line:
                reactor.callLater(0.01, self._write, b"HANGUP\n")

    late = house.store.trouble[Initiate] = Deferred()
    channel = Channel("1001", "1002")
    peer = HangingUp(channel, channel.environment("caller", "127.0.0.1"))
    from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol  # noqa: PLC0415

    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", house.port.getHost().port), peer)
    await peer.over
    assert (channel.variables["CELCOMBILLER_RESULT"], channel.dialled) == ("FAILED", "")
    late.callback(None)
    await deferLater(reactor, 0)
    assert (voice(house.engine).posted, voice(house.engine).held) == (60, 0)


@pytest_twisted.ensureDeferred
async def test_a_channel_lost_before_dial_is_released(house):
    class Lost(AgiPeer):
        def lineReceived(self, line):
            if line.startswith(b"EXEC MSET"):
                self.transport.abortConnection()
            else:
                super().lineReceived(line)

    channel = Channel("1001", "1002")
    peer = Lost(channel, channel.environment("caller", "127.0.0.1"))
    from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol  # noqa: PLC0415

    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", house.port.getHost().port), peer)
    await peer.over
    while voice(house.engine).held:
        await deferLater(reactor, 0.01)
    assert ended_calls(house) == [("released", 0)]


@pytest.mark.parametrize(("policy", "result"), [("deny", "FAILED"), ("allow", "GRANTED")])
@pytest_twisted.ensureDeferred
async def test_a_locked_database_is_answered_by_policy(houses, tmp_path, policy, result):
    """Another program locks the file while the writing thread is real. It takes a second."""
    house = houses(on_failure=policy, decision_seconds=0.5)
    terms = charging_policy(house.config)
    store = BatchWriter(reactor, house.engine, lambda tx, *asked: process_batch(tx, terms, *asked))
    store.start()
    house.scripts.call._store = house.scripts.call._settlement._store = store
    other = sqlite3.connect(tmp_path / "db.sqlite", isolation_level=None)
    other.execute("begin exclusive")
    began = reactor.seconds()
    channel = await house.play(Channel("1001", "1002", talk_ms=5000), "caller", "reducer")
    assert reactor.seconds() - began < 0.5 + 2 * settlement.SETTLE_SECONDS + 5  # not the 30 s of a lock
    other.execute("rollback")
    other.close()
    assert channel.variables["CELCOMBILLER_RESULT"] == result
    await house.scripts.updates.drain()
    assert (voice(house.engine).posted, voice(house.engine).held) == (60 if policy == "deny" else 55, 0)
    await store.close()


@pytest_twisted.ensureDeferred
async def test_an_allowed_number_waits_for_no_look_up(houses, monkeypatch):
    house = houses(decision_seconds=0.1)
    never = Deferred()
    monkeypatch.setattr(house.scripts.call._reader, "fetch", lambda _statement: never)
    channel = await house.play(Channel("1001", "112"), "caller")
    assert channel.dialled == "PJSIP/112,40,gi"
    never.callback([])


# -- what the dialplan names -------------------------------------------------------------------------------------------


def with_arguments(channel, *arguments):
    """Add arguments to the AGI() lines of the dialplan."""
    environment = channel.environment
    lines = "".join(f"agi_arg_{i}: {each}\n" for i, each in enumerate(arguments, 1)).encode()

    class Sent(type(channel)):
        def environment(self, script, host, *, extension=None):
            return environment(script, host, extension=extension)[:-1] + lines + b"\n"

    sent = Sent(channel.caller_number, channel.called_number, talk_ms=channel.talk_ms, uniqueid=channel.uniqueid)
    sent.variables = channel.variables
    return sent


@pytest.mark.parametrize("extension", ["s", "1", "h"])
@pytest.mark.parametrize("by", ["argument", "variable"])
@pytest_twisted.ensureDeferred
async def test_the_dialplan_may_name_the_number(house, extension, by):
    channel = Channel("1001", extension, talk_ms=5000)
    if by == "variable":
        channel.variables["CELCOMBILLER_NUMBER"] = "1002"
    else:
        channel = with_arguments(channel, "stamp=answered", "number=1002")
    await house.play(channel, "caller")
    assert channel.dialled.startswith("PJSIP/1002,")
    assert voice(house.engine).posted == 55


@pytest_twisted.ensureDeferred
async def test_a_late_reducer_charges_to_its_moment(house):
    """The biller stood still: the channel says when it ended."""

    class Transferred(Channel):
        def _dial(self, argument):
            self.variables |= {"DIALSTATUS": "ANSWER", "ANSWEREDTIME_MS": "", "CELCOMBILLER_ANSWERED": "1795387582.0"}
            return "200 result=0"

    def lose(agi):
        return succeed(None) if agi.variables["agi_network_script"] == "lost" else house.scripts(agi)

    house.port.factory.mainFunction = lose
    channel = Transferred("1001", "1002")
    house.scripts.call._settlement.settle = lambda _end: succeed(None)  # the biller stands still before it settles
    await house.play(channel, "caller")
    del house.scripts.call._settlement.settle
    channel.variables["CELCOMBILLER_ENDED"] = "1795387585.000000"
    await house.play(channel, "reducer")
    assert voice(house.engine).posted == 57


# -- hostile environments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1795387582.0\x00", "\x00", "\x1b[2J", "a\x7f", "\udcff1.0", "\udcc3", "\x85\u202e"])
@pytest.mark.parametrize("key", ["uniqueid", "callerid", "channel", "calleridname", "extension", "accountcode"])
@pytest_twisted.ensureDeferred
async def test_odd_environment_bytes_leave_no_call_open(house, key, value):
    class Odd(Channel):
        def environment(self, script, host, *, extension=None):
            sent = super().environment(script, host, extension=extension)
            raw = value.encode("utf-8", "surrogateescape")
            return re.sub(rb"(?m)^(agi_%s: ).*$" % key.encode(), lambda found: found[1] + raw, sent)

    channel = await house.play(Odd("1001", "1002", talk_ms=5000), "caller", "reducer")
    charged = channel.dialled != ""
    assert (voice(house.engine).posted, voice(house.engine).held) == (55 if charged else 60, 0)
    assert channel.variables["CELCOMBILLER_RESULT"] in ("GRANTED", "UNKNOWN", "BAD_NUMBER")
    proved(house.engine)


HUGE = ("9" * 5000, "1" + "0" * 30, "-1", "1.0e9999999", "253402300799", "NaN", "\x00", "²")


@pytest.mark.parametrize("value", HUGE, ids=range(len(HUGE)))
@pytest.mark.parametrize("name", ["ANSWEREDTIME_MS", "CELCOMBILLER_ANSWERED", "HANGUPCAUSE", "TIMEOUT(absolute)"])
@pytest_twisted.ensureDeferred
async def test_odd_numbers_in_answers_leave_no_call_open(house, name, value):
    class Odd(Channel):
        def _dial(self, argument):
            answer = super()._dial(argument)
            self.variables[name] = value
            return answer

    await house.play(Odd("1001", "1002", talk_ms=5000), "caller", "reducer")
    assert voice(house.engine).held == 0
    assert voice(house.engine).posted < 60
    proved(house.engine)


@pytest.mark.parametrize("answer", ["9" * 5000, "-1", "", "4 " + "9" * 5000, "0 endpos=" + "9" * 5000, "\x00", "4²"])
def test_odd_answers_raise_our_own_errors_only(answer):
    class Session(AgiCommands):
        def sendCommand(self, commandString):
            return succeed(answer)

    from celcombiller.core.errors import BillerError  # noqa: PLC0415

    session = Session()
    for asked in (
        session.answer,
        session.channelStatus,
        session.noop,
        session.hangup,
        lambda: session.setAutoHangup(1),
        lambda: session.streamFile("x"),
        lambda: session.setVariable("X", 1),
        lambda: session.getVariable("X"),
        lambda: session.execute("X"),
    ):
        failures = []
        asked().addErrback(failures.append)
        assert all(isinstance(each.value, BillerError) for each in failures)
