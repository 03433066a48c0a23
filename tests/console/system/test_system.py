"""Networks, staff, keys, settings and the audit on pages. Over real HTTP."""

import pyotp
import pytest
import pytest_twisted
import sqlalchemy as sa

from celcombiller.config.tables import RadioNetwork
from celcombiller.core.schema import tables
from tests.support.fakes.node_manager import NodeManager
from tests.support.http.api_service import PASSWORD, Biller, biller_fixture
from tests.support.http.pages import Reader

biller = biller_fixture()


@pytest.fixture
def manager():
    made = NodeManager().start()
    yield made
    made.stop()


@pytest_twisted.async_yield_fixture
async def village(tmp_path, manager):
    """Give a biller with a radio network, whose ledger may be broken."""
    network = RadioNetwork(name="village", kind="openbts", port=manager.port, answer_seconds=1, retry_seconds_max=1)
    made = Biller(tmp_path, {}, "", provisioning=(network,))
    yield made
    await made.stop()


@pytest_twisted.ensureDeferred
async def test_sync_is_shown_before_it_is_ordered(village, manager):
    admin = Reader(await village.logged_in("admin"))
    manager.sip_buddies.append({"username": "IMSI999990000000001", "name": "x", "callerid": "9"})
    assert "village" in (await admin.look("/ui/networks")).text
    diff = await admin.look("/ui/networks/village/diff")
    assert "unknown to the biller" in diff.text
    trail = village.rows(tables.trail)
    preview = await admin.look("/ui/networks/village/sync?remove_unknown=true")
    assert "would be queued" in preview.text
    assert village.rows(tables.trail) == trail
    done = await admin.fill(preview, "/ui/networks/village/sync")
    assert done.path == "/ui/networks/village?done=sync_queued"
    assert [each["subject"] for each in village.rows(tables.trail)[len(trail) :]] == ["network:village"]
    assert (await admin.look("/ui/networks/hill")).status == 404
    clara = Reader(await village.logged_in("clara"))
    assert not (await clara.look("/ui/networks/village/diff")).content.main.find("form")
    assert (await clara.send("/ui/networks/village/sync")).status == 403


@pytest_twisted.ensureDeferred
async def test_a_silent_network_is_said_so(village, manager):
    admin = Reader(await village.logged_in("admin"))
    manager.stop()
    page = await admin.look("/ui/networks/village/diff")
    assert page.status == 502
    assert page.content.find(role="alert")
    assert "Compare with the network" in page.text
    manager.start()


@pytest_twisted.ensureDeferred
async def test_a_tokens_secret_is_shown_once(biller):
    admin = Reader(await biller.logged_in("admin"))
    form = await admin.look("/ui/tokens/new")
    made = await admin.fill(form, name="console", scopes="read", expires_at="2099-01-01")
    secret = made.content.main.code.get_text()
    program = biller.client()
    program.bearer = secret
    assert (await program.get("/api/v1/me")).body["username"] == "admin"
    reloaded = await admin.fill(form, name="console", scopes="read", expires_at="2099-01-01")
    assert (reloaded.status, bool(reloaded.error_of("name"))) == (409, True)
    listed = await admin.look("/ui/tokens")
    assert [each.get_text() for each in listed.content.select("tbody td:first-child")] == ["console"]
    assert secret not in listed.text
    (row,) = biller.rows(tables.token)
    revoked = await admin.send(f"/ui/tokens/{row['id']}/revoke")
    assert revoked.path == "/ui/tokens?done=token_revoked"
    assert (await program.get("/api/v1/me")).code == 401
    past = await admin.fill(form, name="late", scopes="read", expires_at="2001-01-01")
    assert past.error_of("expires_at")
    assert (await admin.fill(form, name="", scopes="read")).error_of("name")
    assert len(biller.rows(tables.token)) == 1
    biller.empty(tables.token)


@pytest_twisted.ensureDeferred
async def test_sessions_are_ended_where_they_are_seen(biller):
    lost, ana = await biller.logged_in("ana"), Reader(await biller.logged_in("ana"))
    shown = await ana.look("/ui/sessions")
    rows = shown.content.select("tbody tr")
    (other,) = [each.form["action"] for each in rows if "this one" not in each.get_text()]
    assert len(rows) == 2
    assert (await ana.send(other)).path.startswith("/ui/sessions?")
    assert (await lost.get("/api/v1/me")).code == 401
    bia = Reader(await biller.logged_in("bia"))
    own = (await bia.look("/ui/sessions")).content.select_one("tbody form")["action"]
    assert (await ana.send(own)).status == 404
    assert (await ana.look("/ui/sessions?username=bia")).status == 404
    admin = Reader(await biller.logged_in("admin"))
    page = await admin.look("/ui/sessions?username=bia")
    left = await admin.fill(page, own)
    assert "Nobody is logged in." in left.text
    assert (await bia.look("/ui/sessions")).path.startswith("/ui/login")
    assert ana.client.cookie
    assert (await ana.look("/ui/second-factor")).content.find("a", href="/ui/sessions")
    assert "System" not in (await ana.look("/ui/sessions")).content.header.get_text()


@pytest_twisted.ensureDeferred
async def test_staff_are_added_and_levels_changed(biller):
    admin = Reader(await biller.logged_in("admin"))
    form = await admin.look("/ui/staff/new")
    new = {"username": "davi", "name": "Davi", "clid": "1009", "imsi": "724000000001009", "password": PASSWORD}
    refused = await admin.fill(form, **(new | {"clid": "x"}))
    assert refused.error_of("clid")
    page = await admin.fill(form, **new, level="2")
    assert page.path == "/ui/staff/davi?done=staff_added"
    assert "Davi" in (await admin.look("/ui/staff")).text
    davi = Reader(await biller.logged_in("davi"))
    assert (await davi.look("/ui/staff")).status == 200
    assert (await davi.send("/ui/staff/davi/level", level="0")).status == 403
    page = await admin.fill(page, "/ui/staff/davi/level", level="1")
    assert page.path == "/ui/staff/davi?done=level_set"
    assert (await davi.look("/ui/staff")).status == 403
    assert (await admin.send("/ui/staff/davi/level", level="9")).error_of("level")
    last = await admin.send("/ui/staff/admin/level", level="2")
    assert last.status == 409
    assert (await admin.look("/ui/staff/nobody")).status == 404
    await admin.send("/ui/subscribers/davi/delete", username="davi")


@pytest_twisted.ensureDeferred
async def test_a_lost_second_factor_is_reset(biller):
    clara = await biller.logged_in("clara")
    secret = (await clara.get("/api/v1/me/second-factor/secret")).body["secret"]
    body = {"secret": secret, "code": pyotp.TOTP(secret).now()}
    assert (await clara.post("/api/v1/me/second-factor", body)).code == 200
    admin = Reader(await biller.logged_in("admin"))
    page = await admin.look("/ui/staff/clara")
    reset = "/ui/staff/clara/second-factor/reset"
    assert page.content.find("form", action=reset)
    page = await admin.send(reset)
    assert page.path == "/ui/staff/clara?done=second_factor_reset"
    assert not page.content.find("form", action=reset)
    assert (await clara.get("/api/v1/me")).code == 401
    assert (await admin.send(reset)).status == 404


@pytest_twisted.ensureDeferred
async def test_settings_and_doctor_are_shown(biller):
    admin = Reader(await biller.logged_in("admin"))
    settings = await admin.look("/ui/settings")
    (row,) = [each for each in settings.content.select("tbody tr") if each.code.get_text() == "smpp.password"]
    assert "hidden" in row.get_text()
    assert biller.config.rest.listen in settings.text
    doctor = await admin.look("/ui/doctor")
    assert doctor.content.pre.get_text() == "celcombiller doctor"


@pytest_twisted.ensureDeferred
async def test_the_audit_shows_findings_and_time(village):
    admin = Reader(await village.logged_in("admin"))
    right = await admin.fill(await admin.look("/ui/audit"))
    assert "All is as recorded" in right.text
    assert "It took" in right.text
    with village.engine.begin() as tx:
        tx.execute(sa.update(tables.account).where(tables.account.c.subscriber_id == 1).values(posted=7))
    wrong = await admin.send("/ui/audit")
    assert wrong.content.select("tbody tr")
    assert "admin's" in wrong.text
    assert (await Reader(await village.logged_in("clara")).send("/ui/audit")).status == 403
