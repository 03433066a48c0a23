"""Trunks and routes on pages: made, changed, deleted, and refused with a reason. Over real HTTP."""

import pytest_twisted

from tests.support.http.api_service import biller_fixture
from tests.support.http.pages import Reader

biller = biller_fixture()


async def add(admin, name, **fields):
    """Make a trunk by its form; return its number."""
    form = await admin.look("/ui/trunks/new")
    page = await admin.fill(form, name=name, dial=f"PJSIP/{{number}}@{name}", **fields)
    assert page.path == "/ui/trunks?done=trunk_added", page.text
    return {each["name"]: each["id"] for each in (await admin.client.get("/api/v1/trunks")).body["items"]}[name]


async def routes(admin):
    return {each["prefix"]: each for each in (await admin.client.get("/api/v1/routes")).body["items"]}


@pytest_twisted.ensureDeferred
async def test_trunks_are_added_changed_and_deleted(biller):
    admin = Reader(await biller.logged_in("admin"))
    tariff = await admin.client.post("/api/v1/tariffs", {"name": "provider"})
    number = await add(admin, "north", strip="+", calls_max="3", tariff_id=str(tariff.body["id"]))
    page = await admin.look("/ui/trunks")
    assert "PJSIP/{number}@north provider 0 3 enabled" in page.text
    place = f"/ui/trunks/{number}"
    form = await admin.look(f"{place}/change")
    for name, wrong in (("calls_max", "many"), ("dial", "a,b"), ("caller_id", "me")):
        refused = await admin.fill(form, **{name: wrong})
        assert (refused.status, bool(refused.error_of(name))) == (422, True), name
    page = await admin.fill(form, calls_max="", tariff_id="", enabled="false")
    assert page.path == "/ui/trunks?done=trunk_changed"
    shown = (await admin.client.get(f"/api/v1/trunks/{number}")).body
    assert [shown[name] for name in ("strip", "calls_max", "tariff_id", "enabled")] == ["+", None, None, False]
    page = await admin.fill(await admin.look(f"{place}/delete"))
    assert page.path == "/ui/trunks?done=trunk_deleted"
    assert (await admin.look(f"{place}/change")).status == 404


@pytest_twisted.ensureDeferred
async def test_routes_are_added_changed_and_deleted(biller):
    admin = Reader(await biller.logged_in("admin"))
    east, west = str(await add(admin, "east")), str(await add(admin, "west"))
    form = await admin.look("/ui/routes/new")
    for fields in ({}, {"trunk_1": east, "weight_1": "x"}, {"trunk_1": east, "trunk_2": east}):
        page = await admin.fill(form, prefix="55", **fields)
        assert (page.status, bool(page.error_of("trunks"))) == (422, True), fields
    assert page.fields()["trunk_2"] == east
    page = await admin.fill(form, prefix="+55", choose="weight", trunk_1=west, weight_1="3", trunk_3=east)
    assert page.path == "/ui/routes?done=route_added"
    assert "55 by lot west (3), east (1)" in page.text
    made = (await routes(admin))["55"]
    place = f"/ui/routes/{made['id']}"
    form = await admin.look(f"{place}/change")
    assert (form.fields()["trunk_1"], form.fields()["weight_1"]) == (west, "3")
    await admin.fill(form, choose="order", trunk_1=east, trunk_2="", prefix="56")
    changed = (await routes(admin))["56"]
    assert changed == made | {
        "prefix": "56",
        "choose": "order",
        "trunks": [{"trunk_id": int(east), "weight": 3}],
    }
    kept = await admin.send(f"/ui/trunks/{east}/delete")
    assert (kept.status, kept.content.h1.get_text()) == (409, "Delete east")
    page = await admin.fill(await admin.look(f"{place}/delete"))
    assert page.path == "/ui/routes?done=route_deleted"
    assert "There is no route yet." in page.text


@pytest_twisted.ensureDeferred
async def test_prices_stand_once_in_each_menu(biller):
    for name, entries in (
        ("clara", ["Tariffs", "Offers", "Bundles", "Trunks", "Routes", "What a call costs"]),
        ("ana", []),
    ):
        page = await Reader(await biller.logged_in(name)).look("/ui/prices")
        menus = page.content.header.find_all("nav")
        assert menus[0].get_text(" ").split().count("Prices") == 1
        assert [each.get_text() for nav in menus[1:] for each in nav.find_all("a")] == entries
