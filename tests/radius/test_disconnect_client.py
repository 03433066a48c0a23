"""Disconnect-Requests: which sessions a NAS is asked to end, and how often."""

import random
from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
from pyrad import packet as pyrad
from twisted.internet.task import Clock

from celcombiller.core.data import session as data_session
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.transaction import transact
from celcombiller.radius import disconnect_client
from tests.support.fakes.nas import FakeTransport
from tests.support.radius_biller import CLIENT, HERE

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest_twisted.ensureDeferred
async def test_a_session_without_credit_is_ended(radius):
    radius.nas.answers = [(pyrad.DisconnectACK, None)]
    radius.credit(100)
    await radius.report("Start", Framed_IP_Address="10.5.0.9", Calling_Station_Id="02-00-00-00-00-01")
    await radius.report("Interim-Update", octets=130)
    await radius.nas.until(lambda: radius.nas.disconnects)
    (asked,) = radius.nas.disconnects
    assert (asked["Acct-Session-Id"], asked["User-Name"]) == (["A1"], ["ana"])
    assert (asked["Framed-IP-Address"], asked["Calling-Station-Id"]) == (["10.5.0.9"], ["02-00-00-00-00-01"])
    await radius.nas.until(lambda: radius.sessions()[0].disconnect_said == "ACK")
    assert radius.sessions()[0].disconnect_at is None
    await radius.report("Stop", octets=131, Acct_Terminate_Cause="Admin-Reset")
    assert radius.balance() == (-31, 0)
    assert radius.sessions()[0].disconnect == "the credit is spent"


@pytest_twisted.ensureDeferred
async def test_a_disabled_subscribers_session_is_ended(radius, monkeypatch):
    monkeypatch.setattr(disconnect_client, "SENDINGS_SECONDS", (0.0, 0.1, 0.2))
    radius.nas.answers = [None, (pyrad.DisconnectNAK, 503)]
    radius.credit(100)
    await radius.report("Start")
    transact(radius.biller.engine, lambda tx: subscriber_records.enable(tx, "ana", NOW, enabled=False))
    await radius.nas.until(lambda: radius.sessions()[0].disconnect_said == "NAK 503")
    assert radius.nas.raw[0] == radius.nas.raw[1]  # the first was not answered, so it came again
    (session,) = radius.sessions()
    assert (session.disconnect, session.disconnect_tries, session.disconnect_at) == (
        *("the subscriber is disabled", 1),
        None,
    )


@pytest_twisted.ensureDeferred
async def test_a_nas_that_refuses_is_asked_again(radius, monkeypatch):
    monkeypatch.setattr("celcombiller.core.data.disconnect_requests.RETRY_MIN", timedelta(seconds=1))
    radius.nas.answers = [(pyrad.DisconnectNAK, 506), (pyrad.DisconnectACK, None)]
    radius.credit(1)
    await radius.report("Start")
    transact(radius.biller.engine, lambda tx: subscriber_records.delete(tx, "ana", NOW))
    await radius.nas.until(lambda: radius.sessions()[0].disconnect_said == "ACK")
    assert radius.sessions()[0].disconnect_tries == 2
    assert radius.sessions()[0].disconnect == "the subscriber is gone"


@pytest.mark.parametrize("datagram", [b"", b"\x29", b"\x29\x00", b"\x29\x00\x00\x14" + bytes(16), b"x" * 300])
def test_other_datagrams_are_no_disconnect_answers(datagram):
    clock = Clock()
    port = disconnect_client.DisconnectPort(clock)
    port.transport = FakeTransport()
    session = data_session.DataSession(
        *("k", 0, "hotspot/nas1", "A1", "ana", 1, 1, 1, NOW, NOW), client="hotspot", nas_address=HERE
    )
    said = port.ask(session, CLIENT)
    port.datagramReceived(datagram, (HERE, CLIENT.disconnect_port))
    assert not said.called
    clock.advance(10)
    assert said.result == ""
    assert random.choice(port.transport.sent)[0] == pyrad.DisconnectRequest
    assert len(port.transport.sent) == 3
