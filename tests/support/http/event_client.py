"""A client of server-sent events, which reads a stream as a browser does (WHATWG HTML, section 9.2)."""

import json
from dataclasses import dataclass

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol


@dataclass
class Event:
    """What was sent: its kind, its data, and its id if it has one."""

    kind: str
    data: dict
    id: str = ""


class EventStream(Protocol):
    """The stream, over HTTP/1.0, so that it is sent as it is and not in chunks."""

    def __init__(self, request):
        self._request = request
        self._text = b""
        self._status = None
        self.events, self.comments = [], []
        self.headers = b""
        self.is_over = False
        self._waiting = None

    def connectionMade(self):
        self.transport.write(self._request)

    def dataReceived(self, data):
        self._text += data
        if self._status is None and b"\r\n\r\n" in self._text:
            self.headers, _, self._text = self._text.partition(b"\r\n\r\n")
            self._status = int(self.headers.split()[1])
        while self._status == 200 and b"\n\n" in self._text:
            block, _, self._text = self._text.partition(b"\n\n")
            self._take(dict(line.split(b": ", 1) for line in block.split(b"\n")))
        self._wake()

    def _take(self, fields):
        if b"" in fields:
            self.comments.append(fields[b""].decode())
            return
        event_id = fields.get(b"id", b"").decode()
        self.events.append(Event(fields[b"event"].decode(), json.loads(fields[b"data"]), event_id))

    def connectionLost(self, reason):
        self.is_over = True
        self._wake()

    def _wake(self):
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def until(self, holds):
        """Wait until something holds of this stream, at most 10 seconds."""
        while not holds(self):
            self._waiting = Deferred()
            await self._waiting.addTimeout(10, reactor)
        return self

    async def next(self):
        """Return the next event."""
        await self.until(lambda each: each.events or each.is_over)
        return self.events.pop(0)

    async def status(self):
        await self.until(lambda each: each._status is not None or each.is_over)
        return self._status

    async def close(self):
        self.transport.abortConnection()
        await self.until(lambda each: each.is_over)


async def listen(client, path="/api/v1/live/events", **headers):
    """Open a stream with the credentials of a client."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if client.cookie:
        sent["Cookie"] = f"session={client.cookie}"
    if client.bearer:
        sent["Authorization"] = f"Bearer {client.bearer}"
    lines = [f"GET {path} HTTP/1.0", "Host: localhost", *(f"{name}: {value}" for name, value in sent.items())]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    port = int(client.base.rpartition(":")[2])
    return await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), EventStream(request))
