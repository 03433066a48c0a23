"""RADIUS as one service: when it listens, stops, and closes silent sessions."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from celcombiller.config.tables import Radius
from celcombiller.core.data.session import Closing, DataState
from celcombiller.core.schema import tables
from celcombiller.radius.service import RadiusService
from celcombiller.service.wiring import build
from tests.support.fakes.nas import report
from tests.support.http.api_service import Biller
from tests.support.radius_biller import radius_fixture

frugal = radius_fixture(quota_octets=100)


@pytest_twisted.ensureDeferred
async def test_no_port_opens_without_clients(tmp_path):
    biller = Biller(tmp_path, {}, "")
    assert not any(isinstance(each, RadiusService) for each in biller.service)
    await biller.stop()


@pytest_twisted.ensureDeferred
async def test_a_stopping_service_answers_what_came_before(radius, monkeypatch):
    radius.credit(1000)
    waits = Deferred()
    charge = radius.biller.service.store.charge
    monkeypatch.setattr(
        radius.biller.service.store, "charge", lambda request: waits.addCallback(lambda _: charge(request))
    )
    (service,) = (each for each in radius.biller.service if isinstance(each, RadiusService))
    radius.nas.send(report("Stop", octets=40), radius.accounting)
    (_, port) = service._answering[1]
    await radius.nas.until(lambda: port._pending)
    stopping = service.stopService()
    radius.nas.send(report("Stop", "B2", octets=50), radius.accounting)
    assert await radius.nas.hear(0.2) is None
    waits.callback(None)
    assert await radius.nas.hear(5) is not None
    await stopping
    assert radius.balance() == (960, 0)
    await service.disownServiceParent()


async def report_usage(radius, session_id):
    """Have a session told of, with 60 octets of 100 credits."""
    await radius.report("Start", session_id=session_id)
    await radius.report("Interim-Update", session_id=session_id, octets=60)


def backdate(radius, session_id, minutes_ago):
    """Make it as if a session had been heard a while ago; no biller runs that could close it meanwhile."""
    at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    table = tables.data_session
    with radius.biller.engine.begin() as tx:
        tx.execute(sa.update(table).where(table.c.session_id == session_id).values(started_at=at, heard_at=at))


@pytest_twisted.ensureDeferred
async def test_silent_sessions_close_without_radius_clients(frugal, lines):
    radius = frugal
    radius.credit(1000)
    await report_usage(radius, "silent")
    await report_usage(radius, "not yet")
    assert radius.balance() == (880, 200)
    await radius.biller.service.stopService()
    backdate(radius, "silent", 61)
    backdate(radius, "not yet", 59)
    radius.biller.service = build(reactor, msgspec.structs.replace(radius.biller.config, radius=Radius()))
    assert not any(isinstance(each, RadiusService) for each in radius.biller.service)
    radius.biller.service.privilegedStartService()
    radius.biller.service.startService()
    await radius.nas.until(lambda: radius.sessions()[0].state is DataState.CLOSED)
    silent, other = radius.sessions()
    assert (silent.closed_by, silent.charged, silent.ended_at) == (Closing.SILENCE, 60, silent.heard_at)
    assert (other.state, other.charged) == (DataState.OPEN, 60)
    (hold,) = [each for each in radius.biller.rows(tables.hold) if each["state"] == "open"]
    assert (hold["reference"], radius.balance()) == (other.hold_reference, (880, 100))
    await radius.nas.until(lambda: any("nobody told of its end" in line for line in lines))  # said after the commit
    assert sum("nobody told of its end" in line for line in lines) == 1
