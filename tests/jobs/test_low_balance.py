"""Notices as the service has them: switched on by the settings, beside everything else that it does."""

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from celcombiller.config.tables import Asterisk, Balance, Metrics, Notices, Sms
from celcombiller.core.notifications.low_balance import BOOKMARK
from celcombiller.core.schema import tables
from celcombiller.jobs import low_balance
from celcombiller.jobs.low_balance import LowBalanceService
from tests.runtime.metrics.test_metrics import scraped
from tests.support.http.api_service import Biller
from tests.system.lab.waiting import free_ports

SECONDS_MAX = 10


def marks(biller):
    """Give the bookmark of the notices."""
    return [each["transfer_id"] for each in biller.rows(tables.bookmark) if each["name"] == BOOKMARK]


async def until(condition):
    ends_at = reactor.seconds() + SECONDS_MAX
    while not condition():
        assert reactor.seconds() < ends_at
        await deferLater(reactor, 0.05)


def watching(biller):
    return [each for each in biller.service if isinstance(each, LowBalanceService)]


@pytest_twisted.ensureDeferred
async def test_without_settings_no_notices_are_looked_for(tmp_path):
    biller = Biller(tmp_path, {}, "")
    assert watching(biller) == []
    await biller.stop()


@pytest_twisted.async_yield_fixture
async def biller(tmp_path, monkeypatch):
    monkeypatch.setattr(low_balance, "LOOK_SECONDS", 0.05)
    made = Biller(
        tmp_path,
        {},
        "",
        metrics=Metrics(),
        asterisk=(Asterisk(name="pbx1", host="127.0.0.1", port=free_ports(1), username="u", secret="s"),),
        sms=Sms(on_net_route="asterisk", sender="biller"),
        balance=Balance(say="number", scale=2),
        notices=Notices(thresholds=(5000, 500), text="{balance} left, {credits} of {threshold}"),
    )
    yield made
    await made.stop()


@pytest_twisted.ensureDeferred
async def test_a_lowered_balance_queues_a_notice(biller):
    (service,) = watching(biller)
    await until(lambda: marks(biller))
    admin = await biller.logged_in("admin")
    for number, value in enumerate((6000, -5640)):
        body = {"username": "ana", "kind": "voice", "value": value}
        answer = await admin.post("/api/v1/transfers", body, headers={"Idempotency-Key": str(number)})
        assert answer.code == 201, answer.bytes
    await until(lambda: biller.rows(tables.notice))
    (message,) = biller.rows(tables.message)
    assert (message["to_number"], message["text"]) == ("1002", "3.6 left, 360 of 5")
    assert (message["origin"], message["subscriber_id"], message["from_number"]) == ("notice", None, "biller")
    measured = await scraped(biller)
    assert measured['celcombiller_notices_total{result="queued"}'] == 1
    assert measured["celcombiller_notices_looked_at_timestamp_seconds"] > 0
    assert marks(biller) == [2]
    assert biller.audit().ok
    assert service.running
