"""The validity of credit over real HTTP: shown in each account, and longer where the staff says so."""

from datetime import timedelta

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from celcombiller.config.tables import CreditValidity, Schedules
from celcombiller.core.schema import tables
from tests.support.http.api_service import Biller

ACCOUNT = "/api/v1/subscribers/ana/accounts/voice"


@pytest_twisted.async_yield_fixture
async def biller(tmp_path_factory):
    sections = {"credit_validity": CreditValidity(voice_days=30), "schedules": Schedules(time_zone="UTC")}
    made = Biller(tmp_path_factory.mktemp("biller"), {}, "", **sections)
    yield made
    report = made.audit()
    await made.stop()
    assert report.ok, report.differences


async def voice(client):
    answer = await client.get("/api/v1/subscribers/ana/accounts")
    return answer.body["items"][0]


@pytest_twisted.ensureDeferred
async def test_an_account_shows_its_last_day(biller, today):
    clara, admin = await biller.logged_in("clara"), await biller.logged_in("admin")
    assert (await voice(clara))["valid_until"] is None
    body = {"username": "ana", "kind": "voice", "value": 5}
    assert (await clara.post("/api/v1/transfers", body, headers={"Idempotency-Key": "k"})).code == 201
    while not biller.rows(tables.credit_validity_terms):  # the biller looks as soon as it has started
        await deferLater(reactor, 0.01)
    assert (await voice(clara))["valid_until"] == str(today + timedelta(days=30))
    later = str(today + timedelta(days=60))
    answer = await admin.patch(ACCOUNT, {"valid_until": later})
    assert (answer.code, answer.body["valid_until"]) == (200, later)
    assert (await admin.patch(ACCOUNT, {"valid_until": "2020-01-01"})).code == 422
    assert (await clara.patch(ACCOUNT, {"valid_until": later})).code == 403
    ana = await biller.logged_in("ana")
    assert (await voice(ana))["valid_until"] == later
    assert (await ana.patch(ACCOUNT, {"valid_until": later})).code == 403
