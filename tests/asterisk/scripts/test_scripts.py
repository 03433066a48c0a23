"""The AGI scripts over a real socket, with Asterisk's side played by `celcombiller.asterisk.agi.simulator`."""

import time
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from celcombiller.asterisk.agi.simulator import Channel, play
from celcombiller.asterisk.scripts import settlement
from celcombiller.config.charging_policy import charging_policy
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import Initiate, Terminate
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.schema import tables
from celcombiller.database.batch_writer import BatchWriter
from celcombiller.database.transaction import transact
from tests.core.ledger.test_book import proved, voice


@pytest_twisted.ensureDeferred
async def test_a_call_is_dialled_with_limit_and_charged(house):
    channel = await house.call(talk_ms=2300)
    assert channel.dialled == "PJSIP/1002,40,giL(60000)"
    assert channel.variables["CELCOMBILLER_RESULT"] == "GRANTED"
    assert channel.variables["CELCOMBILLER_SECONDS"] == "60"
    assert channel.variables["CELCOMBILLER_SETTLED"] == "1"
    assert voice(house.engine).posted == 57
    proved(house.engine)


class Watched(Channel):
    """Notes its absolute limit when it dials; without func_timeout there is no variable to set or to read."""

    has_function = True
    limit = "0"

    def _dial(self, argument):
        self.limit = self.variables["TIMEOUT(absolute)"]
        return super()._dial(argument)

    def _expand(self, text):
        return super()._expand(text if self.has_function else text.replace("${TIMEOUT(absolute)}", ""))


class Bare(Watched):
    has_function = False

    def answer(self, line):
        assert "EXEC" not in line or "TIMEOUT" not in line
        return super().answer(line)


@pytest.mark.parametrize("channel", [Watched("1001", "1002"), Bare("1001", "1002")])
@pytest_twisted.ensureDeferred
async def test_the_channel_has_a_limit_while_dialled(house, channel):
    await play(reactor, "127.0.0.1", house.port.getHost().port, channel)
    assert (channel.limit, channel.variables["TIMEOUT(absolute)"]) == ("100", "0")


@pytest.mark.parametrize("outcome", ["BUSY", "NOANSWER", "CANCEL", "CHANUNAVAIL"])
@pytest_twisted.ensureDeferred
async def test_what_was_not_answered_costs_nothing(house, outcome):
    await house.call(outcome=outcome)
    assert (voice(house.engine).posted, voice(house.engine).held) == (60, 0)


@pytest_twisted.ensureDeferred
async def test_a_refusal_plays_its_prompt_without_dialling(house):
    channel = await house.call(caller="1002", called="1001")
    assert channel.variables["CELCOMBILLER_RESULT"] == "NO_CREDIT"
    assert channel.dialled == ""
    assert ("biller", 'STREAM FILE no-money "" 0') in channel.transcript
    assert house.decided() == {"NO_CREDIT": 1}


@pytest_twisted.ensureDeferred
async def test_without_a_ledger_calls_are_denied_by_default(house):
    house.store.trouble[Initiate] = [StoreUnavailable("away")] * 10
    channel = await house.call()
    assert (channel.variables["CELCOMBILLER_RESULT"], channel.dialled) == ("FAILED", "")
    assert house.decided() == {"FAILED": 1}


@pytest_twisted.ensureDeferred
async def test_a_ledger_back_in_time_costs_no_call(house):
    house.store.trouble[Initiate] = [StoreUnavailable("restarting")] * 2
    channel = await house.call(talk_ms=5000)
    assert channel.variables["CELCOMBILLER_RESULT"] == "GRANTED"
    assert (voice(house.engine).posted, voice(house.engine).held) == (55, 0)


@pytest_twisted.ensureDeferred
async def test_a_call_allowed_without_ledger_is_charged_later(houses):
    house = houses(on_failure="allow")
    house.store.trouble[Initiate] = [StoreUnavailable("away")] * 10
    house.store.trouble[Terminate] = [StoreUnavailable("still away")]
    channel = await house.call(talk_ms=5000)
    assert channel.dialled == "PJSIP/1002,40,giL(7200000)"
    assert voice(house.engine).posted == 55
    assert house.decided() == {"ALLOWED_ON_FAILURE": 1}
    proved(house.engine)


@pytest.mark.parametrize(("policy", "result", "dialled"), [("deny", "FAILED", False), ("allow", "GRANTED", True)])
@pytest_twisted.ensureDeferred
async def test_a_fault_in_the_decision_follows_the_policy(houses, expected_failures, policy, result, dialled):
    house = houses(on_failure=policy)
    house.store.trouble[Initiate] = [KeyError("a fault")]
    channel = await house.call(talk_ms=5000)
    assert channel.variables["CELCOMBILLER_RESULT"] == result
    assert (channel.dialled != "", voice(house.engine).posted) == (dialled, 55 if dialled else 60)
    assert [each.type for each in expected_failures] == [KeyError]
    expected_failures.clear()


@pytest_twisted.ensureDeferred
async def test_a_fault_before_the_decision_sets_a_result(house, expected_failures, monkeypatch):
    monkeypatch.setattr(house.scripts.call, "_servers", {})
    channel = await house.play(Channel("1001", "1002"), "caller")
    assert (channel.variables["CELCOMBILLER_RESULT"], channel.dialled) == ("FAILED", "")
    assert [each.type for each in expected_failures] == [AttributeError]
    expected_failures.clear()


@pytest_twisted.ensureDeferred
async def test_a_fault_in_a_balance_sets_a_result(house, expected_failures, monkeypatch):
    monkeypatch.setattr(house.scripts.balance, "_reader", None)
    channel = await house.play(Channel("1001", "700"), "balance")
    assert channel.variables["CELCOMBILLER_RESULT"] == "FAILED"
    assert [each.type for each in expected_failures] == [AttributeError]
    expected_failures.clear()


@pytest_twisted.ensureDeferred
async def test_an_end_is_told_again_after_faults(house, expected_failures):
    house.store.trouble[Terminate] = [KeyError("a fault"), KeyError("the same"), StoreUnavailable("away")]
    channel = await house.play(Channel("1001", "1002", talk_ms=5000), "caller")
    assert channel.variables["CELCOMBILLER_RESULT"] == "GRANTED"
    await house.scripts.updates.drain()
    assert (voice(house.engine).posted, voice(house.engine).held) == (55, 0)
    proved(house.engine)
    assert [each.type for each in expected_failures] == [KeyError]  # the second is a line without a traceback
    expected_failures.clear()


@pytest_twisted.ensureDeferred
async def test_an_end_that_sqlite_refuses_is_charged_later(house, expected_failures):
    class Spoiled(Channel):
        def _dial(self, argument):
            sql("create trigger no before insert on transfer begin select raise(abort, 'no'); end")
            return super()._dial(argument)

    def sql(statement):
        transact(house.engine, lambda tx: tx.exec_driver_sql(statement))

    terms = charging_policy(house.config)
    store = house.scripts.call._settlement._store = BatchWriter(
        reactor, house.engine, lambda tx, *asked: process_batch(tx, terms, *asked)
    )
    store.start()
    channel = await house.play(Spoiled("1001", "1002", talk_ms=5000), "caller")
    assert channel.variables["CELCOMBILLER_RESULT"] == "GRANTED"
    assert (voice(house.engine).posted, voice(house.engine).held) == (60, 60)
    sql("drop trigger no")
    await house.scripts.updates.drain()
    assert (voice(house.engine).posted, voice(house.engine).held) == (55, 0)
    proved(house.engine)
    await store.close()
    assert [each.type for each in expected_failures] == [sa.exc.IntegrityError]
    expected_failures.clear()


@pytest_twisted.ensureDeferred
async def test_a_late_decision_is_given_back(house):
    late = house.store.trouble[Initiate] = Deferred()
    channel = await house.call()
    assert (channel.variables["CELCOMBILLER_RESULT"], channel.dialled) == ("FAILED", "")
    late.callback(None)
    await deferLater(reactor, 0)
    assert (voice(house.engine).posted, voice(house.engine).held) == (60, 0)
    proved(house.engine)


@pytest_twisted.ensureDeferred
async def test_a_late_decision_spares_the_channels_next_call(house):
    class Patient(Channel):
        def _dial(self, argument):
            late.callback(None)
            return super()._dial(argument)

    late = house.store.trouble[Initiate] = Deferred()
    first = await house.call()
    assert first.variables["CELCOMBILLER_RESULT"] == "FAILED"
    second = Patient("1001", "1002", talk_ms=5000, uniqueid=first.uniqueid)
    await play(reactor, "127.0.0.1", house.port.getHost().port, second)
    assert second.variables["CELCOMBILLER_RESULT"] == "GRANTED"
    assert (voice(house.engine).posted, voice(house.engine).held) == (55, 0)
    proved(house.engine)


@pytest_twisted.ensureDeferred
async def test_a_reducer_confirming_the_settled_does_not_wait(house):
    channel = await house.play(Channel("1001", "1002", talk_ms=5000), "caller")
    recorded = house.store.trouble[Terminate] = Deferred()
    await house.play(channel, "reducer")
    assert channel.variables["CELCOMBILLER_SETTLED"] == "1"
    recorded.callback(None)
    with house.engine.begin() as tx:
        said = tx.execute(sa.select(tables.testimony.c.witness, tables.testimony.c.talk_ms)).all()
    assert said == [("agi", 5000), ("reducer", 5000)]


@pytest_twisted.ensureDeferred
async def test_a_contradicting_reducer_waits_for_the_ledger(house):
    channel = await house.play(Channel("1001", "1002", talk_ms=5000), "caller")
    channel.variables["ANSWEREDTIME_MS"] = "7000"
    recorded = house.store.trouble[Terminate] = Deferred()
    await house.play(channel, "reducer")
    assert "CELCOMBILLER_SETTLED" not in channel.variables
    recorded.callback(None)


@pytest_twisted.ensureDeferred
async def test_a_settled_call_spares_the_channels_next(house):
    channel = await house.play(Channel("1001", "1002", talk_ms=5000), "caller")
    first = house.store.trouble[Terminate] = Deferred()
    await house.play(channel, "caller")
    second = house.store.trouble[Terminate] = Deferred()
    await house.play(channel, "reducer")
    assert "CELCOMBILLER_SETTLED" not in channel.variables
    first.callback(None)
    second.callback(None)
    assert voice(house.engine).posted == 50
    proved(house.engine)


@pytest_twisted.ensureDeferred
async def test_calls_whose_reducer_never_comes_are_forgotten(house, monkeypatch):
    monkeypatch.setattr(settlement, "ENDED_MAX", 2)
    for _ in range(4):
        await house.play(Channel("1001", "1002", talk_ms=1000), "caller")
    assert len(house.scripts.call._settlement._ended) == 2


@pytest_twisted.ensureDeferred
async def test_an_allowed_number_needs_no_ledger(houses):
    house = houses(always_allowed_dial="PJSIP/{number}@emergency")
    house.store.trouble[Initiate] = [StoreUnavailable("away")] * 10
    channel = await house.call(caller="nobody", called="112")
    assert channel.dialled == "PJSIP/112@emergency,40,gi"
    assert house.decided() == {"ALWAYS_ALLOWED": 1}


@pytest.mark.parametrize(("dial", "result"), [("PJSIP/{clid}", "GRANTED"), ("PJSIP/{imsi}", "FAILED")])
@pytest_twisted.ensureDeferred
async def test_an_allowed_number_that_nobody_can_look_up(houses, monkeypatch, dial, result):
    def fetch(statement):
        return fail(StoreUnavailable("away"))

    house = houses(internal_dial=dial)
    monkeypatch.setattr(house.scripts.call._reader, "fetch", fetch)
    channel = await house.play(Channel("nobody", "112"), "caller")
    assert channel.variables["CELCOMBILLER_RESULT"] == result
    assert (channel.dialled == "PJSIP/112,40,gi") == (result == "GRANTED")


@pytest_twisted.ensureDeferred
async def test_the_stamp_subroutine_runs_at_the_answer(house):
    class Stamped(Channel):
        def environment(self, script, host, *, extension=None):
            return super().environment(script, host, extension=extension)[:-1] + b"agi_arg_1: stamp=answered\n\n"

    channel = Stamped("1001", "1002", talk_ms=1000)
    await play(reactor, "127.0.0.1", house.port.getHost().port, channel)
    assert channel.dialled.endswith("L(60000)U(answered)")


@pytest_twisted.ensureDeferred
async def test_an_answer_without_our_nonce_ends_the_session(house):
    class Liar(Channel):
        def answer(self, line):
            return "200 result=1 (Ring|||||)" if "FULL" in line else super().answer(line)

    channel = Liar("1001", "1002")
    await play(reactor, "127.0.0.1", house.port.getHost().port, channel)
    assert channel.dialled == ""
    assert voice(house.engine).held == 0


class Transferred(Channel):
    """Its callee sends it elsewhere."""

    def _dial(self, argument):
        answer = super()._dial(argument)
        self.variables["ANSWEREDTIME_MS"] = ""
        return answer


@pytest_twisted.ensureDeferred
async def test_a_transfer_without_ami_is_charged_at_once(house):
    channel = Transferred("1001", "1002", talk_ms=3000)
    channel.variables["CELCOMBILLER_ANSWERED"] = f"{time.time() - 3:.6f}"
    await play(reactor, "127.0.0.1", house.port.getHost().port, channel)
    assert int(channel.variables["TIMEOUT(absolute)"]) in (56, 57)  # what is left of 60 s, and no time to ring
    assert voice(house.engine).posted < 60
    assert voice(house.engine).held == 0
    proved(house.engine)


@pytest_twisted.ensureDeferred
async def test_a_transfer_on_a_lost_link_stays_open(house):
    link = Mock(connected=False, correct=lambda _uniqueid, report, **_: report, granted_seconds=lambda _, known: known)
    house.scripts.call._monitors = {"127.0.0.1": link}
    channel = Transferred("1001", "1002", talk_ms=3000)
    channel.variables["CELCOMBILLER_ANSWERED"] = f"{time.time() - 3:.6f}"
    await house.play(channel, "caller")
    link.transferred.assert_called_once_with(channel.uniqueid)
    assert int(channel.variables["TIMEOUT(absolute)"]) in (56, 57)
    assert (voice(house.engine).posted, voice(house.engine).held) == (60, 60)


class Elsewhere(Transferred):
    """A channel of an Asterisk with another time."""

    ahead = 0

    def _expand(self, text):
        return super()._expand(text.replace("${STRFTIME(,,%s.%6q)}", f"{time.time() + self.ahead:.6f}"))


async def begin_elsewhere(house, monkeypatch, ahead, seconds_ago):
    """Begin a call on an Asterisk whose clock is so many seconds ahead, and whose link is lost; give its channel."""
    monkeypatch.setattr(Elsewhere, "ahead", ahead)
    house.scripts.call._monitors = {"127.0.0.1": Mock(connected=False, correct=lambda _uniqueid, report, **_: report)}
    channel = await house.play(Elsewhere("1001", "1002"), "caller")
    with house.engine.begin() as tx:
        tx.execute(sa.update(tables.call).values(started_at=datetime.now(UTC) - timedelta(seconds=seconds_ago)))
    return channel


@pytest.mark.parametrize("ahead", [1950, 0, -1950])
@pytest_twisted.ensureDeferred
async def test_a_differing_clock_changes_no_charge(house, monkeypatch, ahead):
    """No answer is known: the caller was transferred."""
    channel = await begin_elsewhere(house, monkeypatch, ahead, 10)
    await house.play(channel, "reducer")
    assert 48 <= voice(house.engine).posted <= 50
    proved(house.engine)


@pytest.mark.parametrize("ahead", [1950, 0, -1950])
@pytest_twisted.ensureDeferred
async def test_a_differing_clock_charges_the_last_call(house, monkeypatch, ahead):
    """The biller died during a call; the channel says how that ended when it asks for its next one."""
    channel = await begin_elsewhere(house, monkeypatch, ahead, 20)
    channel.variables["CELCOMBILLER_ANSWERED"] = f"{time.time() + ahead - 10:.6f}"
    await house.play(channel, "caller")
    assert 48 <= voice(house.engine).posted <= 50
    proved(house.engine)


class Stamped(Transferred):
    """Of a dialplan with the fragment's stamp, and so with its hangup handler."""

    def environment(self, script, host, *, extension=None):
        lines = super().environment(script, host, extension=extension)
        return lines[:-1] + b"agi_arg_1: stamp=celcombiller-answered\n\n"


@pytest_twisted.ensureDeferred
async def test_without_ami_the_hangup_handler_ends_transfers(house):
    channel = Stamped("1001", "1002", talk_ms=3000)
    channel.variables["CELCOMBILLER_ANSWERED"] = f"{time.time() - 3:.6f}"
    await house.play(channel, "caller")
    assert int(channel.variables["TIMEOUT(absolute)"]) in (56, 57)
    assert voice(house.engine).held == 60
    channel.variables["CELCOMBILLER_ANSWERED"] = f"{time.time() - 10:.6f}"
    await house.play(channel, "reducer")
    assert (voice(house.engine).posted, voice(house.engine).held) in ((50, 0), (49, 0))


@pytest_twisted.ensureDeferred
async def test_balance_puts_what_is_available_into_channel_variables(house):
    channel = Channel("1001", "700")
    await play(reactor, "127.0.0.1", house.port.getHost().port, channel, scripts=("balance",))
    assert channel.variables["CELCOMBILLER_VOICE_BALANCE"] == "60"
    assert channel.variables["CELCOMBILLER_DATA_BALANCE"] == "0"


@pytest_twisted.ensureDeferred
async def test_a_silent_biller_holds_no_call_for_ever(monkeypatch):
    monkeypatch.setattr("celcombiller.asterisk.agi.simulator.SESSION_SECONDS", 0.1)
    silent = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    with pytest.raises(TimeoutError, match="no answer"):
        await play(reactor, "127.0.0.1", silent.getHost().port, Channel("1001", "1002"))
    await silent.stopListening()


@pytest.mark.parametrize(
    ("caller", "called"),
    [
        ("724000000001001", "1002"),
        ("IMSI724000000001001", "IMSI724000000001002"),
        ("+1001", "001002"),
        ("1001;phone-context=ims.example", "1002;phone-context=ims.example"),
        ("10 01", "+10-02"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_call_is_charged_by_any_form(houses, caller, called):
    house = houses(external_dial="PJSIP/{number}@trunk")
    channel = await house.call(called, caller, talk_ms=5000)
    assert channel.dialled.startswith("PJSIP/1002,")
    assert voice(house.engine).posted == 55


@pytest_twisted.ensureDeferred
async def test_a_number_outside_is_dialled_plain(houses):
    house = houses(external_dial="PJSIP/{number}@trunk", always_allowed=["190"])
    channel = await house.call("+55 (11)-4000;phone-context=+55", talk_ms=5000)
    assert channel.dialled.startswith("PJSIP/+55114000@trunk,")
    channel = await house.call("190;phone-context=+55")
    assert channel.dialled.startswith("PJSIP/190@trunk,")
