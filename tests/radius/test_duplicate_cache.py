"""Requests that come again get the first answer."""

import pytest_twisted
from twisted.internet.task import Clock

from celcombiller.core.schema import tables
from celcombiller.radius.duplicate_cache import KEPT_MAX, KEPT_SECONDS, DuplicateCache
from tests.support.fake_nas import access_request


@pytest_twisted.ensureDeferred
async def test_a_repeated_request_gets_the_same_answer(radius):
    radius.credit(100)
    packet = access_request("ana", "wrong")
    first = (await radius.ask(packet)).raw_packet
    for _ in range(8):
        assert (await radius.ask(packet)).raw_packet == first
    assert (radius.count("REJECTED"), radius.count("REPEATED")) == (1, 8)
    (attempts,) = radius.biller.rows(tables.login_attempt)[:1]
    assert attempts["failures"] == 1


def test_answers_are_kept_for_a_while():
    clock = Clock()
    duplicates = DuplicateCache(clock.seconds)
    assert duplicates.is_new("a")
    assert not duplicates.is_new("a")
    duplicates.answered("a", b"yes")
    assert duplicates.answer("a") == b"yes"
    clock.advance(KEPT_SECONDS)
    assert duplicates.is_new("a")
    duplicates.forget("a")
    assert duplicates.is_new("a")
    for number in range(2 * KEPT_MAX):
        assert duplicates.is_new(number)
    assert len(duplicates) == KEPT_MAX
    duplicates.answered("a", b"too late")
    assert duplicates.answer("a") is None
