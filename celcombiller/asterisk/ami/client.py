"""AMI client: one connection, its login, its answers and its events.

Offers the names of starpy's ``manager``, with its lower-case keys (actions: `celcombiller.asterisk.ami.actions`).
Other than starpy every wait has a deadline, a lost connection is a failure to all who wait, a peer that has gone silent
is dropped, and messages that a phone may have forged reach no caller. It does not reconnect: whoever holds it learns of
the loss by `onClose` and logs in again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from celcombiller.asterisk.ami.actions import AmiActions
from celcombiller.asterisk.ami.codec import (
    AmiDecoder,
    AmiMessage,
    AmiProtocolError,
    AmiRefused,
    Greeting,
    action,
    is_whole_list,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress, IDelayedCall
    from twisted.python.failure import Failure

    from celcombiller.asterisk.ami.actions import Fields, Request

    EventListener = Callable[["AMIProtocol", Fields], object]

ITEMS_MAX = 100_000
"""Events in one list: several channels of each of 15,000 calls."""
SUSPECTS_LOG_SECONDS = 60.0

_LOG = Logger(namespace="celcombiller.asterisk.ami_client.AMIProtocol")  # the name that operators filter by


class _PendingAction:
    """An action on its way: who waits for the answer, until when, and for a list what has come of it."""

    __slots__ = ("answer", "deadline", "items", "name", "stop")

    def __init__(self, name: str, stop: str | None, deadline: IDelayedCall) -> None:
        self.name = name
        self.stop = stop
        self.deadline = deadline
        self.answer: Deferred[Any] = Deferred()
        self.items: list[Fields] = []


class AMIProtocol(AmiActions, Protocol):
    """One connection to one Asterisk."""

    factory: AMIFactory

    amiVersion: str | None = None
    fullyBooted = False
    """Whether Asterisk said so: it does at each login of a user who hears events of the class ``system``."""
    suspects = 0
    """How many messages were not believed. When it grows, ask Status rather than wait for events."""

    def __init__(self) -> None:
        self._pending: dict[str, _PendingAction] = {}
        self._decoder = AmiDecoder(self._pending)
        self._listeners: dict[str | None, list[EventListener]] = {}
        self._closing: list[Deferred[None]] = []
        self._is_closed = False
        self._ping: IDelayedCall | None = None
        self._heard_at = 0.0
        self._suspects_logged_at: float | None = None

    # ---- what Twisted calls ----

    def connectionMade(self) -> None:
        """Set the socket up."""
        if ITCPTransport.providedBy(self.transport):
            transport = cast("Any", self.transport)
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        self._heard_at = self.factory.clock.seconds()

    def dataReceived(self, data: bytes) -> None:
        """Act on what Asterisk says."""
        self._heard_at = self.factory.clock.seconds()
        try:
            messages = self._decoder.receive(data)
        except AmiProtocolError as fault:
            self._drop(str(fault))
            return
        for message in messages:
            if isinstance(message, Greeting):
                self.amiVersion = message.version
            elif message.suspect:
                self._count_suspect()
            else:
                self._handle(message)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's has a default
        """Fail everything that still waits."""
        self._fail_pending(reason)
        closing, self._closing = self._closing, []
        for waiting in closing:
            waiting.callback(None)

    def _handle(self, message: AmiMessage) -> None:
        fields = _fields(message)
        pending = self._pending.get(message.action_id or "")
        if pending is not None:
            self._answer(message.action_id or "", pending, message, fields)
        if message.event is not None:
            self.fullyBooted = self.fullyBooted or message.event == "FullyBooted"
            self._dispatch_event(message.event, fields)

    def _answer(self, action_id: str, pending: _PendingAction, message: AmiMessage, fields: Fields) -> None:
        is_last = message.answers == action_id and (
            message.response is not None if pending.stop is None else message.event == pending.stop
        )
        if pending.stop is None:
            if is_last:
                self._close(action_id).callback(fields)
            return
        if message.response == "Error":
            self._close(action_id).errback(AmiRefused(fields.get("message", "")))
            return
        pending.items.append(fields)
        pending.deadline.reset(self.factory.action_seconds)
        if is_last:
            if is_whole_list(pending.items):
                self._close(action_id).callback(pending.items)
            else:  # one was cut by text of a phone; a list that lacks a live call would settle it
                self._close(action_id).errback(AmiProtocolError(f"the list of {pending.name} is not whole"))
        elif len(pending.items) > ITEMS_MAX:
            self._close(action_id).errback(AmiProtocolError(f"more than {ITEMS_MAX} items of {pending.name}"))

    def _close(self, action_id: str) -> Deferred[Any]:
        pending = self._pending.pop(action_id)
        if pending.deadline.active():
            pending.deadline.cancel()
        return pending.answer

    def _dispatch_event(self, event: str, fields: Fields) -> None:
        for listener in [*self._listeners.get(event, ()), *self._listeners.get(None, ())]:
            try:
                listener(self, fields)
            except Exception:  # noqa: BLE001 - one listener's bug must not keep the event from the others
                _LOG.failure("A listener of the AMI event {event!r} failed", event=event)

    def _count_suspect(self) -> None:
        self.suspects += 1
        now = self.factory.clock.seconds()
        if self._suspects_logged_at is None or now - self._suspects_logged_at >= SUSPECTS_LOG_SECONDS:
            self._suspects_logged_at = now
            _LOG.warn(
                "AMI messages were cut or forged by text from a phone, {count} up to now; see callerid= in the guide",
                count=self.suspects,
            )

    # ---- the life of the connection ----

    def keepAlive(self) -> None:
        """Ping from now on, and drop a peer that has gone silent: TCP alone would take it for alive for hours."""
        self._ping = self.factory.clock.callLater(self.factory.ping_seconds, self._ping_now)

    def _ping_now(self) -> None:
        if self.factory.clock.seconds() - self._heard_at >= 2 * self.factory.ping_seconds:
            self._drop("nothing was heard from Asterisk for two pings")
            return
        self.keepAlive()
        self.sendDeferred({"Action": "Ping"}).addErrback(_ignore_failed_ping)

    def _drop(self, fault: str) -> None:
        if self._is_closed:
            return
        peer = getattr(cast("Any", self.transport).getPeer(), "host", "")
        _LOG.warn("AMI connection to {peer} dropped: {fault}", peer=peer, fault=fault)
        self._fail_pending(AmiProtocolError(fault))
        self.abort()

    def abort(self) -> None:
        """Close the connection without waiting for what is still to be written."""
        if self.transport is not None:
            cast("Any", self.transport).abortConnection()

    def _fail_pending(self, reason: Failure | Exception) -> None:
        self._is_closed = True
        if self._ping is not None and self._ping.active():
            self._ping.cancel()
        for answer in [self._close(action_id) for action_id in list(self._pending)]:
            answer.errback(reason)

    def onClose(self) -> Deferred[None]:
        """Wait for the end of the connection."""
        if self._is_closed:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closing.append(closed)
        return closed

    # ---- starpy's names ----

    def registerEvent(self, event: str | tuple[str | None, ...] | None, function: EventListener) -> None:
        """Call a function with every event of these names; None stands for all."""
        for name in event if isinstance(event, tuple) else (event,):
            self._listeners.setdefault(name, []).append(function)

    def deregisterEvent(
        self, event: str | tuple[str | None, ...] | None, function: EventListener | None = None
    ) -> bool:
        """Call a function, or all, no longer for these events; tells whether any was there for each."""
        names = event if isinstance(event, tuple) else (event,)
        is_known = all(name in self._listeners for name in names)
        for name in names:
            left = [listener for listener in self._listeners.pop(name, []) if function not in (None, listener)]
            if left:
                self._listeners[name] = left
        return is_known

    def send_request(self, request: Request, stop: str | None, seconds: float) -> Deferred[Any]:
        """Send an action, under an ActionID that cannot be guessed."""
        pairs = request.items() if isinstance(request, Mapping) else request
        # The ActionID is ours alone, and not to be guessed: it is what makes an answer believed.
        fields = [(key, str(value)) for key, value in pairs if key.lower() != "actionid"]
        name = next((value for key, value in fields if key.lower() == "action"), "")
        action_id = secrets.token_hex(16)
        data = action(name, [(key, value) for key, value in fields if key.lower() != "action"], action_id)
        if self._is_closed or self.transport is None:
            return fail(ConnectionDone("the AMI connection is over"))
        deadline = self.factory.clock.callLater(seconds, self._time_out, action_id)
        pending = self._pending[action_id] = _PendingAction(name, stop, deadline)
        self.transport.write(data)
        return pending.answer

    def _time_out(self, action_id: str) -> None:
        name = self._pending[action_id].name
        self._close(action_id).errback(AmiProtocolError(f"{name} was not answered in time"))


def _fields(message: AmiMessage) -> Fields:
    """Return the fields as starpy does; values of a key that comes again are joined by line feeds, which none has."""
    fields: Fields = {}
    for key, value in message.fields:
        name = key.lower()
        fields[name] = f"{fields[name]}\n{value}" if name in fields else value
    return fields


def _ignore_failed_ping(_: Failure) -> None:
    """Ignore a failed ping: silence or the loss of the connection shows the same."""


class AMIFactory(Factory):
    """Logs in to one Asterisk, as often as asked."""

    noisy = False

    def __init__(
        self,
        username: str,
        secret: str,
        *,
        clock: Any = None,
        events: str = "call,system",
        action_seconds: float = 10.0,
        ping_seconds: float = 15.0,
        plaintext_login: bool = False,
    ) -> None:
        if clock is None:
            from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

            clock = reactor
        self.clock = clock
        self.username = username
        self.secret = secret
        self.events = events
        self.action_seconds = action_seconds
        self.ping_seconds = ping_seconds
        self.plaintext_login = plaintext_login

    def buildProtocol(  # type: ignore[override]  # as in FastAGIFactory
        self,
        addr: IAddress | None,  # noqa: ARG002
    ) -> AMIProtocol:
        """Make the protocol of a new connection."""
        protocol = AMIProtocol()
        protocol.factory = self
        return protocol

    def login(self, ip: str = "localhost", port: int = 5038, timeout: float = 10.0) -> Deferred[AMIProtocol]:
        """Connect and log in, within ``timeout`` seconds in all; wrong credentials are an `AmiRefused`."""
        return Deferred.fromCoroutine(self._login(ip, port, timeout)).addTimeout(timeout, self.clock)

    async def _login(self, ip: str, port: int, connect_seconds: float) -> AMIProtocol:
        endpoint = TCP4ClientEndpoint(self.clock, ip, port, timeout=connect_seconds)
        ami = cast("AMIProtocol", await endpoint.connect(self))
        try:
            await (ami.login() if self.plaintext_login else ami.loginChallengeResponse())
        except BaseException:
            ami.abort()
            raise
        ami.keepAlive()
        return ami
