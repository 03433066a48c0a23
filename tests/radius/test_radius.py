"""RADIUS over real UDP: who is let in, what is charged, what is ignored, and what a NAS is asked to end."""

import random
import socket
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import pytest_twisted
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pyrad import packet as pyrad
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from celcombiller.config.tables import Radius, RadiusClient
from celcombiller.core.access.audit_trail import Actor
from celcombiller.core.charging.operator_credit import credit
from celcombiller.core.charging.requests import Credit
from celcombiller.core.data import session as data_session
from celcombiller.core.data import session_records
from celcombiller.core.data.accounting_reports import Conditions
from celcombiller.core.data.session import Closing, DataState
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.transaction import transact
from celcombiller.radius import codec, disconnect_client
from celcombiller.radius.codec import DICTIONARY, DiscardPacket, identities_of, read, report_of
from celcombiller.radius.duplicate_cache import KEPT_MAX, KEPT_SECONDS, DuplicateCache
from celcombiller.radius.service import RadiusService
from celcombiller.radius.throttled_log import LINES_MAX, QUIET_MAX, QUIET_SECONDS, ThrottledLog
from celcombiller.radius.udp_server import RadiusPort, client_of
from celcombiller.runtime.metrics import Metrics
from celcombiller.service.wiring import build
from tests.support.api_service import PASSWORD, Biller
from tests.support.fake_nas import SECRET, Nas, access_request, report
from tests.support.properties import share
from tests.system.lab.waiting import free_ports

HERE = "127.0.0.1"
CLIENT = RadiusClient(name="hotspot", address=HERE, secret=SECRET)
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
CONDITIONS = Conditions()


class Radio:
    """A biller with RADIUS, and a NAS of the tests."""

    def __init__(self, folder, **facts):
        self.nas = Nas()
        self.access, self.accounting = (free_ports(1, socket.SOCK_DGRAM) for _ in range(2))
        client = RadiusClient(
            **{"name": "hotspot", "address": HERE, "secret": SECRET, "disconnect_port": self.nas.number}
            | {name: facts.pop(name) for name in list(facts) if name in RadiusClient.__struct_fields__}
        )
        radius = Radius(access_port=self.access, accounting_port=self.accounting, clients=(client,), **facts)
        self.biller = Biller(folder, {}, "", radius=radius)
        self.given = 0

    def give(self, value, username="ana"):
        self.given += 1
        asked = Credit(username, Kind.DATA, value, "web", f"given {self.given}")
        transact(self.biller.engine, lambda tx: credit(tx, asked, Actor("admin", ""), datetime.now(UTC)))

    def pot(self, username="ana"):
        with self.biller.engine.connect() as tx:
            account = balances(tx, subscriber_records.find(tx, username).id)[Kind.DATA]
        return account.posted, account.held

    def sessions(self):
        with self.biller.engine.connect() as tx:
            return [session_records.session_from_row(row) for row in tx.execute(sa.select(tables.data_session))]

    def counted(self, result):
        name = "celcombiller_radius_requests_total"
        return self.biller.service.metrics.registry.get_sample_value(name, {"result": result}) or 0

    def ask(self, packet, **more):
        return self.nas.ask(packet, self.access, **more)

    def tell(self, *told, **more):
        return self.nas.ask(report(*told, **more), self.accounting)

    async def close(self):
        found = self.biller.audit()
        await self.nas.close()
        await self.biller.stop()
        assert found.ok, found.differences


def radio_fixture(**facts):
    @pytest_twisted.async_yield_fixture
    async def radio(tmp_path):
        made = Radio(tmp_path, **facts)
        yield made
        await made.close()

    return radio


radio = radio_fixture()
trusting = radio_fixture(passwords="ignore", message_authenticator="accept", volume="mikrotik", octets_per_credit=1000)
frugal = radio_fixture(quota_octets=100)
chilli = radio_fixture(volume="chillispot", session_seconds_max=0, interim_seconds=0)


@pytest.fixture
def lines():
    """The log's events as lines."""
    from twisted.logger import formatEvent  # noqa: PLC0415

    said = []

    def observe(event):
        said.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield said
    globalLogPublisher.removeObserver(observe)


@pytest_twisted.ensureDeferred
async def test_without_clients_nothing_of_it_is_started(tmp_path):
    biller = Biller(tmp_path, {}, "")
    assert not any(isinstance(each, RadiusService) for each in biller.service)
    await biller.stop()


# -- who is let in ---------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_subscriber_with_credit_is_let_in_with_limits_and_a_signature_first_of_all(radio):
    radio.give(5_000_000_000)
    for name in ("ana", "1002", "724000000001002", "ana@example.org", "EXAMPLE\\ana"):
        answer = await radio.ask(access_request(name, PASSWORD))
        assert answer.code == pyrad.AccessAccept, name
    assert next(iter(answer)) == 80
    assert (answer["Session-Timeout"], answer["Acct-Interim-Interval"]) == ([86400], [300])
    assert radio.counted("ACCEPTED") == 5


@pytest_twisted.ensureDeferred
async def test_a_wrong_password_and_a_user_who_is_not_there_are_told_the_same(radio, lines):
    radio.give(100)
    said = []
    for username, password in (("ana", "wrong"), ("nobody", PASSWORD), ("ana", "")):
        answer = await radio.ask(access_request(username, password))
        assert answer.code == pyrad.AccessReject
        said.append(answer["Reply-Message"])
    assert said == [["Wrong user name or password"]] * 3
    assert not any("wrong" in line and PASSWORD in line for line in lines)


@pytest_twisted.ensureDeferred
async def test_who_has_no_credit_or_is_disabled_is_refused_and_told_why(radio):
    answer = await radio.ask(access_request())
    assert (answer.code, answer["Reply-Message"]) == (pyrad.AccessReject, ["There is no data credit left"])
    radio.give(1)
    assert (await radio.ask(access_request())).code == pyrad.AccessAccept
    transact(radio.biller.engine, lambda tx: subscriber_records.enable(tx, "ana", NOW, enabled=False))
    answer = await radio.ask(access_request())
    assert (answer.code, answer["Reply-Message"]) == (pyrad.AccessReject, ["This account is disabled"])


@pytest_twisted.ensureDeferred
async def test_passwords_cannot_be_guessed_faster_here_than_at_the_api(radio):
    radio.give(1)
    for _ in range(6):
        with radio.biller.engine.begin() as tx:  # whatever time this takes: each failure is of just now
            tx.execute(sa.update(tables.login_attempt).values(last_at=datetime.now(UTC) + timedelta(minutes=1)))
        answer = await radio.ask(access_request("ana", "guess"))
    assert answer["Reply-Message"] == ["Too many logins failed; try again later"]


@pytest.mark.parametrize(
    ("attribute", "value", "method"),
    [
        ("CHAP-Password", b"\1" + b"x" * 16, "CHAP"),
        ("EAP-Message", b"\2\0\0\4", "EAP"),
        ("MS-CHAP2-Response", b"x" * 50, "MS-CHAPv2"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_needs_the_password_itself_is_refused_with_a_line_that_says_so(
    radio, lines, attribute, value, method
):
    radio.give(1)
    answer = await radio.ask(access_request("ana", None, **{attribute: value}))
    assert (answer.code, answer["Reply-Message"]) == (
        pyrad.AccessReject,
        ["Only passwords (PAP) can be checked here"],
    )
    assert (
        f"RADIUS of hotspot/127.0.0.1: {method} cannot be checked, as passwords are kept as hashes only: have it send PAP"
        in lines
    )


@pytest_twisted.ensureDeferred
async def test_a_nas_that_knows_its_users_is_told_the_credit_only(trusting):
    assert (await trusting.ask(access_request("nobody", None))).code == pyrad.AccessReject
    trusting.give(9_000_000)
    answer = await trusting.ask(access_request("ana", None))
    assert answer.code == pyrad.AccessAccept
    low, high = answer["Mikrotik-Total-Limit"][0], answer["Mikrotik-Total-Limit-Gigawords"][0]
    assert high * 2**32 + low == 9_000_000_000
    assert (await trusting.ask(access_request("ana", None, signed=False))).code == pyrad.AccessAccept


@pytest_twisted.ensureDeferred
async def test_limits_that_are_not_set_are_not_sent(chilli):
    chilli.give(77)
    answer = await chilli.ask(access_request())
    assert (answer["ChilliSpot-Max-Total-Octets"], answer["ChilliSpot-Max-Total-Gigawords"]) == ([77], [0])
    assert "Session-Timeout" not in answer
    assert "Acct-Interim-Interval" not in answer


@pytest_twisted.ensureDeferred
async def test_a_request_that_comes_again_gets_the_same_answer_and_is_not_done_again(radio):
    radio.give(100)
    packet = access_request("ana", "wrong")
    first = (await radio.ask(packet)).raw_packet
    for _ in range(8):
        assert (await radio.ask(packet)).raw_packet == first
    assert (radio.counted("REJECTED"), radio.counted("REPEATED")) == (1, 8)
    (attempts,) = radio.biller.rows(tables.login_attempt)[:1]
    assert attempts["failures"] == 1


@pytest_twisted.ensureDeferred
async def test_a_status_server_is_answered_on_both_ports(radio):
    for port, kind in ((radio.access, pyrad.AuthPacket), (radio.accounting, pyrad.AcctPacket)):
        packet = kind(code=pyrad.StatusServer, secret=SECRET.encode(), dict=DICTIONARY)
        packet.authenticator = pyrad.AuthPacket.CreateAuthenticator()
        packet.add_message_authenticator()
        answer = await radio.nas.ask(packet, port)
        assert answer.code in (pyrad.AccessAccept, pyrad.AccountingResponse)


# -- what is charged -------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_session_of_gigawords_is_charged_to_the_octet(radio):
    used = 3 * 2**32 + 77
    radio.give(used + 10)
    assert (await radio.tell("Start")).code == pyrad.AccountingResponse
    assert radio.pot() == (used + 10, 10_000_000)
    await radio.tell("Interim-Update", octets=2**32 + 5)
    await radio.tell("Stop", octets=used - 7, Acct_Output_Octets=7, Acct_Terminate_Cause="Lost-Carrier")
    assert radio.pot() == (10, 0)
    (session,) = radio.sessions()
    assert (session.octets_in, session.octets_out, session.cause) == (used - 7, 7, "Lost-Carrier")
    assert session.nas == "hotspot/nas1"


@pytest_twisted.ensureDeferred
async def test_reports_that_come_again_in_another_packet_change_nothing(radio):
    radio.give(1000)
    for _ in range(3):
        for told in (("Start",), ("Interim-Update",), ("Stop",)):
            await radio.tell(*told, octets=0 if told == ("Start",) else 40)
    assert radio.pot() == (960, 0)
    assert len(radio.sessions()) == 1


@pytest_twisted.ensureDeferred
async def test_octets_that_go_backwards_are_one_line(radio, lines):
    radio.give(1000)
    await radio.tell("Interim-Update", octets=40)
    await radio.tell("Interim-Update", octets=30)
    assert radio.pot()[0] == 960
    assert lines.count("RADIUS of hotspot/nas1, session 'A1': told of 30 octets after 40: charged are 40") == 1


@pytest_twisted.ensureDeferred
async def test_a_nas_that_restarts_has_no_sessions(radio):
    radio.give(1000)
    await radio.tell("Start")
    await radio.tell("Accounting-On")
    assert [each.state.value for each in radio.sessions()] == ["closed"]
    assert radio.pot() == (1000, 0)


@pytest_twisted.ensureDeferred
async def test_data_of_nobody_is_acknowledged_and_told_of(radio, lines):
    assert (await radio.tell("Stop", username="ghost", octets=5)).code == pyrad.AccountingResponse
    assert "RADIUS of hotspot/nas1: data of 'ghost', who is nobody here, is not charged" in lines
    assert radio.counted("UNKNOWN_USER") == 1


@pytest_twisted.ensureDeferred
async def test_what_is_no_text_in_a_name_is_written_out(radio):
    radio.give(1000)
    packet = report("Start")
    packet[44] = [b"\0\xff\n'--"]
    assert (await radio.nas.ask(packet, radio.accounting)).code == pyrad.AccountingResponse
    assert [each.session_id for each in radio.sessions()] == ["\\x00\\xff\\n'--"]


@pytest_twisted.ensureDeferred
async def test_while_the_database_is_away_nothing_is_acknowledged_and_the_repeat_is_done(radio, monkeypatch):
    radio.give(1000)
    packet = report("Stop", octets=40)

    def away(request):
        failed = Deferred()
        failed.errback(StoreUnavailable("away"))
        return failed

    with monkeypatch.context() as patched:
        patched.setattr(radio.biller.service.store, "charge", away)
        assert await radio.nas.ask(packet, radio.accounting, seconds=0.3) is None
    assert radio.counted("UNAVAILABLE") == 1
    assert (await radio.nas.ask(packet, radio.accounting)).code == pyrad.AccountingResponse
    assert radio.pot() == (960, 0)


@pytest_twisted.ensureDeferred
async def test_a_report_is_acknowledged_only_after_its_commit(radio, monkeypatch):
    radio.give(1000)
    waits = Deferred()
    charge = radio.biller.service.store.charge

    def slow(request):
        done = charge(request)
        return waits.addCallback(lambda _: done)

    monkeypatch.setattr(radio.biller.service.store, "charge", slow)
    packet = report("Stop", octets=40)
    assert await radio.nas.ask(packet, radio.accounting, seconds=0.3) is None
    assert await radio.nas.ask(packet, radio.accounting, seconds=0.3) is None  # the repeat waits for the first
    waits.callback(None)
    assert await radio.nas.hear(5) is not None
    assert (radio.counted("ACCOUNTED"), radio.counted("REPEATED")) == (1, 1)


@pytest_twisted.ensureDeferred
async def test_what_was_told_before_a_stop_is_acknowledged_and_nothing_after_it(radio, monkeypatch):
    radio.give(1000)
    waits = Deferred()
    charge = radio.biller.service.store.charge
    monkeypatch.setattr(
        radio.biller.service.store, "charge", lambda request: waits.addCallback(lambda _: charge(request))
    )
    (service,) = (each for each in radio.biller.service if isinstance(each, RadiusService))
    radio.nas.send(report("Stop", octets=40), radio.accounting)
    (_, port) = service._answering[1]
    await radio.nas.until(lambda: port._under_way)
    stopping = service.stopService()
    radio.nas.send(report("Stop", "B2", octets=50), radio.accounting)
    assert await radio.nas.hear(0.2) is None
    waits.callback(None)
    assert await radio.nas.hear(5) is not None
    await stopping
    assert radio.pot() == (960, 0)
    await service.disownServiceParent()


# -- what is ignored -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["wrong secret", "unsigned", "changed", "other port", "short", "no user"])
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_believed_is_not_answered_and_charges_nothing(radio, which):
    radio.give(1000)
    packet, port, result = report("Stop", octets=40), radio.accounting, "WRONG_SECRET"
    if which == "wrong secret":
        packet = report("Stop", octets=40, secret="another")
    elif which == "unsigned":
        packet, port, result = access_request(signed=False), radio.access, "UNSIGNED"
    elif which == "changed":
        packet.sent = packet.RequestPacket()[:-1] + b"\x01"
    elif which == "other port":
        port, result = radio.access, "MALFORMED"
    elif which == "short":
        packet.sent, result = b"\4\1", "MALFORMED"
    else:
        packet, result = report("Stop", username=""), "MALFORMED"
    assert await radio.nas.ask(packet, port, seconds=0.2) is None
    assert radio.counted(result) == 1
    assert radio.pot() == (1000, 0)


@pytest.mark.parametrize(("days", "is_dated"), [(0.9, True), (1.1, False), (-0.9, True), (-1.1, False)])
def test_a_date_of_a_clock_that_is_wrong_is_none(days, is_dated):
    dated_at = NOW + timedelta(days=days)
    packet = report("Start", Event_Timestamp=int(dated_at.timestamp()), Acct_Delay_Time=60)
    told = report_of(packet, CLIENT, HERE, CONDITIONS, NOW)
    assert told.dated_at == (dated_at if is_dated else None)
    assert told.at == NOW - timedelta(seconds=60)


def test_an_answer_that_cannot_be_sent_is_one_line(lines):
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


def test_a_client_is_the_smallest_network_that_its_address_is_in():
    wide = RadiusClient(name="wide", address="10.0.0.0/8", secret="s")
    near = RadiusClient(name="near", address="10.1.0.0/16", secret="s")
    one = RadiusClient(name="one", address="10.1.1.1", secret="s")
    clients = (wide, near, one)
    for host, name in (("10.2.2.2", "wide"), ("10.1.2.3", "near"), ("10.1.1.1", "one"), ("::ffff:10.1.1.1", "one")):
        assert client_of(clients, host).name == name
    assert client_of(clients, "192.0.2.1") is None
    assert client_of(clients, "2001:db8::1") is None


def test_a_user_name_without_its_realm_is_looked_for_last_and_only_where_that_is_wanted():
    assert identities_of("ana@example.org", "keep") == ("ana@example.org", "IMSIana@example.org")
    assert identities_of("ana@example.org", "strip")[2] == "ana"
    assert identities_of("EX\\ana", "strip")[2] == "ana"
    assert identities_of("@", "strip") == ("@", "IMSI@")


def test_complaints_about_one_client_are_one_line_in_a_while(lines):
    clock = Clock()
    port = RadiusPort(clock, pyrad.AccessRequest, (), None, Metrics(), ThrottledLog(clock.seconds))
    for _ in range(50):
        port.datagramReceived(b"x", ("192.0.2.1", 1))
    clock.advance(QUIET_SECONDS)
    for number in range(3000):
        port.datagramReceived(b"x", (f"10.0.{number % 250}.{number // 250}", 1))
    assert len(lines) == 1 + LINES_MAX
    clock.advance(QUIET_SECONDS)
    port.datagramReceived(b"x", ("192.0.2.1", 1))
    mine = [line for line in lines if "192.0.2.1" in line]
    why = "no [[radius.clients]] table has this address"
    assert mine[0] == f"RADIUS of 192.0.2.1: ignored: {why}"
    assert len(mine) == 2
    assert len(port._complaints._quiet) <= QUIET_MAX


def test_what_was_answered_is_kept_for_a_while_and_never_too_much_of_it():
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


class FakeTransport:
    def __init__(self):
        self.sent = []

    def write(self, datagram, addr):
        self.sent.append(datagram)


def changed(datagram, place, value, cut):
    """Damage a datagram: another octet somewhere, or its end cut off."""
    damaged = bytearray(datagram)
    damaged[place % len(damaged)] = value
    return bytes(damaged[: len(damaged) - cut % len(damaged)])


VALID = {
    pyrad.AccessRequest: access_request().RequestPacket(),
    pyrad.AccountingRequest: report("Interim-Update", octets=2**40).RequestPacket(),
}
damaged = st.builds(
    changed, st.sampled_from(list(VALID.values())), st.integers(0, 300), st.integers(0, 255), st.integers(0, 3)
)
attributes = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=12)


def made_of(code, pairs):
    """Make a datagram of any attributes that is signed rightly, as a NAS with a fault would."""
    import hashlib  # noqa: PLC0415

    body = b"".join(bytes((number, len(value) + 2)) + value for number, value in pairs)
    head = bytes((code, 7)) + (20 + len(body)).to_bytes(2, "big")
    proof = hashlib.md5(head + bytes(16) + body + SECRET.encode()).digest()
    return head + proof + body


@given(
    datagram=st.binary(max_size=200) | damaged | st.builds(made_of, st.sampled_from([1, 4, 12]), attributes),
    code=st.sampled_from([pyrad.AccessRequest, pyrad.AccountingRequest]),
    signing=st.sampled_from(["require", "accept"]),
)
@share(6)
def test_no_datagram_does_more_than_be_ignored_or_understood(datagram, code, signing):
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
    assert not port._under_way
    for each in understood:
        assert "\0" not in repr(each).replace("\\x00", "")


@given(place=st.integers(0, 500), value=st.integers(0, 255))
@share(3)
def test_no_octet_of_a_report_can_be_changed_on_its_way(place, value):
    datagram = VALID[pyrad.AccountingRequest]
    place %= len(datagram)
    if datagram[place] == value:
        return
    with pytest.raises(DiscardPacket):
        read(changed(datagram, place, value, 0), CLIENT, pyrad.AccountingRequest)


def test_every_attribute_that_we_name_has_the_number_that_radius_gives_it():
    """FreeRADIUS' own dictionary, where it is installed, says the same of each."""
    from pathlib import Path  # noqa: PLC0415

    theirs = Path("/usr/share/freeradius")
    if not theirs.is_dir():
        pytest.skip("no FreeRADIUS here")
    known = {}
    for file in theirs.glob("dictionary*"):
        for line in file.read_text(errors="replace").splitlines():
            words = line.split()
            if len(words) >= 4 and words[0] == "ATTRIBUTE":
                known.setdefault(words[1], words[2])
    for name, attribute in DICTIONARY.attributes.items():
        if name in known:
            assert str(attribute.code) == known[name], name


# -- what nobody tells of --------------------------------------------------------------------------------------------


async def heard(radio, session_id):
    """Have a session told of, with 60 octets of 100 credits."""
    await radio.tell("Start", session_id=session_id)
    await radio.tell("Interim-Update", session_id=session_id, octets=60)


def put_back(radio, session_id, minutes_ago):
    """Make it as if a session had been heard a while ago; no biller runs that could close it meanwhile."""
    at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    table = tables.data_session
    with radio.biller.engine.begin() as tx:
        tx.execute(sa.update(table).where(table.c.session_id == session_id).values(started_at=at, heard_at=at))


@pytest_twisted.ensureDeferred
async def test_a_session_that_fell_silent_is_closed_with_what_was_told_though_radius_is_switched_off(frugal, lines):
    radio = frugal
    radio.give(1000)
    await heard(radio, "silent")
    await heard(radio, "not yet")
    assert radio.pot() == (880, 200)
    await radio.biller.service.stopService()
    put_back(radio, "silent", 61)
    put_back(radio, "not yet", 59)
    radio.biller.service = build(reactor, msgspec.structs.replace(radio.biller.config, radius=Radius()))
    assert not any(isinstance(each, RadiusService) for each in radio.biller.service)
    radio.biller.service.privilegedStartService()
    radio.biller.service.startService()
    await radio.nas.until(lambda: radio.sessions()[0].state is DataState.CLOSED)
    silent, other = radio.sessions()
    assert (silent.closed_by, silent.charged, silent.ended_at) == (Closing.SILENCE, 60, silent.heard_at)
    assert (other.state, other.charged) == (DataState.OPEN, 60)
    (hold,) = [each for each in radio.biller.rows(tables.hold) if each["state"] == "open"]
    assert (hold["reference"], radio.pot()) == (other.hold_reference, (880, 100))
    await radio.nas.until(lambda: any("nobody told of its end" in line for line in lines))  # said after the commit
    assert sum("nobody told of its end" in line for line in lines) == 1


# -- what a NAS is asked to end --------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_session_that_spent_the_credit_is_ended_and_settled_by_its_stop(radio):
    radio.nas.answers = [(pyrad.DisconnectACK, None)]
    radio.give(100)
    await radio.tell("Start", Framed_IP_Address="10.5.0.9", Calling_Station_Id="02-00-00-00-00-01")
    await radio.tell("Interim-Update", octets=130)
    await radio.nas.until(lambda: radio.nas.disconnects)
    (asked,) = radio.nas.disconnects
    assert (asked["Acct-Session-Id"], asked["User-Name"]) == (["A1"], ["ana"])
    assert (asked["Framed-IP-Address"], asked["Calling-Station-Id"]) == (["10.5.0.9"], ["02-00-00-00-00-01"])
    await radio.nas.until(lambda: radio.sessions()[0].disconnect_said == "ACK")
    assert radio.sessions()[0].disconnect_at is None
    await radio.tell("Stop", octets=131, Acct_Terminate_Cause="Admin-Reset")
    assert radio.pot() == (-31, 0)
    assert radio.sessions()[0].disconnect == "the credit is spent"


@pytest_twisted.ensureDeferred
async def test_a_disabled_subscribers_session_is_ended_though_nothing_more_is_told(radio, monkeypatch):
    monkeypatch.setattr(disconnect_client, "SENDINGS_SECONDS", (0.0, 0.1, 0.2))
    radio.nas.answers = [None, (pyrad.DisconnectNAK, 503)]
    radio.give(100)
    await radio.tell("Start")
    transact(radio.biller.engine, lambda tx: subscriber_records.enable(tx, "ana", NOW, enabled=False))
    await radio.nas.until(lambda: radio.sessions()[0].disconnect_said == "NAK 503")
    assert radio.nas.raw[0] == radio.nas.raw[1]  # the first was not answered, so it came again
    (session,) = radio.sessions()
    assert (session.disconnect, session.disconnect_tries, session.disconnect_at) == (
        *("the subscriber is disabled", 1),
        None,
    )


@pytest_twisted.ensureDeferred
async def test_a_nas_that_says_no_is_asked_again_later(radio, monkeypatch):
    monkeypatch.setattr("celcombiller.core.data.disconnect_requests.RETRY_MIN", timedelta(seconds=1))
    radio.nas.answers = [(pyrad.DisconnectNAK, 506), (pyrad.DisconnectACK, None)]
    radio.give(1)
    await radio.tell("Start")
    transact(radio.biller.engine, lambda tx: subscriber_records.delete(tx, "ana", NOW))
    await radio.nas.until(lambda: radio.sessions()[0].disconnect_said == "ACK")
    assert radio.sessions()[0].disconnect_tries == 2
    assert radio.sessions()[0].disconnect == "the subscriber is gone"


@pytest.mark.parametrize("datagram", [b"", b"\x29", b"\x29\x00", b"\x29\x00\x00\x14" + bytes(16), b"x" * 300])
def test_what_is_no_answer_to_a_disconnect_request_is_not_believed(datagram):
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


# -- seen at the API -------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_sessions_are_listed_newest_first_to_staff_and_to_whose_they_are(radio):
    radio.give(1000)
    radio.give(1000, "bia")
    await radio.tell("Start")
    await radio.tell("Stop", octets=40, Acct_Terminate_Cause="Idle-Timeout")
    await radio.tell("Interim-Update", session_id="B2", username="1003@example.org", octets=7)
    admin = await radio.biller.logged_in("admin")
    page = (await admin.get("/api/v1/data-sessions?limit=1")).body
    assert [each["session_id"] for each in page["items"]] == ["B2"]
    rest = (await admin.get(f"/api/v1/data-sessions?limit=1&cursor={page['next']}")).body
    (closed,) = rest["items"]
    assert rest["next"] is None
    assert (closed["username"], closed["octets"], closed["charged"], closed["cause"], closed["closed_by"]) == (
        *("ana", 40, 40),
        *("Idle-Timeout", "stop"),
    )
    assert (page["items"][0]["username"], page["items"][0]["said_username"]) == ("bia", "1003@example.org")
    for query, ids in (
        ("state=open", ["B2"]),
        ("state=closed", ["A1"]),
        ("username=ana", ["A1"]),
        ("nas=hotspot/nas1", ["B2", "A1"]),
        ("nas=hotspot", []),
        ("since=2126-01-01T00:00:00Z", []),
        ("until=2126-01-01T00:00:00Z", ["B2", "A1"]),
    ):
        found = (await admin.get(f"/api/v1/data-sessions?{query}")).body["items"]
        assert [each["session_id"] for each in found] == ids, query
    ana = await radio.biller.logged_in("ana")
    assert [each["session_id"] for each in (await ana.get("/api/v1/data-sessions")).body["items"]] == ["A1"]
    assert (await ana.get(f"/api/v1/data-sessions/{closed['id']}")).body == closed
    assert (await ana.get(f"/api/v1/data-sessions/{page['items'][0]['id']}")).code == 404
    assert (await ana.get("/api/v1/data-sessions?username=bia")).code == 404
    holds = (await admin.get("/api/v1/holds")).body["items"]
    assert [each["reference"] for each in holds] == [f"{page['items'][0]['reference']}:2"]
    scrape = await admin.get("/metrics")
    assert b"celcombiller_open_data_sessions 1.0" in scrape.bytes
