"""A message centre by TLS: it is the one that is meant, or it is told nothing; and it is never tried without."""

from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
import trustme
from twisted.internet.ssl import PrivateCertificate
from twisted.logger import formatEvent, globalLogPublisher

from tests.smpp.test_client import House, until
from tests.support.fakes.smsc import MessageCentre

pytestmark = pytest.mark.slow  # keys are made, and connections time out
HERE = "127.0.0.1"
NOW = datetime.now(UTC)
NOT_TRUSTED = "its certificate is of nobody who is trusted here, or not of this time"
OURS, OTHERS = trustme.CA(), trustme.CA()


def context(authority, host=HERE, **facts):
    """Give what a centre listens with, of a certificate made for it."""
    made = authority.issue_cert(host, **facts)
    return PrivateCertificate.loadPEM(made.private_key_and_cert_chain_pem.bytes()).options()


@pytest.fixture
def authorities(tmp_path):
    file = tmp_path / "authorities.pem"
    file.write_bytes(OURS.cert_pem.bytes())
    return str(file)


@pytest.fixture
def lines():
    """The log's lines about SMPP."""
    said = []

    def observe(event):
        line = formatEvent(event)
        if line.startswith("SMPP:"):
            said.append(line)

    globalLogPublisher.addObserver(observe)
    yield said
    globalLogPublisher.removeObserver(observe)


@pytest_twisted.ensureDeferred
async def test_messages_go_by_tls_to_a_verified_smsc(tmp_path, authorities, lines):
    house = await House(tmp_path, MessageCentre(context(OURS)), tls=True, ca_file=authorities).begin()
    try:
        assert "SMPP: the message centre at 127.0.0.1 is connected by TLS" in lines
        row = await house.send()
        await house.becomes("accepted")
        assert await house.centre.receipt("m1", "UNDELIV") == 0
        await house.becomes("failed")
        assert row["cost"] == 5
        house.check(cost=0)
    finally:
        await house.end()


@pytest_twisted.ensureDeferred
async def test_without_a_file_the_systems_authorities_are_trusted(tmp_path, authorities, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", authorities)
    house = await House(tmp_path, MessageCentre(context(OURS, "localhost")), tls=True, host="localhost").begin()
    try:
        await house.send()
        await house.becomes("accepted")
    finally:
        await house.end()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"authority": OTHERS}, NOT_TRUSTED),
        ({"host": "smsc.example.net"}, "its certificate is of another host than 127.0.0.1"),
        ({"not_before": NOW - timedelta(2), "not_after": NOW - timedelta(1)}, NOT_TRUSTED),
        ({"not_before": NOW + timedelta(1), "not_after": NOW + timedelta(2)}, NOT_TRUSTED),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_wrong_certificate_gets_no_password(tmp_path, authorities, lines, wrong, says):
    centre = MessageCentre(context(**{"authority": OURS} | wrong))
    house = House(tmp_path, centre, tls=True, ca_file=authorities)
    try:
        await until(lambda: centre.tried >= 3, "it is tried again")
        assert (centre.heard, centre.bound) == (b"", [])
        assert lines == [f"SMPP: TLS: {says}; it is tried again"]
        await centre.change(context(OURS))
        await house.begin()
        await house.send()
        await house.becomes("accepted")
        house.check(cost=5)
    finally:
        await house.end()


@pytest_twisted.ensureDeferred
async def test_an_smsc_without_tls_gets_no_password(tmp_path, authorities, lines):
    centre = MessageCentre()
    house = House(tmp_path, centre, tls=True, ca_file=authorities, answer_seconds=1)
    try:
        await until(lambda: centre.tried >= 2, "it is tried again")
        assert centre.bound == []
        assert b"secret" not in centre.heard
        assert "SMPP: no answer to bind_transceiver in 1 s; it is tried again" in lines
    finally:
        await house.end()


@pytest_twisted.ensureDeferred
async def test_an_smsc_expecting_plain_text_reads_nothing(tmp_path, lines):
    centre = MessageCentre(context(OURS))
    house = House(tmp_path, centre, answer_seconds=1)
    try:
        await until(lambda: lines, "it is told")
        assert centre.bound == []
    finally:
        await house.end()


@pytest_twisted.ensureDeferred
async def test_unreadable_authorities_are_one_line_and_read_again(tmp_path, authorities, lines):
    pem = (tmp_path / "authorities.pem").read_bytes()
    (tmp_path / "authorities.pem").write_text("nothing")
    house = House(tmp_path, MessageCentre(context(OURS)), tls=True, ca_file=authorities)
    try:
        await until(lambda: lines, "it is told")
        assert lines == [f"SMPP: {authorities}: there is no certificate in it (PEM); it is tried again"]
        (tmp_path / "authorities.pem").write_bytes(pem)
        await house.begin()
    finally:
        await house.end()


@pytest_twisted.ensureDeferred
async def test_a_silent_unbind_does_not_delay_the_stop(tmp_path, authorities):
    house = await House(tmp_path, MessageCentre(context(OURS)), tls=True, ca_file=authorities, answer_seconds=1).begin()
    for each in house.centre.connections:
        each.transport.transport.pauseProducing()
    began = datetime.now(UTC)
    await house.end()
    assert datetime.now(UTC) - began < timedelta(seconds=5)
