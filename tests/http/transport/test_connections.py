"""Connections of the API's port: limits, deadlines and turns, on transports in memory and a clock that is set.

How fast they are accepted is tried on sockets of the system.
"""

import socket
from contextlib import ExitStack
from itertools import pairwise

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from celcombiller.http.server import ApiSite
from celcombiller.http.transport.connections import ACCEPT_PAUSE_SECONDS, KEPT_BYTES, ConnectionLimits, Connections

LIMITS = ConnectionLimits(connections_max=6, connections_per_address_max=3)
GET = b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n"
LATER = GET.replace(b"/now", b"/later")
POST = b"POST /now HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"


TURN = 1e-6
"""Seconds of a turn of this reactor."""


class TurnClock(Clock):
    """What is to be done in 0 seconds is done in the next turn, as in a real reactor."""

    def callLater(self, delay, what, *arguments, **named):
        return super().callLater(delay or TURN, what, *arguments, **named)


class Wire(StringTransport):
    """A TCP connection whose client takes ``room`` octets and then no more until `drain`."""

    def __init__(self, host, room=10**9):
        kind = IPv6Address if ":" in host else IPv4Address
        super().__init__(peerAddress=kind("TCP", host, 50000))
        self.room, self.aborted, self.protocol = room, False, None

    def write(self, data):
        super().write(data)
        if self.producer is not None and len(self.value()) > self.room:
            self.producer.pauseProducing()

    def writeSequence(self, data):
        self.write(b"".join(data))

    def drain(self):
        """Take all that was written."""
        self.room += len(self.value())
        self.producer.resumeProducing()

    def abortConnection(self):
        super().abortConnection()
        self.aborted = True

    @property
    def is_paused(self):
        return self.producerState == "paused"


class Page(Resource):
    """Answers ``/now`` at once, and ``/later`` when `answer` is called."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.waiting, self.begun = [], 0

    def render(self, request):
        self.begun += 1
        body = b"%d" % self.begun
        if request.path == b"/later":
            self.waiting.append((request, body))
            return NOT_DONE_YET
        request.setHeader(b"Content-Length", b"%d" % len(body))
        return body

    def answer(self):
        request, body = self.waiting.pop(0)
        request.write(body)
        request.finish()


class Port:
    """A port of the API, its page, and what was counted."""

    def __init__(self, limits=LIMITS, unlimited=lambda _host: False):
        self.clock, self.page, self.counted, self.calls = TurnClock(), Page(), [], 0
        self.connections = Connections(
            self.clock, limits, unlimited=unlimited, count=self.counted.append, calls_wait=lambda: self.calls > 0
        )
        self.site = ApiSite(self.page, self.connections)

    def connect(self, host="192.0.2.1", room=10**9):
        """Return a new connection; None: it is refused."""
        wire = Wire(host, room)
        wire.protocol = self.site.buildProtocol(wire.getPeer())
        if wire.protocol is None:
            return None
        wire.protocol.makeConnection(wire)
        return wire

    def turns(self, count):
        for _ in range(count):
            self.clock.advance(TURN)

    def send(self, wire, data):
        wire.protocol.dataReceived(data)
        self.turns(3)

    def lose(self, wire):
        wire.protocol.connectionLost(Failure(ConnectionError()))


@pytest.fixture
def port():
    return Port()


# -- how many ----------------------------------------------------------------------------------------------------------


def test_connections_are_limited_per_address(port):
    first = [port.connect() for _ in range(3)]
    assert port.connect() is None
    assert port.connect("192.0.2.2") is not None
    port.lose(first[0])
    assert port.connect() is not None
    assert port.counted == ["connections_per_address_max"]


def test_a_network_of_ipv6_counts_as_one_address(port):
    assert all(port.connect(f"2001:db8::{each}") for each in range(1, 4))
    assert port.connect("2001:db8::4") is None
    assert port.connect("2001:db8:0:1::4") is not None


def test_a_proxy_has_as_many_as_there_are():
    port = Port(unlimited=lambda host: host == "192.0.2.1")
    assert all(port.connect() for _ in range(6))


def test_a_new_connection_replaces_the_one_waiting_longest(port):
    wires = [port.connect(f"192.0.2.{each}") for each in range(6)]
    port.send(wires[0], LATER)
    port.send(wires[1], GET)  # waits for a further request since just now
    new = port.connect("192.0.2.99")
    port.send(new, GET)
    assert [each.aborted for each in wires] == [False, False, True, False, False, False]
    assert new.value().endswith(b"\r\n\r\n3")
    port.page.answer()
    assert b"200 OK" in wires[0].value()


def test_a_connection_at_work_is_never_replaced(port):
    wires = [port.connect(f"192.0.2.{each}") for each in range(6)]
    for each in wires:
        port.send(each, LATER)
    assert port.connections.count_working() == 6
    assert port.connect("192.0.2.99") is None
    assert not any(each.aborted for each in wires)


def test_connections_that_are_lost_leave_nothing_behind(port):
    for data in (b"", GET, GET[:9], POST, LATER, GET * 5):
        wire = port.connect()
        port.send(wire, data)
        port.lose(wire)
    port.clock.advance(1000)
    assert (len(port.connections), port.connections.count_working(), len(port.connections.deadlines)) == (0, 0, 0)
    assert port.connections._from == {}


# -- how long ----------------------------------------------------------------------------------------------------------


def test_more_lines_give_a_head_no_time(port):
    wire = port.connect()
    port.send(wire, b"GET /now HTTP/1.1\r\n")
    for _ in range(9):
        port.clock.advance(1)
        port.send(wire, b"X: y\r\n")
    assert not wire.disconnecting
    port.clock.advance(1)
    assert wire.value().startswith(b"HTTP/1.1 408 ")
    assert wire.disconnecting
    assert port.counted == ["head_seconds"]


def test_a_connection_that_asks_nothing_is_ended(port):
    wire = port.connect()
    port.clock.advance(9.9)
    assert not wire.disconnecting
    port.clock.advance(0.1)
    assert wire.disconnecting
    port.clock.advance(60)  # it does not close its half
    assert wire.aborted


def test_a_bodys_time_starts_after_the_head(port):
    wire = port.connect()
    port.clock.advance(9)
    port.send(wire, POST)
    for _ in range(9):
        port.clock.advance(3)
        port.send(wire, b"x")
    assert not wire.disconnecting
    port.clock.advance(3)
    assert wire.value().startswith(b"HTTP/1.1 408 ")
    assert port.counted == ["body_seconds"]


def test_an_idle_connection_has_its_own_time(port):
    wire = port.connect()
    port.send(wire, GET)
    port.clock.advance(59)
    port.send(wire, GET)
    port.clock.advance(59)
    assert not wire.disconnecting
    port.clock.advance(1)
    assert (wire.disconnecting, wire.aborted) == (True, False)
    assert port.counted == []


def test_an_answer_in_work_has_no_deadline(port):
    wire = port.connect()
    port.send(wire, LATER)
    port.clock.advance(100_000)
    port.page.answer()
    assert b"200 OK" in wire.value()


def test_a_client_taking_no_answer_is_cut_off(port):
    wire = port.connect(room=50)
    port.send(wire, GET)
    port.clock.advance(59)
    assert not wire.aborted
    port.clock.advance(1)
    assert wire.aborted
    assert port.counted == ["send_seconds"]


def test_a_client_taking_answers_has_time_again(port):
    wire = port.connect(room=50)
    port.send(wire, GET)
    for _ in range(5):
        port.clock.advance(59)
        assert not wire.aborted
        wire.drain()
        wire.room = 0
        port.send(wire, GET)


def test_a_stuck_closing_connection_is_cut_off(port):
    wire = port.connect()
    port.send(wire, GET.replace(b"Host", b"Connection: close\r\nHost"))
    assert wire.disconnecting
    port.clock.advance(60)
    assert wire.aborted


def test_a_client_may_request_closing_in_any_form(port):
    for header in (b"Connection: close", b"Connection: x\r\nConnection: y,Close", b"Connection: close,x"):
        wire = port.connect()
        port.send(wire, GET.replace(b"Host", header + b"\r\nHost"))
        assert wire.disconnecting, header
        port.lose(wire)


# -- whose turn --------------------------------------------------------------------------------------------------------


def test_one_request_starts_per_reactor_turn(port):
    one, other = port.connect(), port.connect("192.0.2.2")
    one.protocol.dataReceived(GET * 3)
    other.protocol.dataReceived(GET * 3)
    begun = []
    for _ in range(8):
        begun.append(port.page.begun)
        port.clock.advance(TURN)
    assert begun == [1, 2, 3, 4, 5, 6, 6, 6]
    assert one.value().count(b"200 OK") == other.value().count(b"200 OK") == 3


def test_turns_give_way_to_calls_for_a_moment(port):
    wire = port.connect()
    port.calls = 1
    wire.protocol.dataReceived(GET * 3)
    for begun in (0, 1):  # who finds no one before them waits as well
        port.turns(100)
        assert port.page.begun == begun
        port.clock.pump([0.001] * 6)
        assert port.page.begun == begun + 1
    port.calls = 0
    port.clock.pump([0.001] * 2)
    assert port.page.begun == 3


def test_without_calls_a_request_begins_at_once(port):
    port.connect().protocol.dataReceived(GET)
    assert port.page.begun == 1


def test_connections_take_turns(port):
    one, other = port.connect(), port.connect("192.0.2.2")
    one.protocol.dataReceived(GET * 300)
    other.protocol.dataReceived(GET)
    port.turns(2)
    assert other.value().endswith(b"\r\n\r\n3")


def test_nothing_is_begun_while_answers_wait(port):
    wire = port.connect(room=200)
    for _ in range(60):
        if not wire.is_paused:
            wire.protocol.dataReceived(GET * 1000)
        port.turns(50)
    begun = port.page.begun
    assert begun < 5
    assert wire.is_paused
    kept = sum(map(len, wire.protocol._kept))
    assert kept <= KEPT_BYTES + len(GET) * 1000
    wire.drain()
    port.turns(5)
    assert port.page.begun > begun


def test_a_long_request_keeps_the_next_waiting(port):
    wire = port.connect()
    port.send(wire, LATER + GET + LATER)
    port.send(wire, GET)
    assert port.page.begun == 1
    port.page.answer()
    port.turns(5)
    assert port.page.begun == 3
    port.page.answer()
    port.turns(5)
    assert wire.value().count(b"200 OK") == port.page.begun == 4


REQUESTS = [
    GET,
    LATER,
    POST + b"0123456789",
    POST.replace(b"Content-Length: 10", b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
]


@given(st.lists(st.sampled_from(REQUESTS), max_size=6), st.lists(st.integers(1, 90), max_size=20), st.data())
def test_any_segments_of_requests_give_equal_answers(requests, cuts, data):
    port = Port()
    wire = port.connect()
    text = b"".join(requests)
    for cut in [*cuts, len(text)]:
        piece, text = text[:cut], text[cut:]
        if piece:
            wire.protocol.dataReceived(piece)
        if port.page.waiting and data.draw(st.booleans()):
            port.page.answer()
        port.turns(data.draw(st.integers(0, 3)))
    for _ in range(len(requests)):
        port.turns(2)
        if port.page.waiting:
            port.page.answer()
    port.turns(2)
    assert wire.value().count(b"200 OK") == port.page.begun == len(requests)
    assert not any(wire.protocol._kept)


def test_a_line_that_is_too_long_is_answered(port):
    wire = port.connect()
    port.send(wire, b"GET /" + b"x" * 20_000)
    assert wire.value().startswith(b"HTTP/1.1 414 ")
    wire = port.connect()
    port.send(wire, b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000)
    assert wire.value().startswith(b"HTTP/1.1 431 ")


# -- real sockets ------------------------------------------------------------------------------------------------------


@pytest.fixture
def listening():
    """A page that is served on a port of the system."""
    port = reactor.listenTCP(0, ApiSite(Page(), Connections(reactor, ConnectionLimits())), interface="127.0.0.1")
    yield port
    pytest_twisted.blockon(port.stopListening())


def connect(port, stack):
    return stack.enter_context(socket.create_connection(("127.0.0.1", port.getHost().port)))


@pytest_twisted.ensureDeferred
async def test_many_connections_are_accepted_little_by_little(listening):
    with ExitStack() as stack:
        connect(listening, stack)
        await deferLater(reactor, 2 * ACCEPT_PAUSE_SECONDS)
        before, clients = reactor.seconds(), [connect(listening, stack) for _ in range(20)]
        accepted = [1]
        while accepted[-1] < 1 + len(clients):
            await deferLater(reactor, 0)
            accepted.append(len(listening.factory.connections))
        assert max(after - before for before, after in pairwise(accepted)) == 1
        assert reactor.seconds() - before > (len(clients) // 2 - 1) * ACCEPT_PAUSE_SECONDS
    await deferLater(reactor, 0.05)
