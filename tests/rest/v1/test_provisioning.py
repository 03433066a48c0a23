"""The running biller with a radio network: it keeps it in step by itself, and says by REST how it stands."""

from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from celcombiller.config.tables import RadioNetwork
from celcombiller.core.provisioning import status
from celcombiller.core.schema import tables
from celcombiller.database.transaction import transact
from tests.support.fakes.node_manager import NodeManager
from tests.support.http.api_service import Biller
from tests.support.http.pages import Reader

PEOPLE = [(f"IMSI7240000000{number:05}", str(number)) for number in (1001, 1002, 1003, 1004)]


@pytest.fixture
def manager():
    made = NodeManager().start()
    yield made
    made.stop()


@pytest_twisted.async_yield_fixture(params=[2])
async def biller(tmp_path, manager, request):
    village = RadioNetwork(name="village", kind="openbts", port=manager.port, answer_seconds=1, retry_seconds_max=1)
    resting = RadioNetwork(name="resting")
    hill = RadioNetwork(name="hill", kind="openbts", port=manager.port, bts_port=manager.port, answer_seconds=2)
    made = Biller(tmp_path, {}, "", provisioning=(village, resting, hill)[: request.param])
    yield made
    assert made.audit().ok
    await made.stop()


async def until(condition, seconds=20):
    for _ in range(seconds * 20):
        if condition():
            return
        turn = Deferred()
        reactor.callLater(0.05, turn.callback, None)
        await turn
    raise AssertionError("it never came")


@pytest_twisted.ensureDeferred
async def test_changes_by_rest_reach_the_network(biller, manager):
    await until(lambda: manager.numbers() == PEOPLE)
    admin = await biller.logged_in("admin")
    new = {"username": "eva", "name": "Eva", "clid": "2005", "imsi": "724000000002005"}
    assert (await admin.post("/api/v1/subscribers", new)).code == 201
    await until(lambda: ("IMSI724000000002005", "2005") in manager.numbers())
    assert (await admin.patch("/api/v1/subscribers/eva", {"imsi": "724000000002006"})).code == 200
    await until(lambda: manager.numbers() == [*PEOPLE, ("IMSI724000000002006", "2005")])
    assert (await admin.patch("/api/v1/subscribers/eva", {"enabled": False})).code == 200
    await until(lambda: manager.numbers() == PEOPLE)
    assert (await admin.delete("/api/v1/subscribers/bia")).code == 204
    await until(lambda: len(manager.numbers()) == 3)


@pytest_twisted.ensureDeferred
async def test_an_absent_network_gets_changes_later(biller, manager):
    await until(lambda: manager.numbers() == PEOPLE)
    manager.stop()
    admin = await biller.logged_in("admin")
    for number in range(2001, 2021):
        new = {"username": f"u{number}", "name": "N", "clid": str(number), "imsi": f"72400000000{number}"}
        assert (await admin.post("/api/v1/subscribers", new)).code == 201
    await until(lambda: transact(biller.engine, status.backlog)[0].last_error != "")
    (village,) = (await admin.get("/api/v1/provisioning")).body["items"]
    assert (village["name"], village["configured"], village["entries"], village["waiting"]) == ("village", True, 24, 20)
    assert "does not answer" in village["last_error"]
    assert (await admin.get("/api/v1/provisioning/village/diff")).code == 502
    said = (await admin.get("/metrics")).bytes.decode()
    assert 'celcombiller_network_up{network="village"} 0.0' in said
    assert 'celcombiller_network_waiting{network="village"} 20.0' in said
    assert 'celcombiller_network_done_total{network="village"} 4.0' in said
    manager.start()
    await until(lambda: len(manager.numbers()) == 24)
    await until(lambda: transact(biller.engine, status.backlog)[0].waiting == 0)
    (village,) = (await admin.get("/api/v1/provisioning")).body["items"]
    assert (village["waiting"], village["last_error"], village["troubles"]) == (0, "", [])


@pytest_twisted.ensureDeferred
async def test_drift_is_shown_then_synced(biller, manager):
    await until(lambda: transact(biller.engine, status.backlog)[0].done_total == 4)
    manager.dialdata[0]["exten"] = "5"
    del manager.sip_buddies[1]
    manager.sip_buddies.append({"username": "IMSI999990000000001", "name": "x", "callerid": "9"})
    admin = await biller.logged_in("admin")
    found = (await admin.get("/api/v1/provisioning/village/diff")).body
    assert found["counts"] == {"missing": 1, "unknown": 1, "left": 0, "different": 1, "taken": 0, "unreadable": 0}
    assert [(each["drift"], each["imsi"], each["waiting"]) for each in found["items"]] == [
        ("different", "724000000001001", False),
        ("missing", "724000000001002", False),
        ("unknown", "999990000000001", False),
    ]
    dry = await admin.post("/api/v1/provisioning/village/sync", {"dry_run": True})
    assert (dry.code, dry.body["queued"], dry.body["dry_run"]) == (200, 2, True)
    assert (await admin.get("/api/v1/provisioning/village/diff")).body == found
    done = await admin.post("/api/v1/provisioning/village/sync", {"remove_unknown": True})
    assert done.body["queued"] == 3
    await until(lambda: manager.numbers() == PEOPLE)
    (row,) = [row for row in biller.rows(tables.trail) if row["action"] == "sync"]
    assert (row["actor"], row["subject"]) == ("admin", "network:village")


@pytest_twisted.ensureDeferred
async def test_unknown_networks_and_wrong_orders_are_refused(biller):
    admin = await biller.logged_in("admin")
    for name in ("hill", "resting", "%00"):
        assert (await admin.get(f"/api/v1/provisioning/{name}/diff")).code == 404
        assert (await admin.post(f"/api/v1/provisioning/{name}/sync", {})).code == 404
    for wrong in ({"dry_run": "yes"}, {"dryrun": True}):
        assert (await admin.post("/api/v1/provisioning/village/sync", wrong)).code == 422


@pytest_twisted.ensureDeferred
async def test_a_collaborator_sees_provisioning_but_cannot_sync(biller):
    clara = await biller.logged_in("clara")
    ana = await biller.logged_in("ana")
    assert (await clara.get("/api/v1/provisioning")).code == 200
    assert (await clara.post("/api/v1/provisioning/village/sync", {})).code == 403
    for path in ("/api/v1/provisioning", "/api/v1/provisioning/village/diff"):
        assert (await ana.get(path)).code == 403


@pytest.mark.parametrize("biller", [3], indirect=True)
@pytest_twisted.ensureDeferred
async def test_phones_without_subscriber_are_offered(biller, manager):
    manager.phones = [("724000000001001", "2s"), ("724000000009001", "3h"), ("724000000009002", "5s"), ("", "")]
    admin = await biller.logged_in("admin")
    found = (await admin.get("/api/v1/provisioning/unknown-phones")).body
    assert [(each["imsi"], each["network"]) for each in found["items"]] == [
        ("724000000009002", "hill"),
        ("724000000009001", "hill"),
    ]
    assert datetime.fromisoformat(found["items"][1]["seen_at"]) < datetime.now(UTC) - timedelta(hours=2)
    assert [each["network"] for each in found["silent"]] == ["village"]
    reader = Reader(admin)
    page = await reader.look("/ui/subscribers/new/seen")
    assert "village does not say" in page.text
    assert [each["value"] for each in page.content.select("#seen-phones option")] == [
        "724000000009002",
        "724000000009001",
    ]
    new = await reader.look(page.content.find("a", string="724000000009001")["href"])
    assert new.fields("/ui/subscribers/new")["imsi"] == "724000000009001"
    manager.stop()
    assert (await reader.look("/ui/subscribers/new")).status == 200
