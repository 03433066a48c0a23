"""FastAGI server: Asterisk connects, a script talks with its channel.

Offers the names of starpy's ``fastagi``. Other than starpy it asks one command at a time (Asterisk answers no second
one before), takes ``HANGUP`` for what it is, gives every wait a deadline (Asterisk has none, and a silent server
pins the channel), and ends the session at the first line that does not fit.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections import Counter
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure

from celcombiller.asterisk.agi.codec import (
    AgiCommandRefused,
    AgiDecoder,
    AgiProtocolError,
    AgiReply,
    Environment,
    Hangup,
    command_line,
)
from celcombiller.asterisk.agi.commands import AgiCommands, AgiSession
from celcombiller.asterisk.agi.starpy_session import StarpySession, is_starpy
from celcombiller.runtime.log.peer_lines import PeerLines
from celcombiller.runtime.timers.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from twisted.internet.interfaces import IAddress, IReactorTime

PLAY_SECONDS = 300.0
"""Deadline of commands that play or wait by their nature; no announcement is longer."""
CONNECTIONS_MAX = 20_000
"""Some above the 15,000 simultaneous calls we are measured for."""
HOSTS_KNOWN = 100
"""Addresses of which is remembered whether they are allowed: those of a few Asterisk servers ask all the time."""

_LONG = re.compile(
    r'(?P<dial>EXEC "?DIAL"?(?: |$))|EXEC|STREAM|CONTROL STREAM|GET DATA|GET OPTION|RECORD|SAY|WAIT|RECEIVE',
    re.IGNORECASE,
)
# The names that operators filter by.
_SESSION_LOG = Logger(namespace="celcombiller.asterisk.agi_server.FastAGIProtocol")
_FACTORY_LOG = Logger(namespace="celcombiller.asterisk.agi_server.FastAGIFactory")
_DONE = Failure(ConnectionDone())
_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux only


def run(main: Callable[[Any], Awaitable[object] | None], agi: AgiSession) -> None:
    """Run a script on a session, ours or starpy's, and close the session when it ends or fails.

    A script that returns None has begun something and closes the session itself, as on starpy.
    """
    session = StarpySession(agi) if is_starpy(agi) else agi
    Deferred.fromCoroutine(_session(main, session)).addErrback(_report, session)


async def _session(main: Callable[[Any], Awaitable[object] | None], agi: AgiSession) -> None:
    is_over = True
    try:
        outcome = main(agi)
        is_over = outcome is not None
        if outcome is not None:
            await outcome
    finally:
        if is_over:
            agi.finish()


def _report(failure: Failure, agi: AgiSession) -> None:
    uniqueid = agi.variables.get("agi_uniqueid", "")
    if isinstance(failure.value, (ConnectionClosed, AgiProtocolError)):
        # Not a fault of the script. A breach of the protocol has its own line, with the peer.
        _SESSION_LOG.info("AGI session {uniqueid!r} ended before its script", uniqueid=uniqueid)
    else:
        _SESSION_LOG.failure("AGI script of session {uniqueid!r} failed", failure, uniqueid=uniqueid)


class FastAGIProtocol(AgiCommands, TwistedProtocol):
    """One session with one channel."""

    factory: FastAGIFactory

    variables: dict[str, str]
    arguments: tuple[str, ...] = ()
    hungup = False

    def __init__(self, host: str = "") -> None:
        self.host = host
        self.variables = {}
        self._decoder = AgiDecoder()
        self._queue: list[tuple[bytes, float | None, Deferred[str]]] = []
        self._pending: Deferred[str] | None = None
        self._closing: list[Deferred[None]] | None = None
        self._socket: socket.socket | None = None
        self._is_closed = False
        self._is_awaited = False
        self._hangup: Deferred[None] | None = None

    # ---- what Twisted calls ----

    def connectionMade(self) -> None:
        """Set the socket up, and give the environment its time."""
        transport: Any = self.transport
        self.factory.connections += 1
        self.factory.connections_from[self.host] += 1
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
            if isinstance(transport, Connection):  # and nothing around it, such as TLS, whose bytes are its own
                self._socket = transport.getHandle()
        self._expect_in(self.factory.environment_seconds, "the environment did not come in time")

    def dataReceived(self, data: bytes) -> None:
        """Act on what Asterisk says."""
        try:
            events = self._decoder.receive(data)
        except AgiProtocolError as fault:
            self._drop(str(fault))
            return
        if not events:
            self._acknowledge()
        for event in events:
            match event:
                case AgiReply():
                    self._answer(event)
                case Environment():
                    self._begin(event)
                case Hangup():
                    self._acknowledge()
                    self._hang_up()

    def _hang_up(self) -> None:
        self.hungup = True
        waiting, self._hangup = self._hangup, None
        if waiting is not None:
            waiting.callback(None)

    def whenHungUp(self) -> Deferred[None]:
        """Wait for the caller's hangup; starpy lacks this. Only the last one who asks is told."""
        hangup: Deferred[None] = Deferred()
        if self.hungup:
            hangup.callback(None)
        else:
            self._hangup = hangup
        return hangup

    def _acknowledge(self) -> None:
        """Acknowledge now what was received, because more is to follow it.

        Asterisk writes a line at a time with Nagle on: without an ACK for HANGUP, or for a part of the environment,
        what comes after it waits 40 ms. Linux forgets the option, so it is set again each time.
        """
        if self._socket is not None and _QUICK_ACK is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's has a default
        """Fail everything that still waits."""
        self._socket = None
        self.factory.connections -= 1
        self.factory.connections_from[self.host] -= 1
        if not self.factory.connections_from[self.host]:
            del self.factory.connections_from[self.host]
        self._give_up(reason)
        closing, self._closing = self._closing or [], None
        for waiting in closing:
            waiting.errback(reason)

    # ---- one command at a time ----

    def sendCommand(self, commandString: str) -> Deferred[str]:
        """Ask a command that is quoted already; fires with what follows ``200 result=``."""
        line = command_line(commandString.rstrip("\r\n"))
        if self._is_closed:
            return fail(ConnectionDone("the AGI session is over"))
        answer: Deferred[str] = Deferred()
        if self._pending is None and not self._queue:
            self._send(line, self._patience(commandString), answer)
        else:
            self._queue.append((line, self._patience(commandString), answer))
        return answer

    def _patience(self, text: str) -> float | None:
        long = _LONG.match(text)
        if long is None:
            return self.factory.command_seconds
        return PLAY_SECONDS if long["dial"] is None else None

    def _send(self, line: bytes, seconds: float | None, answer: Deferred[str]) -> None:
        self._pending = answer
        self._decoder.expect_reply()
        self._write(line)
        if seconds is not None:
            self._expect_in(seconds, "a command was not answered in time")
            if seconds == self.factory.command_seconds:
                self._is_awaited = True
                self.factory.answers_awaited += 1

    def _answer(self, reply: AgiReply) -> None:
        answer, self._pending = self._pending, None
        self._meet_deadline()
        if answer is not None:
            if reply.code == 200:  # noqa: PLR2004 - AGI's own, as everywhere in its documentation
                answer.callback(reply.text.removeprefix("result="))
            else:
                answer.errback(AgiCommandRefused(reply.code, reply.text))
        while self._pending is None and self._queue:
            line, seconds, waiting = self._queue.pop(0)
            if not waiting.called:  # not cancelled while it waited
                self._send(line, seconds, waiting)

    def _begin(self, environment: Environment) -> None:
        self.factory.deadlines.met(self)
        self.variables = dict(environment.values)
        for number, value in enumerate(environment.arguments, 1):
            self.variables[f"agi_arg_{number}"] = value
        self.arguments = environment.arguments
        run(self.factory.mainFunction, self)

    def _drop(self, fault: str) -> None:
        if self._is_closed:
            return
        if self.factory.lines.admits(self.host):
            _SESSION_LOG.warn("AGI session from {peer} dropped: {fault}", peer=self.host, fault=fault)
        self._give_up(AgiProtocolError(fault))
        cast("Any", self.transport).abortConnection()

    def _give_up(self, reason: Failure | Exception) -> None:
        self._is_closed = True
        self._meet_deadline()
        waiting = [answer for *_, answer in self._queue]
        if self._pending is not None:
            waiting.insert(0, self._pending)
        self._pending = None
        self._queue.clear()
        for answer in waiting:
            answer.errback(reason)

    def _expect_in(self, seconds: float, fault: str) -> None:
        self.factory.deadlines.set(self, seconds, partial(self._drop, fault))

    def _meet_deadline(self) -> None:
        self.factory.deadlines.met(self)
        if self._is_awaited:
            self._is_awaited = False
            self.factory.answers_awaited -= 1

    def _write(self, line: bytes) -> None:
        """Send a command at once: nothing waits before it, since it is asked after the answer to the last one.

        Twisted's own write costs two system calls more and a turn of the reactor.
        """
        transport: Any = self.transport
        if transport is None:
            return
        if self._socket is not None and not transport.disconnecting:
            try:
                sent = self._socket.send(line)
            except OSError:  # full, or broken: the transport waits, or finds out
                sent = 0
            if sent == len(line):
                return
            line = line[sent:]
            self._socket = None  # what the transport keeps back must go before all that follows
        transport.write(line)

    # ---- starpy's names ----

    def finish(self) -> None:
        """End the session; the dialplan goes on.

        Where nothing is left to be sent and no answer is awaited, this closes at once, as Twisted itself does after a
        half-close; otherwise it waits a turn of the reactor for it, at the price of five system calls.
        """
        transport: Any = self.transport
        if transport is None:
            return
        if self._socket is None or self._is_closed or self._pending is not None:
            transport.loseConnection()
        else:
            transport.connectionLost(_DONE)

    def onClose(self) -> Deferred[None]:
        """Wait for the end of the connection; as in starpy it always fires with a failure, which says how."""
        closed: Deferred[None] = Deferred()
        if self._closing is None:
            self._closing = []
        self._closing.append(closed)
        return closed


class FastAGIFactory(Factory):
    """Takes Asterisk's connections and runs ``mainFunction(agi)`` on each once its environment is read."""

    noisy = False

    def __init__(
        self,
        mainFunction: Callable[[FastAGIProtocol], Awaitable[object] | None],
        *,
        clock: IReactorTime | None = None,
        environment_seconds: float = 5.0,
        command_seconds: float = 10.0,
        allow: Collection[str] | None = None,
        connections_max: int = CONNECTIONS_MAX,
        connections_per_address_max: int = CONNECTIONS_MAX,
        count_limit: Callable[[str], object] = lambda _setting: None,
        lines: PeerLines | None = None,
    ) -> None:
        if clock is None:
            from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

            clock = cast("IReactorTime", reactor)
        self.mainFunction = mainFunction
        self.clock = clock
        self.environment_seconds = environment_seconds
        self.command_seconds = command_seconds
        self.connections_max = connections_max
        self.connections_per_address_max = connections_per_address_max
        self.connections = 0
        self.answers_awaited = 0
        """How many sessions wait for the answer to a command that Asterisk answers at once."""
        self.connections_from: Counter[str] = Counter()
        self._count_limit = count_limit
        self.lines = lines or PeerLines(clock.seconds)
        self.deadlines = Deadlines(clock)
        networks = None if allow is None else tuple(ipaddress.ip_network(each, strict=False) for each in allow)
        self._is_allowed = lru_cache(maxsize=HOSTS_KNOWN)(partial(_within, networks))

    def stopFactory(self) -> None:
        """Drop all deadlines when the port is closed."""
        self.deadlines.stop()

    def buildProtocol(  # type: ignore[override]  # Twisted wants its own type of factory attribute
        self, addr: IAddress | None
    ) -> FastAGIProtocol | None:
        """Take a connection, or None: Twisted then closes it at once."""
        host = getattr(addr, "host", "")
        setting, why = self._find_refusal(host)
        if setting:
            self._count_limit(setting)
            if self.lines.admits(host):
                say = _FACTORY_LOG.warn if setting == "allow" else _FACTORY_LOG.error
                say("AGI connection from {peer} refused: {why} (agi.{setting})", peer=host, why=why, setting=setting)
            return None
        protocol = FastAGIProtocol(host)
        protocol.factory = self
        return protocol

    def _find_refusal(self, host: str) -> tuple[str, str]:
        """Return the setting that refuses a connection from this address, and why; two empty texts: none does."""
        if not self._is_allowed(host):
            return "allow", "not an allowed address"
        if self.connections >= self.connections_max:
            return "connections_max", f"{self.connections_max} are open"
        if self.connections_from[host] >= self.connections_per_address_max:
            return "connections_per_address_max", f"it has {self.connections_per_address_max}"
        return "", ""


_Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


def _within(networks: _Networks | None, host: str) -> bool:
    """Return whether an address is one of these; a dual-stack listener sees IPv4 as ``::ffff:192.0.2.1``."""
    if networks is None:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return any(mapped in network for network in networks)
