"""Requests that come again get the first answer."""

import pytest_twisted
from pyrad import packet as pyrad
from twisted.internet.task import Clock

from celcombiller.core.schema import tables
from celcombiller.radius.duplicate_cache import KEPT_MAX, KEPT_SECONDS, DuplicateCache
from tests.support.fakes.nas import access_request
from tests.support.http.api_service import PASSWORD


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


@pytest_twisted.ensureDeferred
async def test_another_user_with_equal_id_is_asked(radius):
    """A NAS with poor random numbers uses both again: the second user must not get the first one's answer."""
    radius.credit(100)
    known, unknown = access_request("ana", PASSWORD), access_request("eve", PASSWORD)
    unknown.id, unknown.authenticator = known.id, known.authenticator
    unknown["User-Password"] = unknown.PwCrypt(PASSWORD)
    assert (await radius.ask(known)).code == pyrad.AccessAccept
    assert (await radius.ask(unknown)).code == pyrad.AccessReject


def test_answers_are_kept_for_a_while():
    clock = Clock()
    duplicates = DuplicateCache(clock.seconds)
    assert duplicates.add_request("a")
    assert not duplicates.add_request("a")
    duplicates.record_response("a", b"yes")
    assert duplicates.response_to("a") == b"yes"
    clock.advance(KEPT_SECONDS)
    assert duplicates.add_request("a")
    duplicates.forget_request("a")
    assert duplicates.add_request("a")
    for number in range(2 * KEPT_MAX):
        assert duplicates.add_request(number)
    assert len(duplicates) == KEPT_MAX
    duplicates.record_response("a", b"too late")
    assert duplicates.response_to("a") is None
