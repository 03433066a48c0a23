"""Accounting-Requests over real UDP: what is charged, acknowledged, and listed at the API."""

from datetime import UTC, datetime

import pytest_twisted
from pyrad import packet as pyrad
from twisted.internet.defer import Deferred, fail

from celcombiller.core.errors import StoreUnavailable
from tests.support.fakes.nas import report


@pytest_twisted.ensureDeferred
async def test_gigawords_are_charged_to_the_octet(radius):
    used = 3 * 2**32 + 77
    radius.credit(used + 10)
    assert (await radius.report("Start")).code == pyrad.AccountingResponse
    assert radius.balance() == (used + 10, 10_000_000)
    await radius.report("Interim-Update", octets=2**32 + 5)
    await radius.report("Stop", octets=used - 7, Acct_Output_Octets=7, Acct_Terminate_Cause="Lost-Carrier")
    assert radius.balance() == (10, 0)
    (session,) = radius.sessions()
    assert (session.octets_in, session.octets_out, session.cause) == (used - 7, 7, "Lost-Carrier")
    assert session.nas == "hotspot/nas1"


@pytest_twisted.ensureDeferred
async def test_reports_repeated_in_another_packet_change_nothing(radius):
    radius.credit(1000)
    for _ in range(3):
        for told in (("Start",), ("Interim-Update",), ("Stop",)):
            await radius.report(*told, octets=0 if told == ("Start",) else 40)
    assert radius.balance() == (960, 0)
    assert len(radius.sessions()) == 1


@pytest_twisted.ensureDeferred
async def test_octets_that_go_backwards_are_one_line(radius, lines):
    radius.credit(1000)
    await radius.report("Interim-Update", octets=40)
    await radius.report("Interim-Update", octets=30)
    assert radius.balance()[0] == 960
    assert lines.count("RADIUS of hotspot/nas1, session 'A1': 30 octets are reported after 40: 40 are charged") == 1


@pytest_twisted.ensureDeferred
async def test_a_nas_that_restarts_has_no_sessions(radius):
    radius.credit(1000)
    await radius.report("Start")
    await radius.report("Accounting-On")
    assert [each.state.value for each in radius.sessions()] == ["closed"]
    assert radius.balance() == (1000, 0)


@pytest_twisted.ensureDeferred
async def test_data_of_an_unknown_user_is_acknowledged(radius, lines):
    assert (await radius.report("Stop", username="ghost", octets=5)).code == pyrad.AccountingResponse
    assert "RADIUS of hotspot/nas1: data of 'ghost', who is nobody here, is not charged" in lines
    assert radius.count("UNKNOWN_USER") == 1


@pytest_twisted.ensureDeferred
async def test_unprintable_octets_of_an_id_are_escaped(radius):
    radius.credit(1000)
    packet = report("Start")
    packet[44] = [b"\0\xff\n'--"]
    assert (await radius.nas.ask(packet, radius.accounting)).code == pyrad.AccountingResponse
    assert [each.session_id for each in radius.sessions()] == ["\\x00\\xff\\n'--"]


@pytest_twisted.ensureDeferred
async def test_nothing_is_acknowledged_while_the_database_is_away(radius, monkeypatch):
    radius.credit(1000)
    packet = report("Stop", octets=40)

    def away(request):
        failed = Deferred()
        failed.errback(StoreUnavailable("away"))
        return failed

    with monkeypatch.context() as patched:
        patched.setattr(radius.biller.service.store, "charge", away)
        assert await radius.nas.ask(packet, radius.accounting, seconds=0.3) is None
    assert radius.count("UNAVAILABLE") == 1
    assert (await radius.nas.ask(packet, radius.accounting)).code == pyrad.AccountingResponse
    assert radius.balance() == (960, 0)


@pytest_twisted.ensureDeferred
async def test_a_report_is_acknowledged_only_after_its_commit(radius, monkeypatch):
    radius.credit(1000)
    waits = Deferred()
    charge = radius.biller.service.store.charge

    def slow(request):
        done = charge(request)
        return waits.addCallback(lambda _: done)

    monkeypatch.setattr(radius.biller.service.store, "charge", slow)
    packet = report("Stop", octets=40)
    assert await radius.nas.ask(packet, radius.accounting, seconds=0.3) is None
    assert await radius.nas.ask(packet, radius.accounting, seconds=0.3) is None  # the repeat waits for the first
    waits.callback(None)
    assert await radius.nas.hear(5) is not None
    assert (radius.count("ACCOUNTED"), radius.count("REPEATED")) == (1, 1)


@pytest_twisted.ensureDeferred
async def test_sessions_are_listed_to_staff_and_their_subscriber(radius):
    radius.credit(1000)
    radius.credit(1000, "bia")
    await radius.report("Start")
    await radius.report("Stop", octets=40, Acct_Terminate_Cause="Idle-Timeout")
    await radius.report("Interim-Update", session_id="B2", username="1003@example.org", octets=7)
    admin = await radius.biller.logged_in("admin")
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
    ana = await radius.biller.logged_in("ana")
    assert [each["session_id"] for each in (await ana.get("/api/v1/data-sessions")).body["items"]] == ["A1"]
    assert (await ana.get(f"/api/v1/data-sessions/{closed['id']}")).body == closed
    assert (await ana.get(f"/api/v1/data-sessions/{page['items'][0]['id']}")).code == 404
    assert (await ana.get("/api/v1/data-sessions?username=bia")).code == 404
    holds = (await admin.get("/api/v1/holds")).body["items"]
    assert [each["reference"] for each in holds] == [f"{page['items'][0]['reference']}:2"]
    scrape = await admin.get("/metrics")
    assert b"celcombiller_open_data_sessions 1.0" in scrape.bytes


@pytest_twisted.ensureDeferred
async def test_an_unexpected_error_loses_no_report(radius, monkeypatch, expected_failures):
    radius.credit(1000)
    packet = report("Stop", octets=40)
    with monkeypatch.context() as patched:
        patched.setattr(radius.biller.service.store, "charge", lambda request: fail(RuntimeError("broken")))
        for _ in range(3):
            assert await radius.nas.ask(packet, radius.accounting, seconds=0.2) is None
    assert radius.count("FAILED") == 3
    assert len(expected_failures) == 1
    expected_failures.clear()
    assert (await radius.nas.ask(packet, radius.accounting)).code == pyrad.AccountingResponse
    assert radius.balance() == (960, 0)


@pytest_twisted.ensureDeferred
async def test_a_user_without_a_name_is_acknowledged(radius):
    assert (await radius.report("Stop", username="", octets=5)).code == pyrad.AccountingResponse
    assert radius.count("UNKNOWN_USER") == 1


@pytest_twisted.ensureDeferred
async def test_an_earlier_unknown_session_is_one_line(radius, lines):
    radius.credit(1000)
    now = int(datetime.now(UTC).timestamp())
    await radius.report("Start", Event_Timestamp=now - 100)
    await radius.report("Stop", octets=70, Event_Timestamp=now - 200, Acct_Session_Time=60)
    why = "70 octets of an earlier session that is not known here are not charged"
    assert lines.count(f"RADIUS of hotspot/nas1, session 'A1': {why}") == 1
    assert radius.balance()[0] == 1000
