"""The limits of a running biller: what a client does too much of is refused, and all others are served."""

import socket
from contextlib import suppress

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher

from celcombiller.config.tables import Service
from celcombiller.core.access.login_throttle import FAILURES_FREE
from tests.support.http.api_service import PASSWORD, biller_fixture, header

HTML = "text/html; charset=utf-8"
biller = biller_fixture(connections_max=20, connections_per_address_max=15, requests_max=2)
behind_a_proxy = biller_fixture(trusted_proxies=("127.0.0.1",))
few_unknown = biller_fixture(unknown_credentials_max=5)
few_lines = biller_fixture(service=Service(log_lines_per_peer=3))


class Peer(Protocol):
    """A client that keeps what it receives."""

    def __init__(self):
        self.received, self.lost = b"", Deferred()

    def dataReceived(self, data):
        self.received += data

    def connectionLost(self, reason):
        self.lost.callback(None)


async def connect(biller):
    port = int(biller.base.rpartition(":")[2])
    return await connectProtocol(HostnameEndpoint(reactor, "127.0.0.1", port), Peer())


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await deferLater(reactor, 0.005)
    raise AssertionError("it does not become true")


def metric(biller, name, **labels):
    return biller.service.metrics.registry.get_sample_value(f"celcombiller_{name}", labels) or 0.0


@pytest_twisted.ensureDeferred
async def test_an_address_gets_its_connections_and_no_more(biller):
    peers = [await connect(biller) for _ in range(17)]
    await gatherResults([each.lost for each in peers[15:]])
    assert metric(biller, "rest_limited_total", setting="connections_per_address_max") == 2
    for each in peers[:15]:
        each.transport.abortConnection()
    await until(lambda: metric(biller, "rest_connections") == 0)
    assert (await biller.client().get("/healthz")).code == 200


@pytest_twisted.ensureDeferred
async def test_requests_too_many_are_told_to_come_again(biller, monkeypatch):
    gate = Deferred()
    admin = await biller.logged_in("admin")
    reader = biller.service.threads[0]
    read = reader.read

    async def slow(work, **named):
        await waiting()
        return await read(work, **named)

    def waiting():
        each = Deferred()
        gate.addCallback(lambda _: each.callback(None))
        return each

    monkeypatch.setattr(reader, "read", slow)
    slow_ones = [Deferred.fromCoroutine(admin.get("/api/v1/me")) for _ in range(2)]
    await until(lambda: metric(biller, "rest_requests_in_work") == 2)
    refused = await admin.get("/api/v1/me")
    assert (refused.code, refused.body["code"], header(refused, "retry-after")) == (503, "OVERLOADED", "1")
    page = await admin.get("/ui/")
    assert (page.code, header(page, "content-type"), header(page, "retry-after")) == (503, HTML, "1")
    assert b"send it again in a second" in page.bytes
    assert (await biller.client().get("/healthz")).code == 200
    gate.callback(None)
    assert [each.code for each in await gatherResults(slow_ones)] == [200, 200]
    assert metric(biller, "rest_limited_total", setting="requests_max") == 2


@pytest_twisted.ensureDeferred
async def test_forged_cookies_are_looked_up_slowly(few_unknown):
    """Also on a route that writes: none of them takes the time of the thread that charges calls."""
    admin = await few_unknown.logged_in("admin")
    assert (await admin.get("/api/v1/me")).code == 200
    forger = few_unknown.client()
    forger.cookie = "forged"
    wishes = [lambda: forger.get("/api/v1/me"), lambda: forger.delete("/api/v1/tokens/1")]
    answers = await gatherResults([Deferred.fromCoroutine(wishes[number % 2]()) for number in range(40)])
    refused = [each.code for each in answers if each.code == 503]
    assert {each.code for each in answers} == {401, 503}
    assert metric(few_unknown, "rest_limited_total", setting="unknown_credentials_max") == len(refused)
    assert (await admin.get("/api/v1/me")).code == 200


@pytest_twisted.ensureDeferred
async def test_60000_requests_that_nobody_reads_cost_little(biller):
    """1 s. Of 60,000 requests only those are begun whose answers find room in the buffers."""
    begun = metric(biller, "rest_requests_total", route="GET /api/v1/openapi.json", status="200")

    def flood():
        client = socket.create_connection(("127.0.0.1", int(biller.base.rpartition(":")[2])))
        client.settimeout(0.3)
        with suppress(TimeoutError):
            client.sendall(b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 60_000)
        return client

    client = await deferToThread(flood)
    assert (await biller.client().get("/healthz")).code == 200
    assert metric(biller, "rest_unsent_connections") == 1
    assert metric(biller, "rest_requests_total", route="GET /api/v1/openapi.json", status="200") - begun < 200
    client.close()
    await until(lambda: metric(biller, "rest_connections") == 0)


@pytest_twisted.ensureDeferred
async def test_a_cookie_of_another_program_does_no_harm(biller):
    admin = await biller.logged_in("admin")
    ours, admin.cookie = admin.cookie, None
    for cookie in (f"session=other; session={ours}", f"session={ours}; session=other", f"a=b;session=x;session={ours}"):
        answer = await admin.get("/api/v1/sessions", headers={"Cookie": cookie})
        assert (answer.code, [each["current"] for each in answer.body["items"]]) == (200, [True])
    await admin.get("/logout", headers={"Cookie": f"session={ours}; session=other"})
    assert (await admin.get("/api/v1/me", headers={"Cookie": f"session={ours}"})).code == 401


@pytest_twisted.ensureDeferred
async def test_a_client_repeating_a_fault_fills_no_log(few_lines, monkeypatch, expected_failures):
    def broken(*_arguments):
        raise RuntimeError("a fault of ours")

    lines = []
    globalLogPublisher.addObserver(lines.append)
    monkeypatch.setattr(few_lines.service.threads[0], "read", broken)
    try:
        client = few_lines.client()
        client.cookie = "anything"
        for _ in range(20):
            assert (await client.get("/api/v1/me")).code == 500
    finally:
        globalLogPublisher.removeObserver(lines.append)
    assert len([each for each in lines if each.get("log_failure") is not None]) == len(expected_failures) <= 3
    expected_failures.clear()
    assert metric(few_lines, "suppressed_log_lines_total") > 20


@pytest_twisted.ensureDeferred
async def test_guessers_everywhere_keep_the_administrator_out_nowhere(behind_a_proxy):
    """2 s of hashing."""

    async def log_in(password, address):
        headers = {"X-Forwarded-For": address}
        body = {"username": "admin", "password": password}
        return (await behind_a_proxy.client().post("/login", body, headers=headers)).code

    assert await log_in(PASSWORD, "192.0.2.7") == 200
    guesses = [await log_in("a guess", f"198.51.100.{each}:4711") for each in range(30)]
    free = FAILURES_FREE["account"]
    assert guesses[:free] == [404] * free
    assert guesses[free:].count(429) > guesses[free:].count(404)  # the longer it takes, the more have waited enough
    assert await log_in(PASSWORD, "192.0.2.7") == 200
