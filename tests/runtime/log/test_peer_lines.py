"""No peer fills the log, and how much was left out is said."""

import pytest
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from celcombiller.runtime.log import peer_lines
from celcombiller.runtime.log.peer_lines import WINDOW_SECONDS, PeerLines


@pytest.fixture
def said():
    events = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def test_a_peers_lines_a_minute_are_limited(said):
    clock, left_out = Clock(), []
    lines = PeerLines(clock.seconds, 3, lambda: left_out.append(1))
    assert [lines.admits("192.0.2.1") for _ in range(10)] == [True] * 3 + [False] * 7
    assert lines.admits("192.0.2.2")
    clock.advance(WINDOW_SECONDS)
    assert [lines.admits("192.0.2.2") for _ in range(3)] == [True] * 3
    (event,) = [each for each in said if each["log_namespace"].endswith("PeerLines")]
    assert (event["count"], event["peer"], len(left_out)) == (7, "192.0.2.1", 7)


def test_a_network_of_ipv6_is_one_peer():
    lines = PeerLines(Clock().seconds, 3)
    assert [lines.admits(f"2001:db8::{each}") for each in range(5)] == [True] * 3 + [False] * 2
    assert lines.admits("unix")


def test_peers_without_number_share_what_one_may_cause(monkeypatch):
    monkeypatch.setattr(peer_lines, "PEERS_MAX", 10)
    lines = PeerLines(Clock().seconds, 3)
    assert [lines.admits(f"192.0.2.{each}") for each in range(20)] == [True] * 13 + [False] * 7
    assert len(lines._lines) == 11
