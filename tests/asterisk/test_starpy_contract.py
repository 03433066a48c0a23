"""What scripts and the monitor may count on, on our own AGI and AMI and on starpy's, over loopback TCP.

starpy runs where it is installed. Left out of the contract is what it cannot do: HANGUP in front of an answer, answers
of several lines, values with quotes or spaces in setVariable, the loss of an AMI connection (it calls back success).
"""

from functools import partial
from importlib.util import find_spec

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionClosed
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineOnlyReceiver

from celcombiller.asterisk.agi import server as agi_server
from celcombiller.asterisk.agi.commands import full_variable
from celcombiller.asterisk.agi.server import run
from celcombiller.asterisk.ami import client as ami_client
from celcombiller.asterisk.ami.codec import AmiActionInvalid, AmiProtocolError, AmiRefused
from celcombiller.asterisk.ami.starpy_manager import StarpyFactory
from tests.asterisk.agi.test_codec import VALUES, environment
from tests.asterisk.ami.test_codec import GREETING, hangup, status, written
from tests.support.fakes.starpy_manager import StandInFactory

SECONDS_MAX = 5


class Builtin:
    agi = agi_server.FastAGIFactory
    ami = ami_client.AMIFactory


class StandIn:
    def ami(self, username, secret):
        return StarpyFactory(StandInFactory(username, secret), ami_client.AMIFactory(username, secret))


class Starpy:
    def agi(self, main):
        from starpy.fastagi import FastAGIFactory  # noqa: PLC0415 - may not be there

        return FastAGIFactory(partial(run, main))

    def ami(self, username, secret):
        from starpy.manager import AMIFactory  # noqa: PLC0415 - may not be there

        return StarpyFactory(AMIFactory(username, secret), ami_client.AMIFactory(username, secret))


LIBRARIES = {"builtin": Builtin, **({"starpy": Starpy} if find_spec("starpy") else {})}
MANAGERS = LIBRARIES | {"stand-in": StandIn}


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]()


@pytest.fixture(params=MANAGERS)
def manager(request):
    return MANAGERS[request.param]()


class Channel(LineOnlyReceiver):
    """Asterisk's end of FastAGI: answers each command with the next of its answers, and hangs up when it has none."""

    delimiter = b"\n"

    def __init__(self, answers, arguments):
        self.answers = list(answers)
        self.arguments = arguments
        self.commands = []
        self.closed = Deferred()

    def connectionMade(self):
        self.transport.write(environment(arguments=self.arguments))

    def lineReceived(self, line):
        self.commands.append(line.decode())
        if self.answers:
            self.transport.write(self.answers.pop(0) + b"\n")
        else:
            self.transport.loseConnection()

    def connectionLost(self, reason):
        self.closed.callback(None)


async def call(library, main, *answers, arguments=()):
    """Run a script on a channel that answers so; give what the script returned or raised, and what it asked."""
    ended = Deferred()

    async def script(agi):
        try:
            ended.callback(await main(agi))
        except Exception as error:  # noqa: BLE001 - it is what the test asks for
            ended.callback(error)
        finally:
            agi.finish()

    port = reactor.listenTCP(0, library.agi(script), interface="127.0.0.1")
    try:
        channel = Channel(answers, arguments)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        await endpoint.connect(Factory.forProtocol(lambda: channel))
        result = await ended.addTimeout(SECONDS_MAX, reactor)
        await channel.closed.addTimeout(SECONDS_MAX, reactor)
    finally:
        await port.stopListening()
    return result, channel.commands


# ---- AGI ----


@pytest_twisted.ensureDeferred
async def test_a_script_reads_its_environment(library):
    async def main(agi):
        return agi.variables

    variables, _ = await call(library, main, arguments=["2000", ""])
    assert variables == {**VALUES, "agi_arg_1": "2000", "agi_arg_2": ""}


@pytest_twisted.ensureDeferred
async def test_a_script_reads_variables(library):
    async def main(agi):
        return await agi.getVariable("X"), await agi.getVariable("Y"), await agi.sendCommand("GET VARIABLE Z")

    values, commands = await call(
        library, main, b"200 result=1 (ANSWER)", b"200 result=1 (a (b) c)", b"200 result=1 (PJSIP/1)"
    )
    assert values == ("ANSWER", "a (b) c", "1 (PJSIP/1)")
    assert len(commands) == 3


@pytest_twisted.ensureDeferred
async def test_a_script_evaluates_an_expression(library):
    async def main(agi):
        return await full_variable(agi, '${DIALSTATUS}|"${X}"')

    value, commands = await call(library, main, b"200 result=1 (ANSWER|2002)")
    assert value == "ANSWER|2002"
    assert commands == ['GET FULL VARIABLE "${DIALSTATUS}|\\"${X}\\""']


@pytest_twisted.ensureDeferred
async def test_an_unset_variable_is_a_failure(library):
    async def main(agi):
        await agi.getVariable("NONE")

    error, _ = await call(library, main, b"200 result=0")
    assert isinstance(error, Exception)


@pytest_twisted.ensureDeferred
async def test_a_script_sets_a_variable(library):
    async def main(agi):
        return await agi.setVariable("CELCOMBILLER_RESULT", "OK")

    result, (command,) = await call(library, main, b"200 result=1")
    assert result == 1
    assert command.replace('"', "") == "SET VARIABLE CELCOMBILLER_RESULT OK"


@pytest_twisted.ensureDeferred
async def test_a_script_dials(library):
    async def main(agi):
        return await agi.execute("DIAL", "PJSIP/1002,30,L(2000)")

    result, (command,) = await call(library, main, b"200 result=-1")
    assert result == "-1"
    assert command.replace('"', "") == "EXEC DIAL PJSIP/1002,30,L(2000)"


@pytest.mark.parametrize("answer", [b"200 result=-2", b"510 Invalid or unknown command"])
@pytest_twisted.ensureDeferred
async def test_a_missing_application_fails(library, answer):
    async def main(agi):
        await agi.execute("NoSuchApp")

    error, _ = await call(library, main, answer)
    assert isinstance(error, Exception)


@pytest_twisted.ensureDeferred
async def test_a_script_asks_the_channel(library):
    async def main(agi):
        return (
            await agi.answer(),
            await agi.channelStatus(),
            await agi.setAutoHangup(30),
            await agi.noop(),
            await agi.verbose("hello", 3),
            await agi.streamFile("hello", "1"),
            await agi.hangup(),
        )

    answers = [b"0", b"6", b"0", b"0", b"1", b"49 endpos=800", b"1"]
    results, _ = await call(library, main, *[b"200 result=" + answer for answer in answers])
    assert results == (0, 6, 0, 0, 1, (49, 800), 1)


@pytest_twisted.ensureDeferred
async def test_a_dead_channels_refusal_keeps_the_session(library):
    async def main(agi):
        with pytest.raises(Exception, match="511"):
            await agi.answer()
        return await agi.getVariable("X")

    value, _ = await call(library, main, b"511 Command Not Permitted on a dead channel", b"200 result=1 (y)")
    assert value == "y"


@pytest_twisted.ensureDeferred
async def test_a_closed_session_fails_the_pending_command(library):
    async def main(agi):
        await agi.execute("DIAL", "PJSIP/1002")

    error, _ = await call(library, main)
    assert isinstance(error, ConnectionClosed)


@pytest_twisted.ensureDeferred
async def test_a_script_learns_of_the_sessions_end(library):
    async def main(agi):
        closed = agi.onClose().addErrback(lambda failure: failure.value)
        agi.noop().addErrback(lambda _: None)
        return await closed

    error, _ = await call(library, main)
    assert isinstance(error, ConnectionClosed)


# ---- AMI ----


class ManagerSession(LineOnlyReceiver):
    """Asterisk's end of AMI: remembers the actions and answers them, from a table by name."""

    def __init__(self):
        self.lines = []
        self.actions = []
        self.closed = Deferred()

    def connectionMade(self):
        self.transport.write(GREETING)

    def connectionLost(self, reason):
        self.closed.callback(None)

    def lineReceived(self, line):
        if line:
            key, _, value = line.decode().partition(":")
            self.lines.append((key.lower(), value.strip()))
            return
        asked, self.lines = dict(self.lines), []
        self.actions.append({key: value for key, value in asked.items() if key != "actionid"})
        for message in self.messages(asked):
            fields = [(key, asked["actionid"] if value is None else value) for key, value in message]
            self.transport.write(written(fields))

    def messages(self, asked):
        success = [("Response", "Success"), ("ActionID", None)]
        match asked["action"].lower():
            case "challenge":
                yield [*success, ("Challenge", "284866646")]
            case "login" if asked["username"] == "nobody":
                yield [("Response", "Error"), ("ActionID", None), ("Message", "Authentication failed")]
            case "status" if "channel" in asked:
                yield [("Response", "Error"), ("ActionID", None), ("Message", "No such channel")]
            case "status":
                yield [*success, ("EventList", "start"), ("Message", "Channel status will follow")]
                yield status(action_id=None)
                yield status(action_id=None, uniqueid="1.1")
                yield [("Event", "StatusComplete"), ("ActionID", None), ("EventList", "Complete"), ("ListItems", "2")]
            case "getvar":
                yield [*success, ("Variable", asked["variable"]), ("Value", "0.986")]
            case "absolutetimeout" if asked["timeout"] == "0":
                yield [("Response", "Error"), ("ActionID", None), ("Message", "No timeout specified")]
            case "dbget":
                yield [("Response", "Error"), ("ActionID", None), ("Message", "Database entry not found")]
            case "corestatus":
                pass  # it is never answered
            case "ping":
                yield hangup()
                yield [*success, ("Ping", "Pong")]
            case _:
                yield [*success, ("Message", "Done")]


class Asterisk:
    def __init__(self):
        self.sessions = []
        self.clients = []
        factory = Factory.forProtocol(ManagerSession)
        factory.buildProtocol = self.accept
        self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.number = self.port.getHost().port

    def accept(self, addr):
        self.sessions.append(ManagerSession())
        return self.sessions[-1]

    async def login(self, manager, username="biller"):
        factory = manager.ami(username, "s3cret")
        ami = await factory.login("127.0.0.1", self.number, timeout=SECONDS_MAX)
        self.clients.append((ami, ami.onClose()))
        return ami

    @property
    def asked(self):
        return self.sessions[-1].actions[-1]


@pytest.fixture
def asterisk():
    """A scripted Asterisk that waits for the end of its connections."""
    server = Asterisk()
    yield server
    pytest_twisted.blockon(maybeDeferred(server.port.stopListening))
    for ami, closed in server.clients:
        ami.transport.loseConnection()
        pytest_twisted.blockon(closed.addTimeout(SECONDS_MAX, reactor))
    for session in server.sessions:
        pytest_twisted.blockon(session.closed.addTimeout(SECONDS_MAX, reactor))


@pytest_twisted.ensureDeferred
async def test_a_login_gives_the_connection(manager, asterisk):
    ami = await asterisk.login(manager)
    assert asterisk.asked["action"].lower() == "login"
    assert asterisk.asked["username"] == "biller"
    assert ami.amiVersion.endswith("11.0.0")


@pytest_twisted.ensureDeferred
async def test_wrong_credentials_fail_the_login(manager, asterisk):
    with pytest.raises(AmiRefused, match="Authentication failed"):
        await asterisk.login(manager, "nobody")


@pytest_twisted.ensureDeferred
async def test_an_absent_server_fails_the_login(manager, asterisk):
    await asterisk.port.stopListening()
    with pytest.raises(Exception, match="refused"):
        await asterisk.login(manager)


@pytest_twisted.ensureDeferred
async def test_events_have_names_and_lower_case_keys(manager, asterisk):
    ami = await asterisk.login(manager)
    heard = []
    ami.registerEvent("Hangup", lambda ami, event: heard.append((ami, event["uniqueid"], event["cause-txt"])))
    ami.registerEvent(("Newchannel", "DialEnd"), lambda ami, event: heard.append(event))
    await ami.sendDeferred({"Action": "Ping"})
    assert heard == [(ami, "1795387182.0", "Normal Clearing")]
    ami.deregisterEvent("Hangup")
    await ami.ping()
    assert len(heard) == 1


@pytest_twisted.ensureDeferred
async def test_an_action_gets_its_response_even_error(manager, asterisk):
    ami = await asterisk.login(manager)
    response = await ami.sendDeferred({"Action": "AbsoluteTimeout", "Channel": "PJSIP/1", "Timeout": 0})
    assert (response["response"], response["message"]) == ("Error", "No timeout specified")
    assert (await ami.sendDeferred({"action": "Custom", "Key": "value"}))["response"] == "Success"
    assert asterisk.asked == {"action": "Custom", "key": "value"}


@pytest_twisted.ensureDeferred
async def test_a_list_is_collected_to_its_end(manager, asterisk):
    ami = await asterisk.login(manager)
    for items in (await ami.collectDeferred({"Action": "Status"}, "StatusComplete"), await ami.status()):
        assert [item.get("event", item.get("response")) for item in items] == [
            "Success",
            "Status",
            "Status",
            "StatusComplete",
        ]
        assert [item["uniqueid"] for item in items if "uniqueid" in item] == ["1795387182.0", "1.1"]


@pytest_twisted.ensureDeferred
async def test_a_refused_list_is_a_failure(manager, asterisk):
    ami = await asterisk.login(manager)
    with pytest.raises(AmiRefused, match="No such channel"):
        await ami.status("PJSIP/none")
    with pytest.raises(AmiRefused, match="not found"):
        await ami.collectDeferred({"Action": "DBGet", "Family": "x", "Key": "y"}, "DBGetComplete")


@pytest_twisted.ensureDeferred
async def test_the_limit_of_a_channel_is_moved(manager, asterisk):
    ami = await asterisk.login(manager)
    assert (await ami.absoluteTimeout("PJSIP/1", 2.5))["response"] == "Success"
    assert {**asterisk.asked, "action": ""} == {"action": "", "channel": "PJSIP/1", "timeout": "2.5"}
    with pytest.raises(AmiRefused, match="No timeout specified"):
        await ami.absoluteTimeout("PJSIP/1", 0)


@pytest_twisted.ensureDeferred
async def test_variables_are_set_and_read(manager, asterisk):
    ami = await asterisk.login(manager)
    assert (await ami.setVar("PJSIP/1", "TIMEOUT(absolute)", 0))["response"] == "Success"
    assert {**asterisk.asked, "action": ""} == {
        "action": "",
        "channel": "PJSIP/1",
        "variable": "TIMEOUT(absolute)",
        "value": "0",
    }
    assert await ami.getVar("PJSIP/1", "TIMEOUT(absolute)") == "0.986"
    assert await ami.getVar(None, "GLOBAL") == "0.986"
    assert "channel" not in asterisk.asked


@pytest_twisted.ensureDeferred
async def test_a_channel_is_hung_up_redirected_and_called(manager, asterisk):
    ami = await asterisk.login(manager)
    await ami.hangup("PJSIP/1")
    assert {**asterisk.asked, "action": ""} == {"action": "", "channel": "PJSIP/1"}
    await ami.redirect("PJSIP/1", "bye", "s", 1)
    assert asterisk.asked["context"] == "bye"
    await ami.originate("Local/1@x", "y", "2", 1, timeout=2, nowait=True, variable={"A": 1})
    assert (asterisk.asked["timeout"], asterisk.asked["variable"]) == ("2000", "A=1")


@pytest_twisted.ensureDeferred
async def test_the_loss_of_the_connection_is_told(manager, asterisk):
    ami = await asterisk.login(manager)
    closed = ami.onClose()
    asterisk.sessions[-1].transport.loseConnection()
    assert await closed.addTimeout(SECONDS_MAX, reactor) is None


@pytest.mark.parametrize("stop", [None, "CoreStatusComplete"])
@pytest_twisted.ensureDeferred
async def test_a_lost_connection_fails_what_waits(manager, asterisk, stop):
    ami = await asterisk.login(manager)
    answers = [ami.send_request({"Action": "CoreStatus"}, stop, 60.0) for _ in range(3)]
    asterisk.sessions[-1].transport.loseConnection()
    for each in answers:
        with pytest.raises(ConnectionClosed):
            await each.addTimeout(SECONDS_MAX, reactor)
    with pytest.raises(ConnectionClosed):
        await ami.sendDeferred({"Action": "Ping"})


@pytest_twisted.ensureDeferred
async def test_an_unanswered_action_fails_in_time(manager, asterisk):
    ami = await asterisk.login(manager)
    with pytest.raises(AmiProtocolError, match="CoreStatus was not answered in time"):
        await ami.send_request({"Action": "CoreStatus"}, None, 0.01)


@pytest_twisted.ensureDeferred
async def test_a_name_of_bytes_is_sent_back(manager, asterisk, monkeypatch):
    ami = await asterisk.login(manager)
    heard = []
    ami.registerEvent("Hangup", lambda _, event: heard.append(event["channel"]))
    name = b"PJSIP/jos\xe9-00000001"
    event = written(hangup())
    channel = event.partition(b"Channel: ")[2].partition(b"\r\n")[0]
    asterisk.sessions[-1].transport.write(event.replace(channel, name))
    await ami.status()
    lines = []
    monkeypatch.setattr(asterisk.sessions[-1], "lineReceived", lines.append)
    ami.hangup(heard[0]).addErrback(lambda _: None)
    while not any(line.lower() == b"channel: " + name.lower() for line in lines):
        await deferLater(reactor, 0.001)


@pytest.mark.parametrize("value", ["a\r\nAction: Originate", "a\nb", "a\rb"])
@pytest_twisted.ensureDeferred
async def test_no_value_becomes_a_second_action(manager, asterisk, value):
    ami = await asterisk.login(manager)
    with pytest.raises(AmiActionInvalid):
        await ami.setVar("PJSIP/1", "X", value)
