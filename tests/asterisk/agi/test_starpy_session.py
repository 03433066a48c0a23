"""Our scripts on starpy's FastAGI: a stand-in that takes lines as starpy does, and starpy itself where it is installed."""

from functools import partial
from importlib.util import find_spec

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver

from celcombiller.asterisk.agi.server import run
from celcombiller.asterisk.agi.simulator import Channel
from celcombiller.core.schema import tables
from tests.core.ledger.test_book import proved, voice


class AGICommandFailure(Exception):
    """Named as starpy's."""


class StandIn(LineOnlyReceiver):
    """Takes each line for the answer to the oldest command."""

    delimiter = b"\n"
    waits_for_environment = True

    def __init__(self):
        self.variables, self.pendingMessages = {}, []

    def sendCommand(self, commandString):
        self.pendingMessages.append(Deferred())
        self.sendLine(commandString.encode())
        return self.pendingMessages[-1]

    def lineReceived(self, line):
        text = line.decode("utf-8")
        if self.waits_for_environment:
            key, _, value = text.partition(":")
            if text:
                self.variables[key] = value[1:]
            else:
                self.waits_for_environment = False
                self.factory.mainFunction(self)
        elif self.pendingMessages:
            answer = self.pendingMessages.pop(0)
            code, _, rest = text.partition(" ")
            if code == "200":
                answer.callback(rest.removeprefix("result="))
            else:
                answer.errback(AGICommandFailure(int(code) if code.isdigit() else 500, rest or text))

    def connectionLost(self, reason):
        for each in self.pendingMessages:
            each.errback(ConnectionDone())

    def finish(self):
        self.transport.loseConnection()


StandIn.__module__ = "starpy.fastagi"


def stand_in(main):
    factory = Factory.forProtocol(StandIn)
    factory.mainFunction = main
    return factory


def real(main):
    from starpy.fastagi import FastAGIFactory  # noqa: PLC0415  may not be there

    return FastAGIFactory(main)


LIBRARIES = [stand_in, *([real] if find_spec("starpy") else [])]


@pytest.fixture(params=LIBRARIES, ids=lambda each: each.__name__)
def on_starpy(request, house):
    house.port.stopListening()
    house.port = reactor.listenTCP(0, request.param(partial(run, house.scripts)), interface="127.0.0.1")
    return house


class HangingUp(Channel):
    """Its caller hangs up in mid-call: HANGUP comes before the answer to Dial."""

    def answer(self, line):
        answer = super().answer(line)
        return f"HANGUP\n{answer}" if line.startswith("EXEC DIAL") else answer


class Lacking(Channel):
    """It answers a command with 520, in several lines, and another with 511."""

    def answer(self, line):
        if line.startswith("EXEC MSET"):
            return (
                "520-Invalid command syntax.  Proper usage follows:\n"
                "Example return code: 200 result=1 (x)\n520 End of proper usage."
            )
        if line.startswith("SET AUTOHANGUP"):
            return "511 Command Not Permitted on a dead channel or intercept routine"
        return super().answer(line)


@pytest.mark.parametrize("kind", [Channel, HangingUp, Lacking])
@pytest_twisted.ensureDeferred
async def test_a_call_is_settled_by_the_caller_script(on_starpy, kind):
    channel = await on_starpy.play(kind("1001", "1002", talk_ms=5000), "caller", "reducer")
    assert channel.variables["CELCOMBILLER_RESULT"] == "GRANTED"
    assert channel.variables["CELCOMBILLER_SETTLED"] == "1"
    assert (voice(on_starpy.engine).posted, voice(on_starpy.engine).held) == (55, 0)
    with on_starpy.engine.begin() as tx:
        assert tx.execute(sa.select(tables.call.c.witness)).scalar_one() == "agi"
    proved(on_starpy.engine)


@pytest_twisted.ensureDeferred
async def test_a_refusal_sets_its_code(on_starpy):
    channel = await on_starpy.play(Channel("1002", "1001"), "caller", "reducer", "balance")
    assert channel.variables["CELCOMBILLER_RESULT"] == "NO_CREDIT"
    assert channel.variables["CELCOMBILLER_VOICE_BALANCE"] == "0"
