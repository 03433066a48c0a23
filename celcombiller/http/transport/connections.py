"""The connections of the API's port: how many there are, how long a client may take, and whose turn it is.

Calls are served by the same thread and from the same open files, so the API leaves room for them:

* There are so many connections in all and from one address. When all are taken, the one that has waited longest
  without a request is closed in favour of the new one, as nginx does.
* A request has a deadline for its head and one for its body, whatever the client sends meanwhile, and an answer one
  for being taken. Twisted's own timeout starts again with each octet.
* In a turn of the reactor one connection is read and one request is begun. While a call waits for its decision, those
  that want a turn wait a little: the thread that writes the ledger needs the GIL, which a busy reactor hands over
  only every five milliseconds. The same holds while Asterisk is about to answer a command of a call. A call asks it
  several, and would wait for a request after each.
* In five milliseconds two connections are accepted; the others wait in the queue of the system. A client that connects
  again and again takes less than a third of the thread that way, a little at a time.
* A connection that takes no answers is not read, so a client that sends and sends without reading costs what fits into
  its buffers. Twisted itself goes on reading when a request is answered while the answers before it wait.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from twisted.internet.tcp import Server
from twisted.web.http import HTTPChannel

from celcombiller.core.model.addresses import network_of
from celcombiller.runtime.timers.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.http import Request

KEPT_BYTES = 16 * 1024
"""Octets that are kept of a connection whose turn has not come. With more it is not read."""

GIVE_WAY_SECONDS = 0.001
GIVE_WAY_SECONDS_MAX = 0.005
"""How long a turn waits for calls: most decisions take less, and the API still has 200 turns a second when none do."""

ACCEPTED_AT_ONCE = 2
ACCEPT_PAUSE_SECONDS = 0.005
"""A connection that is accepted, asks, and is closed again costs up to 0.7 ms. Without a pause Twisted accepts a
hundred in one turn, for which calls wait."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What clients may use up; the names are those of the settings in ``[rest]``."""

    connections_max: int = 500
    connections_per_address_max: int = 100
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    upload_seconds: float = 600.0
    idle_seconds: float = 60.0
    send_seconds: float = 60.0
    unsent_bytes_max: int = 64 * 1024


class Phase(Enum):
    """What a connection does."""

    IDLE = auto()
    """It waits for a further request."""
    HEAD = auto()
    BODY = auto()
    WORK = auto()
    """A request is answered."""


class Connections:
    """All connections of a port.

    ``count`` is called with the name of the setting each time that a limit is reached. From ``unlimited``, the
    addresses of proxies, come the connections of many clients. ``calls_wait`` returns whether a call waits
    for its decision, or for what Asterisk answers at once.
    """

    def __init__(
        self,
        clock: IReactorTime,
        limits: ConnectionLimits,
        *,
        unlimited: Callable[[str], bool] = lambda _host: False,
        count: Callable[[str], object] = lambda _setting: None,
        calls_wait: Callable[[], bool] = lambda: False,
    ) -> None:
        self.clock = clock
        self.limits = limits
        self.deadlines = Deadlines(clock)
        self.count = count
        self._is_unlimited = unlimited
        self._open: dict[LimitedChannel, str] = {}
        self._without_request: dict[LimitedChannel, None] = {}
        self._streaming: set[LimitedChannel] = set()
        self._from: Counter[str] = Counter()
        self._turns: deque[LimitedChannel] = deque()
        self._turn_is_taken = False
        self._calls_wait = calls_wait
        self._gave_way_seconds = 0.0
        self._accepted_at: deque[float] = deque(maxlen=ACCEPTED_AT_ONCE)
        self._pause: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._open)

    def count_working(self) -> int:
        """Return how many requests are being answered, without streams of events."""
        return len(self._open) - len(self._without_request) - len(self._streaming)

    def count_unsent(self) -> int:
        """Return how many connections have answers that the client does not take."""
        return sum(each.is_blocked for each in self._open)

    def admits(self, host: str) -> bool:
        """Return whether a connection from this address is accepted; if all are taken, another is closed for it."""
        if not self._is_unlimited(host) and self._from[network_of(host)] >= self.limits.connections_per_address_max:
            self.count("connections_per_address_max")
            return False
        if len(self._open) < self.limits.connections_max:
            return True
        self.count("connections_max")
        oldest = next(iter(self._without_request), None)
        if oldest is None:
            return False
        self.remove(oldest)
        oldest.abort()
        return True

    def add(self, channel: LimitedChannel, host: str) -> None:
        """Count a new connection."""
        self._open[channel] = network_of(host)
        self._from[self._open[channel]] += 1
        self._without_request[channel] = None

    def pace_accepting(self, port: Any) -> None:
        """Note that a port has accepted a connection; if it was one of many, accept no further one for a moment."""
        port.numberAccepts = 0  # Twisted accepts in one turn what it did in the last, or 20 more after all of these
        now = self.clock.seconds()
        self._accepted_at.append(now)
        pause_seconds = self._accepted_at[0] + ACCEPT_PAUSE_SECONDS - now
        if len(self._accepted_at) == ACCEPTED_AT_ONCE and pause_seconds > 0 and self._pause is None:
            port.stopReading()
            self._pause = self.clock.callLater(pause_seconds, self._go_on_accepting, port)

    def _go_on_accepting(self, port: Any) -> None:
        self._pause = None
        port.startReading()

    def stop(self) -> None:
        """Drop what would be done later; the port is closed."""
        self.deadlines.stop()
        if self._pause is not None:
            self._pause.cancel()

    def remove(self, channel: LimitedChannel) -> None:
        """Forget a connection that is lost, or will be."""
        network = self._open.pop(channel, None)
        self._without_request.pop(channel, None)
        self._streaming.discard(channel)
        self.deadlines.met((channel, "read"))
        self.deadlines.met((channel, "write"))
        if network is None:
            return
        self._from[network] -= 1
        if not self._from[network]:
            del self._from[network]
        if not self._open:
            self.deadlines.stop()

    def note_work(self, channel: LimitedChannel) -> None:
        """Note that a request of this connection is being answered."""
        self._without_request.pop(channel, None)

    def note_stream(self, channel: LimitedChannel) -> None:
        """Note that the answer on this connection is a stream of events: it has no end, and costs little."""
        if channel in self._open:
            self._streaming.add(channel)

    def note_wait(self, channel: LimitedChannel) -> None:
        """Note that this connection has no request in work."""
        self._streaming.discard(channel)
        if channel in self._open:
            self._without_request[channel] = None

    # -- turns -------------------------------------------------------------------------------------------------------

    def request_turn(self, channel: LimitedChannel) -> None:
        """Let a connection take its turn: now, or later when others took this one or a call waits."""
        self._turns.append(channel)
        if not self._turn_is_taken:
            self._end_turn()

    def _give_turn(self, channel: LimitedChannel) -> None:
        self._turn_is_taken = True
        self.clock.callLater(0, self._end_turn)
        channel.take_turn()

    def _end_turn(self) -> None:
        if self._turns and self._gave_way_seconds < GIVE_WAY_SECONDS_MAX and self._calls_wait():
            self._gave_way_seconds += GIVE_WAY_SECONDS
            self._turn_is_taken = True
            self.clock.callLater(GIVE_WAY_SECONDS, self._end_turn)
            return
        self._gave_way_seconds = 0.0
        self._turn_is_taken = False
        if self._turns:
            self._give_turn(self._turns.popleft())


class LimitedChannel(HTTPChannel):
    """A connection that keeps the limits, and gives the reason when it ends a request that it cannot read."""

    connections: Connections
    phase = Phase.HEAD
    is_blocked = False

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[bytes] = []
        self._has_asked = False
        self._is_over = False

    # -- what Twisted calls ------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Count the connection, and give it its time."""
        super().connectionMade()
        self.connections.add(self, getattr(self._network.getPeer(), "host", ""))
        self._prepare_socket()
        self._expect_within(self.connections.limits.head_seconds, "head_seconds")

    def dataReceived(self, data: bytes) -> None:
        """Keep what comes until it is this connection's turn."""
        if self._is_over:
            return
        self._kept.append(data)
        if sum(map(len, self._kept)) >= KEPT_BYTES:
            self._network.pauseProducing()
        self._go_on()

    def take_turn(self) -> None:
        """Read what was kept, up to the end of one request."""
        self._has_asked = False
        if self._is_over or self.is_blocked:
            return
        kept, self._kept = b"".join(self._kept), []
        if self.phase is Phase.IDLE:
            self.phase = Phase.HEAD
            self._expect_within(self.connections.limits.head_seconds, "head_seconds")
        self._network.resumeProducing()
        super().dataReceived(kept)

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Return whether the connection stays open. Twisted reads the first line of the header only, and no commas."""
        lines = request.requestHeaders.getRawHeaders(b"connection")
        if lines:
            request.requestHeaders.setRawHeaders(b"connection", [b" ".join(lines).replace(b",", b" ")])
        return bool(super().checkPersistence(request, version))

    def allHeadersReceived(self) -> None:
        """Start the deadline of the body."""
        super().allHeadersReceived()
        self.phase = Phase.BODY
        limits = self.connections.limits
        if any(getattr(each, "is_upload", False) for each in self.requests[-1:]):
            self._expect_within(limits.upload_seconds, "upload_seconds")
        else:
            self._expect_within(limits.body_seconds, "body_seconds")

    def allContentReceived(self) -> None:
        """Answer. That may take as long as it takes."""
        self.phase = Phase.WORK
        self.connections.deadlines.met((self, "read"))
        self.connections.note_work(self)
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """Wait for the next request. If it has come already, it has its turn later."""
        kept, self._kept = self._kept, []
        super().requestDone(request)  # gives to `dataReceived` what came before the answer was there
        self._kept += [self.clearLineBuffer(), *kept]
        self.connections.note_wait(self)
        if not self.persistent or self._is_over:
            return
        self.phase = Phase.IDLE
        self._expect_within(self.connections.limits.idle_seconds, "")
        if self.is_blocked:
            self._network.pauseProducing()
        self._go_on()

    def pauseProducing(self) -> None:
        """Note that the client takes nothing, and give it its time."""
        super().pauseProducing()
        self.is_blocked = True
        limits = self.connections.limits
        self.connections.deadlines.set((self, "write"), limits.send_seconds, lambda: self._end("send_seconds"))

    def resumeProducing(self) -> None:
        """Go on: the client has taken all."""
        self.is_blocked = False
        self.connections.deadlines.met((self, "write"))
        super().resumeProducing()
        self._go_on()

    def loseConnection(self) -> None:
        """Close once the client has taken what was written, and then at the latest."""
        super().loseConnection()
        self._is_over = True
        limits = self.connections.limits
        self.connections.deadlines.met((self, "read"))
        self.connections.deadlines.set((self, "write"), limits.send_seconds, lambda: self._end("send_seconds"))

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's has a default
        """Forget the connection."""
        self._is_over = True
        self.connections.remove(self)
        super().connectionLost(reason)

    def lineLengthExceeded(self, _line: bytes) -> None:
        """Refuse an address or a header of more than 16 KiB. Twisted itself would close without an answer."""
        self._refuse(b"431 Request Header Fields Too Large" if self.requests else b"414 URI Too Long")

    # -- our own -----------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """End the connection at once, whatever was not sent."""
        self._is_over = True
        self._network.abortConnection()

    @property
    def _network(self) -> Any:
        return self.transport

    def _prepare_socket(self) -> None:
        """Have the socket say when so much waits to be sent, and its port accept the next ones little by little.

        TLS and the protocol of HAProxy stand around the socket.
        """
        transport = self._network
        while hasattr(transport, "transport"):
            transport = transport.transport
        transport.bufferSize = self.connections.limits.unsent_bytes_max
        if isinstance(transport, Server):
            self.connections.pace_accepting(transport.server)

    def _go_on(self) -> None:
        if any(self._kept) and not (self._has_asked or self.is_blocked or self._is_over or self.phase is Phase.WORK):
            self._has_asked = True
            self.connections.request_turn(self)

    def _expect_within(self, seconds: float, setting: str) -> None:
        self.connections.deadlines.set((self, "read"), seconds, lambda: self._end(setting))

    def _end(self, setting: str) -> None:
        """End the connection at a deadline. A client that began a request gets the reason."""
        if setting:
            self.connections.count(setting)
        if setting == "send_seconds":
            self.abort()
        elif self.requests or any(self._kept):
            self._refuse(b"408 Request Timeout")
        else:
            self.loseConnection()

    def _refuse(self, status: bytes) -> None:
        self._network.write(b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
        self.loseConnection()
