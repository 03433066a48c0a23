"""Access-Requests over real UDP: who is accepted, with which limits, and who is refused."""

from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
import sqlalchemy as sa
from pyrad import packet as pyrad

from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.transaction import transact
from celcombiller.runtime.credentials.password_hasher import Passwords
from tests.support.fakes.nas import access_request
from tests.support.gate import Gate
from tests.support.http.api_service import PASSWORD
from tests.support.radius_biller import radius_fixture

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
chilli = radius_fixture(volume="chillispot", session_seconds_max=0, interim_seconds=0)
trusting = radius_fixture(passwords="ignore", message_authenticator="accept", volume="mikrotik", octets_per_credit=1000)


@pytest_twisted.ensureDeferred
async def test_a_subscriber_with_credit_is_accepted_with_limits(radius):
    radius.credit(5_000_000_000)
    for name in ("ana", "1002", "724000000001002", "ana@example.org", "EXAMPLE\\ana"):
        answer = await radius.ask(access_request(name, PASSWORD))
        assert answer.code == pyrad.AccessAccept, name
    assert next(iter(answer)) == 80
    assert (answer["Session-Timeout"], answer["Acct-Interim-Interval"]) == ([86400], [300])
    assert radius.count("ACCEPTED") == 5


@pytest_twisted.ensureDeferred
async def test_wrong_password_and_unknown_user_get_one_answer(radius, lines):
    radius.credit(100)
    said = []
    for username, password in (("ana", "wrong"), ("nobody", PASSWORD), ("ana", "")):
        answer = await radius.ask(access_request(username, password))
        assert answer.code == pyrad.AccessReject
        said.append(answer["Reply-Message"])
    assert said == [["Wrong user name or password"]] * 3
    assert not any("wrong" in line and PASSWORD in line for line in lines)


@pytest_twisted.ensureDeferred
async def test_no_credit_and_disabled_are_refused_with_reason(radius):
    answer = await radius.ask(access_request())
    assert (answer.code, answer["Reply-Message"]) == (pyrad.AccessReject, ["There is no data credit left: buy credit"])
    radius.credit(1)
    assert (await radius.ask(access_request())).code == pyrad.AccessAccept
    transact(radius.biller.engine, lambda tx: subscriber_records.enable(tx, "ana", NOW, enabled=False))
    answer = await radius.ask(access_request())
    assert (answer.code, answer["Reply-Message"]) == (
        pyrad.AccessReject,
        ["This account is disabled: ask the operator"],
    )


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"password_hash": "another"}, "Wrong user name or password"),
        ({"deleted_at": NOW}, "Wrong user name or password"),
        ({"enabled": False}, "This account is disabled: ask the operator"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_changes_during_the_check_counts(radius, monkeypatch, columns, says):
    radius.credit(1)
    gate = Gate()
    gate.hold(monkeypatch, Passwords, "verify")
    asked = radius.ask(access_request())
    await gate.reached
    with radius.biller.engine.begin() as tx:
        tx.execute(sa.update(tables.subscriber).where(tables.subscriber.c.username == "ana").values(columns))
    gate.opened.callback(None)
    answer = await asked
    assert (answer.code, answer["Reply-Message"]) == (pyrad.AccessReject, [says])


@pytest_twisted.ensureDeferred
async def test_failed_logins_are_throttled_as_at_the_api(radius):
    radius.credit(1)
    for _ in range(6):
        with radius.biller.engine.begin() as tx:  # whatever time this takes: each failure is of just now
            tx.execute(sa.update(tables.login_attempt).values(last_at=datetime.now(UTC) + timedelta(minutes=1)))
        answer = await radius.ask(access_request("ana", "guess"))
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
async def test_methods_that_need_the_password_are_refused(radius, lines, attribute, value, method):
    radius.credit(1)
    answer = await radius.ask(access_request("ana", None, **{attribute: value}))
    assert (answer.code, answer["Reply-Message"]) == (
        pyrad.AccessReject,
        ["Only passwords (PAP) can be checked here: set the client to PAP"],
    )
    assert (
        f"RADIUS of hotspot/127.0.0.1: {method} cannot be checked, as passwords are kept as hashes only: have it send PAP"
        in lines
    )


@pytest_twisted.ensureDeferred
async def test_passwords_are_ignored_where_so_set(trusting):
    assert (await trusting.ask(access_request("nobody", None))).code == pyrad.AccessReject
    trusting.credit(9_000_000)
    answer = await trusting.ask(access_request("ana", None))
    assert answer.code == pyrad.AccessAccept
    low, high = answer["Mikrotik-Total-Limit"][0], answer["Mikrotik-Total-Limit-Gigawords"][0]
    assert high * 2**32 + low == 9_000_000_000
    assert (await trusting.ask(access_request("ana", None, signed=False))).code == pyrad.AccessAccept


@pytest_twisted.ensureDeferred
async def test_limits_that_are_not_set_are_not_sent(chilli):
    chilli.credit(77)
    answer = await chilli.ask(access_request())
    assert (answer["ChilliSpot-Max-Total-Octets"], answer["ChilliSpot-Max-Total-Gigawords"]) == ([77], [0])
    assert "Session-Timeout" not in answer
    assert "Acct-Interim-Interval" not in answer
