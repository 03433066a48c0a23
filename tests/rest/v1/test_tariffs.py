"""Tariffs, versions, rates and groups by /api/v1."""

from datetime import UTC, datetime, timedelta

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from celcombiller.core.model.tariffs import Service, Step
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.tariffs.rate_row import encode_steps
from celcombiller.database.transaction import transact
from tests.rest.v1.test_transfers import refused
from tests.support.http.api_service import biller_fixture, header
from tests.support.tariffs import make_tariff, rate, write

biller = biller_fixture()
LIST = "/api/v1/tariffs"
GROUPS = "/api/v1/groups"
BELEM = {"prefix": "5591", "name": "Belem", "steps": [{"increment": 30, "price": 12, "per": 60}]}


def soon(minutes=10):
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()


async def made(client, address, body):
    answer = await client.post(address, body)
    assert answer.code == 201, answer.bytes
    return answer.body


@pytest_twisted.ensureDeferred
async def test_tariff_is_made_changed_and_deleted(biller):
    admin = await biller.logged_in("admin")
    answer = await admin.post(LIST, {"name": "retail", "currency": "R$", "credits_per_unit": 100, "time_zone": "UTC"})
    shown = answer.body
    assert (answer.code, header(answer, "location")) == (201, f"{biller.base}{LIST}/1")
    assert (shown["version"], shown["next_version"], shown["is_default"]) == (None, None, False)
    refused(await admin.post(LIST, {"name": "retail"}), 409, "TAKEN")
    changed = await admin.patch(f"{LIST}/1", {"is_default": True, "name": "standard"})
    assert changed.body == shown | {"is_default": True, "name": "standard"}
    assert (await admin.get(LIST)).body["items"] == [changed.body]
    refused(await admin.delete(f"{LIST}/1"), 409, "IN_USE")
    assert (await admin.patch(f"{LIST}/1", {"is_default": False})).body["is_default"] is False
    assert (await admin.delete(f"{LIST}/1")).code == 204
    refused(await admin.get(f"{LIST}/1"), 404, "UNKNOWN_TARIFF")
    actions = [row["action"] for row in biller.rows(tables.trail) if row["subject"].startswith("tariff")]
    assert actions == ["add", "change", "change", "change", "delete"]


@pytest_twisted.ensureDeferred
async def test_versions_are_written_listed_and_withdrawn(biller):
    admin = await biller.logged_in("admin")
    await made(admin, LIST, {"name": "retail", "currency": "R$", "credits_per_unit": 100})
    versions = f"{LIST}/1/versions"
    first = await made(admin, versions, {"rates": [BELEM], "note": "first"})
    assert (first["version"]["number"], first["added"], first["version"]["created_by"]) == (1, 1, "admin")
    order = {
        "rates": [{"steps": [{"price": 1}]}, BELEM | {"window": "sat,sun 00:00-24:00", "connect_fee": 5}],
        "effective_at": soon(),
        "holidays": ["2026-12-25"],
    }
    second = await made(admin, versions, order)
    assert (second["added"], second["version"]["state"], second["version"]["holidays"]) == (
        2,
        "waiting",
        ["2026-12-25"],
    )
    assert [each["number"] for each in (await admin.get(versions)).body["items"]] == [2, 1]
    refused(await admin.post(versions, {"rates": [{"steps": [{"price": 2}]}]}), 409, "VERSION_CONFLICT")
    rates = (await admin.get(f"{LIST}/1/rates?version=2")).body["items"]
    assert [(each["prefix"], each["window"], each["text"]) for each in rates] == [
        ("", "", "R$ 0.60 per min, 1/1"),
        ("5591", "", "R$ 0.12 per min, 30/30"),
        ("5591", "sat,sun 00:00-24:00", "R$ 0.05 + R$ 0.12 per min, 30/30"),
    ]
    assert [
        each["prefix"] for each in (await admin.get(f"{LIST}/1/rates?at={soon(5).replace('+', '%2B')}")).body["items"]
    ] == ["5591"]
    assert (await admin.delete(f"{versions}/2")).code == 204
    assert (await admin.get(f"{versions}/2")).body["state"] == "withdrawn"
    refused(await admin.delete(f"{versions}/2"), 409, "VERSION_CONFLICT")
    refused(await admin.get(f"{versions}/9"), 404, "UNKNOWN_TARIFF")
    removed = await made(admin, versions, {"removed": [{"prefix": "+5591"}], "effective_at": soon()})
    assert (removed["removed"], removed["version"]["number"]) == (1, 3)


@pytest_twisted.ensureDeferred
async def test_rates_come_in_pages(biller):
    admin = await biller.logged_in("admin")
    await made(admin, LIST, {"name": "retail"})
    rates = [BELEM | {"prefix": str(number), "name": f"place {number}"} for number in range(10, 17)]
    await made(admin, f"{LIST}/1/versions", {"rates": rates})
    found, cursor = [], ""
    while cursor is not None:
        page = (await admin.get(f"{LIST}/1/rates?version=1&limit=3{cursor and f'&cursor={cursor}'}")).body
        found += [each["prefix"] for each in page["items"]]
        cursor = page["next"]
    assert found == [each["prefix"] for each in rates]
    named = await admin.get(f"{LIST}/1/rates?version=1&name=PLACE 13".replace(" ", "%20"))
    assert [each["prefix"] for each in named.body["items"]] == ["13"]
    refused(await admin.get(f"{LIST}/1/rates?version=1&at=2026-12-01T00:00:00Z"), 422, "INVALID")


@pytest_twisted.ensureDeferred
async def test_faulty_versions_change_nothing(biller):
    admin = await biller.logged_in("admin")
    await made(admin, LIST, {"name": "retail"})
    await made(admin, f"{LIST}/1/versions", {"rates": [BELEM]})
    before = biller.everything()
    for wrong in (
        {"rates": [BELEM]},
        {"rates": [BELEM | {"prefix": "5x"}]},
        {"rates": [BELEM | {"steps": []}]},
        {"rates": [BELEM | {"steps": [{"price": -1}]}]},
        {"rates": [BELEM | {"on_net": True}]},
        {"rates": [BELEM | {"window": "funday 00:00-24:00"}]},
        {"rates": [BELEM | {"prefix": "1", "window": "sat 00:00-24:00"}]},
        {"removed": [{"prefix": "7"}]},
        {"rates": [BELEM | {"connect_fee": 1}], "effective_at": "2020-01-01T00:00:00Z"},
    ):
        refused(await admin.post(f"{LIST}/1/versions", wrong), 422, "INVALID")
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_collaborators_read_and_administrators_write(biller):
    admin = await biller.logged_in("admin")
    await made(admin, LIST, {"name": "retail"})
    await made(admin, GROUPS, {"name": "students"})
    staff, own = await biller.logged_in("clara"), await biller.logged_in("ana")
    for address in (LIST, f"{LIST}/1", f"{LIST}/1/rates", f"{LIST}/1/versions", GROUPS, f"{GROUPS}/1"):
        assert (await staff.get(address)).code == 200
        refused(await own.get(address), 403, "FORBIDDEN")
    for client in (staff, own):
        refused(await client.post(LIST, {"name": "mine"}), 403, "FORBIDDEN")
        refused(await client.post(f"{LIST}/1/versions", {"rates": [BELEM]}), 403, "FORBIDDEN")
        refused(await client.patch(f"{LIST}/1", {"is_default": True}), 403, "FORBIDDEN")
        refused(await client.post(GROUPS, {"name": "mine"}), 403, "FORBIDDEN")
        refused(await client.delete(f"{GROUPS}/1"), 403, "FORBIDDEN")
    refused(await own.patch("/api/v1/subscribers/ana", {"tariff_id": 1}), 403, "FORBIDDEN")
    assert (await staff.patch("/api/v1/subscribers/ana", {"tariff_id": 1})).body["tariff_id"] == 1


@pytest_twisted.ensureDeferred
async def test_group_gives_members_its_terms(biller):
    admin = await biller.logged_in("admin")
    tariff = await made(admin, LIST, {"name": "retail"})
    group = await made(
        admin, GROUPS, {"name": "students", "tariff_id": tariff["id"], "calls_max": 3, "barred": ["+900"]}
    )
    assert (group["tariff_id"], group["calls_max"], group["barred"], group["members"]) == (1, 3, ["900"], 0)
    refused(await admin.post(GROUPS, {"name": "others", "tariff_id": 9}), 404, "UNKNOWN_TARIFF")
    terms = {"group_id": group["id"], "calls_max": 1, "allowed": ["55"]}
    changed = (await admin.patch("/api/v1/subscribers/ana", terms)).body
    assert {name: changed[name] for name in terms} == terms
    refused(await admin.patch("/api/v1/subscribers/ana", {"group_id": 9}), 404, "UNKNOWN_GROUP")
    assert (await admin.get(f"{GROUPS}/1")).body["members"] == 1
    members = (await admin.get("/api/v1/subscribers?group_id=1")).body["items"]
    assert [each["username"] for each in members] == ["ana"]
    refused(await admin.delete(f"{GROUPS}/1"), 409, "IN_USE")
    assert (await admin.patch(f"{GROUPS}/1", {"tariff_id": None, "name": "pupils"})).body["tariff_id"] is None
    assert (await admin.patch("/api/v1/subscribers/ana", {"group_id": None})).body["group_id"] is None
    assert (await admin.delete(f"{GROUPS}/1")).code == 204
    actions = [row["action"] for row in biller.rows(tables.trail) if row["subject"] == "group:1"]
    assert actions == ["add", "change", "delete"]


@pytest_twisted.ensureDeferred
async def test_rates_are_those_in_force_for_who_asks(biller):
    """Takes 1 s: the biller reads the new tariff."""
    admin, ana = await biller.logged_in("admin"), await biller.logged_in("ana")
    shown = (await ana.get("/api/v1/rates")).body
    assert (shown["tariff"], shown["version"], shown["next"]) == ("settings", None, None)
    past = datetime.now(UTC) - timedelta(hours=1)
    minutes = encode_steps((Step(0, 30, 5, 60), Step(30, 6, 12, 60)))

    def work(tx):
        tariff = make_tariff(tx, past, currency="R$", credits_per_unit=100)
        rates = [rate("", 1), rate("55", steps=minutes, connect_fee=3, name="Brazil"), rate("", 2, on_net=True)]
        write(tx, tariff.id, past, *rates, rate("", 9, service=Service.SMS))
        subscriber_records.change(tx, "ana", {"tariff_id": tariff.id}, past)

    transact(biller.engine, work)
    while shown["tariff"] == "settings":
        await deferLater(reactor, 0.1)
        shown = (await ana.get("/api/v1/rates?limit=2")).body
    assert (shown["tariff"], shown["version"], len(shown["items"])) == ("retail", 1, 2)
    second = (await ana.get(f"/api/v1/rates?limit=2&cursor={shown['next']}")).body
    found = {(each["prefix"], each["on_net"]): each for each in shown["items"] + second["items"]}
    assert second["next"] is None
    assert found.keys() == {("", False), ("", True), ("55", False)}
    brazil = found["55", False]
    assert (brazil["name"], brazil["connect_fee"], brazil["price"], brazil["increment_seconds"]) == ("Brazil", 3, 3, 30)
    assert brazil["text"].startswith("R$ 0.03 + R$ 0.05 per min")
    assert (await admin.get("/api/v1/rates")).body["tariff"] == "settings"
    assert (await admin.get("/api/v1/rates?username=ana")).body["tariff"] == "retail"
    refused(await ana.get("/api/v1/rates?username=bia"), 404, "NOT_FOUND")
    refused(await ana.get("/api/v1/rates?cursor=x"), 422, "INVALID")
