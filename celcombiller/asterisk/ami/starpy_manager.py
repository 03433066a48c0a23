"""A connection of starpy's AMI as the link needs it (``agi.library = "starpy"``).

starpy connects, logs in, and reads and dispatches messages. But it has no deadlines, calls back success when the
connection is lost, never ends a list that was asked for then, and takes text for UTF-8. So requests are sent here.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone

from celcombiller.asterisk import wire_text
from celcombiller.asterisk.ami.actions import AmiActions
from celcombiller.asterisk.ami.codec import AmiProtocolError, AmiRefused, action, is_whole_list

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from celcombiller.asterisk.ami.actions import Fields, Request
    from celcombiller.asterisk.ami.client import AMIFactory


class StarpyManager(AmiActions):
    """A connection that starpy has logged in. ``factory`` has the clock and the deadline of an action."""

    def __init__(self, ami: Any, factory: AMIFactory) -> None:
        self.factory = factory
        self.transport = ami.transport
        self._ami = ami
        self._is_lost = False
        self._pending: set[Deferred[Any]] = set()
        self._closing: list[Deferred[None]] = []
        self._connection_lost = ami.connectionLost
        ami.connectionLost = self._lose
        receive, send = ami.lineReceived, ami.sendLine
        ami.lineReceived = lambda line: receive(wire_text.decode(line).encode())
        ami.sendLine = lambda line: send(wire_text.encode(line.decode()))

    @property
    def amiVersion(self) -> str | None:
        """Return the version of AMI that Asterisk greeted with."""
        version: str | None = self._ami.amiVersion
        return version

    def onClose(self) -> Deferred[None]:
        """Wait for the end of the connection."""
        closed: Deferred[None] = Deferred()
        self._closing.append(closed)
        return closed

    def registerEvent(
        self, event: str | tuple[str | None, ...] | None, function: Callable[[StarpyManager, Fields], object]
    ) -> None:
        """Call a function with every event of these names; None stands for all."""
        names = event if isinstance(event, tuple) else (event,)
        self._ami.registerEvent(names, lambda _ami, fields: function(self, fields))

    def deregisterEvent(self, event: str | tuple[str | None, ...] | None) -> bool:
        """Call all functions no longer for these events; tells whether any was there for each."""
        is_known: bool = self._ami.deregisterEvent(event if isinstance(event, tuple) else (event,))
        return is_known

    def send_request(self, request: Request, stop: str | None, seconds: float) -> Deferred[Any]:
        """Send an action. One that is not answered in time ends the connection: starpy notices no silence."""
        pairs = [(key, str(value)) for key, value in (request.items() if hasattr(request, "items") else request)]
        name = next((value for key, value in pairs if key.lower() == "action"), "")
        action(name, [pair for pair in pairs if pair[0].lower() != "action"], "")  # it raises where two would be read
        if self._is_lost:
            return fail(ConnectionDone("the AMI connection is over"))
        answer: Deferred[Any] = Deferred()
        self._pending.add(answer)
        hear = partial(_hear_message, answer) if stop is None else partial(_hear_item, answer, name, stop, [])
        action_id = self._ami.sendMessage([list(pair) for pair in pairs], hear)
        deadline = self.factory.clock.callLater(seconds, self._time_out, name, answer)
        return answer.addBoth(self._forget, answer, action_id, deadline)

    def _forget(self, result: Any, answer: Deferred[Any], action_id: str, deadline: Any) -> Any:
        self._pending.discard(answer)
        if deadline.active():
            deadline.cancel()
        if not self._is_lost:
            self._ami.cleanup(None, action_id)
        return result

    def _time_out(self, name: str, answer: Deferred[Any]) -> None:
        answer.errback(AmiProtocolError(f"{name} was not answered in time"))
        self.transport.abortConnection()

    def _lose(self, reason: Failure) -> None:
        self._is_lost = True
        try:
            self._connection_lost(reason)
        finally:
            for answer in list(self._pending):
                if not answer.called:
                    answer.errback(reason)
            closing, self._closing = self._closing, []
            for waiting in closing:
                waiting.callback(None)


def _hear_message(answer: Deferred[Any], message: Any) -> None:
    """Take the response to an action. At the loss of the connection it is no message, and `_lose` tells it."""
    if isinstance(message, dict) and not answer.called:
        answer.callback(message)


def _hear_item(answer: Deferred[Any], name: str, stop: str, items: list[Fields], message: Any) -> None:
    """Take a message of a list, of which the event ``stop`` is the last."""
    if not isinstance(message, dict) or answer.called:
        return
    items.append(message)
    if message.get("response") == "Error":
        answer.errback(AmiRefused(message.get("message", "")))
    elif message.get("event") == stop and is_whole_list(items):
        answer.callback(items)
    elif message.get("event") == stop:
        answer.errback(AmiProtocolError(f"the list of {name} is not whole"))


class StarpyFactory:
    """Logs in to one Asterisk through starpy's ``AMIFactory``, as our own does."""

    def __init__(self, starpys: Any, ours: AMIFactory) -> None:
        starpys.maxRetries = 0  # the link connects again, at its own pace
        self._starpys = starpys
        self._ours = ours

    def login(self, ip: str = "localhost", port: int = 5038, timeout: float = 10.0) -> Deferred[StarpyManager]:
        """Connect and log in; wrong credentials are an `AmiRefused`."""
        login: Deferred[Any] = self._starpys.login(ip, port, timeout=timeout)
        return login.addCallbacks(lambda ami: StarpyManager(ami, self._ours), _raise_refused_login)


def _raise_refused_login(failure: Failure) -> Failure:
    if failure.value is None or type(failure.value).__name__ != "AMICommandFailure":
        return failure
    answer = next((each for each in failure.value.args if isinstance(each, dict)), {})
    raise AmiRefused(str(answer.get("message", failure.value)))
