"""The UDP ports: which datagrams are answered, and which ignored."""

from datetime import UTC, datetime

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from pyrad import packet as pyrad
from twisted.internet.task import Clock

from celcombiller.config.tables import RadiusClient
from celcombiller.core.data.accounting_reports import Conditions
from celcombiller.radius import codec, disconnect_client
from celcombiller.radius.codec import DICTIONARY, report_of
from celcombiller.radius.throttled_log import ThrottledLog
from celcombiller.radius.udp_server import RadiusPort, client_of
from celcombiller.runtime.metrics import Metrics
from tests.support.fakes.nas import SECRET, VALID, FakeTransport, access_request, damage, report, signed_datagram
from tests.support.properties import share
from tests.support.radius_biller import CLIENT, HERE

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
CONDITIONS = Conditions()


@pytest_twisted.ensureDeferred
async def test_a_status_server_is_answered_on_both_ports(radius):
    for port, kind in ((radius.access, pyrad.AuthPacket), (radius.accounting, pyrad.AcctPacket)):
        packet = kind(code=pyrad.StatusServer, secret=SECRET.encode(), dict=DICTIONARY)
        packet.authenticator = pyrad.AuthPacket.CreateAuthenticator()
        packet.add_message_authenticator()
        answer = await radius.nas.ask(packet, port)
        assert answer.code in (pyrad.AccessAccept, pyrad.AccountingResponse)


@pytest.mark.parametrize("which", ["wrong secret", "unsigned", "changed", "other port", "short", "no session"])
@pytest_twisted.ensureDeferred
async def test_untrusted_packets_are_ignored_and_charge_nothing(radius, which):
    radius.credit(1000)
    packet, port, result = report("Stop", octets=40), radius.accounting, "WRONG_SECRET"
    if which == "wrong secret":
        packet = report("Stop", octets=40, secret="another")
    elif which == "unsigned":
        packet, port, result = access_request(signed=False), radius.access, "UNSIGNED"
    elif which == "changed":
        packet.sent = packet.RequestPacket()[:-1] + b"\x01"
    elif which == "other port":
        port, result = radius.access, "MALFORMED"
    elif which == "short":
        packet.sent, result = b"\4\1", "MALFORMED"
    else:
        packet, result = report("Stop", session_id=""), "MALFORMED"
    assert await radius.nas.ask(packet, port, seconds=0.2) is None
    assert radius.count(result) == 1
    assert radius.balance() == (1000, 0)


def test_an_unsendable_answer_is_one_line(lines):
    class Unreachable:
        def write(self, datagram, addr):
            raise OSError("Network is unreachable")

    port = RadiusPort(Clock(), pyrad.AccessRequest, (CLIENT,), None, Metrics(), ThrottledLog(Clock().seconds))
    port.transport = Unreachable()
    port._send(b"x", (HERE, 1))
    assert lines == ["RADIUS of 127.0.0.1: ignored: it cannot be answered: Network is unreachable"]
    asking = disconnect_client.DisconnectPort(Clock())
    asking.transport = Unreachable()
    asking._send(b"x", (HERE, 1))
    assert lines[1] == "Nothing can be sent to 127.0.0.1: Network is unreachable"


def test_a_client_is_the_smallest_network_around():
    wide = RadiusClient(name="wide", address="10.0.0.0/8", secret="s")
    near = RadiusClient(name="near", address="10.1.0.0/16", secret="s")
    one = RadiusClient(name="one", address="10.1.1.1", secret="s")
    clients = (wide, near, one)
    for host, name in (("10.2.2.2", "wide"), ("10.1.2.3", "near"), ("10.1.1.1", "one"), ("::ffff:10.1.1.1", "one")):
        assert client_of(clients, host).name == name
    assert client_of(clients, "192.0.2.1") is None
    assert client_of(clients, "2001:db8::1") is None


damaged = st.builds(
    damage, st.sampled_from(list(VALID.values())), st.integers(0, 300), st.integers(0, 255), st.integers(0, 3)
)


attributes = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=12)


@given(
    datagram=st.binary(max_size=200) | damaged | st.builds(signed_datagram, st.sampled_from([1, 4, 12]), attributes),
    code=st.sampled_from([pyrad.AccessRequest, pyrad.AccountingRequest]),
    signing=st.sampled_from(["require", "accept"]),
)
@share(6)
def test_any_datagram_is_understood_or_ignored(datagram, code, signing):
    client = RadiusClient(name="hotspot", address=HERE, secret=SECRET, message_authenticator=signing)
    understood = []

    async def serve(packet, client, address):
        if packet.code == pyrad.StatusServer:
            return "STATUS", codec.alive(packet, accounting=code == pyrad.AccountingRequest)
        if code == pyrad.AccessRequest:
            understood.append(codec.login_of(packet, client, address))
            return "REJECTED", codec.reject(packet, "no")
        told = report_of(packet, client, address, CONDITIONS, NOW)
        understood.append(told)
        return "ACCOUNTED", codec.accounted(packet)

    port = RadiusPort(Clock(), code, (client,), serve, Metrics(), ThrottledLog(Clock().seconds))
    port.transport = FakeTransport()
    port.datagramReceived(datagram, (HERE, 1))
    assert len(port.transport.sent) <= 1
    assert not port._pending
    for each in understood:
        assert "\0" not in repr(each).replace("\\x00", "")
