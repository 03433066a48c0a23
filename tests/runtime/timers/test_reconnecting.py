"""The loop that keeps a connection up, on a clock that is told the time."""

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger

from celcombiller.runtime.timers.reconnecting import FAULT_SECONDS, stay_connected
from tests.support.deferreds import failure_of


class Peer:
    """A peer whose every attempt and every connection ends as the test says."""

    def __init__(self, *attempts, **settings):
        self.clock, self.events, self.tried_at, self.served = Clock(), [], [], []
        self.attempts, self.is_wanted = list(attempts), True
        self.settings = settings
        self.log = Logger(namespace="here", observer=self.events.append)

    def start(self):
        loop = stay_connected(
            self.clock, lambda: self.is_wanted, self.connect, self.serve, log=self.log, peer="P", **self.settings
        )
        self.running = Deferred.fromCoroutine(loop)
        return self

    def connect(self):
        self.tried_at.append(self.clock.seconds())
        result = self.attempts.pop(0) if self.attempts else Deferred()
        return fail(result) if isinstance(result, Exception) else succeed(result) if result == "up" else result

    def serve(self, connection):
        self.served.append(Deferred())
        return self.served[-1]

    def waits(self):
        return [later - earlier for earlier, later in zip(self.tried_at, self.tried_at[1:], strict=False)]

    def sentences(self):
        return [event["log_format"].format(**event) for event in self.events]


def test_attempts_are_spaced_further_and_further():
    peer = Peer(*[ConnectionError(f"attempt {number}.") for number in range(20)]).start()
    peer.clock.pump([0.25] * 4 * 600)
    waits = peer.waits()
    assert 0.5 <= waits[0] < 2
    assert waits[5] > 2 * waits[0]
    assert 60 <= waits[-1] < 62  # Twisted adds up to a second at random
    assert peer.sentences()[:2] == ["P: attempt 0; it is tried again", "P: attempt 1; it is tried again"]


def test_a_reason_is_logged_when_it_changes():
    peer = Peer(ConnectionError("a"), ConnectionError("a"), OSError(), "up", ConnectionError("a")).start()
    peer.clock.pump([0.25] * 4 * 60)
    peer.served[0].callback(None)
    again = "it is tried again"
    assert peer.sentences() == [f"P: a; {again}", f"P: OSError; {again}", f"P: a; {again}"]


def test_an_error_may_ask_for_a_longer_wait():
    peer = Peer(PermissionError("no"), least_seconds=lambda error: 15 * isinstance(error, PermissionError)).start()
    peer.clock.pump([0.25] * 4 * 20)
    assert peer.waits() == [15]


def test_a_fault_while_serving_is_tried_again(expected_failures):
    peer = Peer("up", "up").start()
    peer.served[0].errback(KeyError("a fault"))
    peer.clock.advance(FAULT_SECONDS)
    assert peer.waits() == [FAULT_SECONDS]
    assert len(peer.served) == 2
    assert peer.sentences() == ["P: serving the connection failed; connecting again"]


def test_an_ended_connection_is_replaced_at_once():
    peer = Peer("up", "up").start()
    peer.served[0].callback(None)
    assert len(peer.served) == 2
    peer.is_wanted = False
    peer.served[1].callback(None)
    assert peer.running.called


@pytest.mark.parametrize("attempts", [(), ("up",), (ConnectionError("away"),)])
def test_the_loop_ends_when_it_is_cancelled(attempts):
    peer = Peer(*attempts).start()
    peer.running.cancel()
    assert isinstance(failure_of(peer.running), CancelledError)
    assert peer.clock.getDelayedCalls() == []
