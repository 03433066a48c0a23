"""Settings, the audit and others' second factors, over real HTTP."""

import threading

import pytest_twisted
import sqlalchemy as sa
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from celcombiller.core.audit.report import audit
from celcombiller.core.errors import TooSlow
from celcombiller.core.schema import tables
from tests.support.http.api_service import Biller, biller_fixture

biller = biller_fixture()


@pytest_twisted.async_yield_fixture
async def broken(tmp_path):
    """Give a biller whose ledger may be broken."""
    made = Biller(tmp_path, {}, "")
    yield made
    await made.stop()


@pytest_twisted.ensureDeferred
async def test_settings_are_listed_for_administrators(biller):
    found = (await (await biller.logged_in("admin")).get("/api/v1/settings")).body
    (port,) = [each for each in found["items"] if (each["table"], each["key"]) == ("rest", "listen")]
    assert port == {
        "table": "rest",
        "position": None,
        "key": "listen",
        "value": biller.config.rest.listen,
        "is_hidden": False,
        "source": "default",
    }
    assert (await (await biller.logged_in("clara")).get("/api/v1/settings")).code == 403


@pytest_twisted.ensureDeferred
async def test_audit_names_what_differs(broken):
    admin = await broken.logged_in("admin")
    right = await admin.post("/api/v1/audit")
    assert (right.code, right.body["ok"], right.body["differences"]) == (200, True, [])
    assert right.body["seconds"] >= 0
    with broken.engine.begin() as tx:
        tx.execute(sa.update(tables.account).where(tables.account.c.subscriber_id == 1).values(posted=7))
    wrong = (await admin.post("/api/v1/audit")).body
    assert not wrong["ok"]
    assert wrong["differences_total"] == len(wrong["differences"]) > 0
    assert 7 in [each["found"] for each in wrong["differences"]]


@pytest_twisted.ensureDeferred
async def test_long_audits_end_with_advice(biller, monkeypatch):
    def take_too_long(_tx, _now):
        raise TooSlow("this takes more than 5.0 s")

    monkeypatch.setattr("celcombiller.rest.v1.system.audit.audit", take_too_long)
    admin = await biller.logged_in("admin")
    answer = await admin.post("/api/v1/audit")
    assert (answer.code, answer.body["code"]) == (422, "TOO_SLOW")
    assert "celcombiller audit" in answer.body["detail"]
    monkeypatch.undo()
    assert (await admin.post("/api/v1/audit")).code == 200, "the next one is not kept out"


@pytest_twisted.ensureDeferred
async def test_one_audit_runs_at_a_time(biller, monkeypatch):
    begun, may_end = threading.Event(), threading.Event()

    def wait(tx, now):
        begun.set()
        may_end.wait(10)
        return audit(tx, now)

    monkeypatch.setattr("celcombiller.rest.v1.system.audit.audit", wait)
    admin = await biller.logged_in("admin")
    first = Deferred.fromCoroutine(admin.post("/api/v1/audit"))
    await deferToThread(begun.wait, 10)
    assert (await admin.post("/api/v1/audit")).code == 503
    may_end.set()
    assert (await first).code == 200
    assert (await admin.post("/api/v1/audit")).code == 200


@pytest_twisted.ensureDeferred
async def test_staff_see_who_has_a_second_factor(biller):
    clara = await biller.logged_in("clara")
    assert (await clara.get("/api/v1/subscribers/bia/second-factor")).body == {"enabled": False, "recovery_codes": 0}
    assert (await clara.get("/api/v1/subscribers/nobody/second-factor")).code == 404
    assert (await (await biller.logged_in("ana")).get("/api/v1/subscribers/ana/second-factor")).code == 403
