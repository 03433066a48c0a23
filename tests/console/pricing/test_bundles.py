"""Offers and bundles on pages: made, given once after a look at them, ended. Over real HTTP."""

from urllib.parse import urlencode

import pytest_twisted

from tests.support.http.api_service import biller_fixture
from tests.support.http.pages import Reader

biller = biller_fixture()
HOUR = {"username": "ana", "name": "free hour", "kind": "seconds", "amount": "3600", "valid_hours": "24"}


async def plan(reader, **fields):
    return await reader.look(f"/ui/bundles/plan?{urlencode(HOUR | fields)}")


async def bundles_of(biller, username="ana"):
    answer = await (await biller.logged_in("admin")).get(f"/api/v1/subscribers/{username}/bundles")
    return answer.body["items"]


async def offers(admin):
    return {each["name"]: each for each in (await admin.client.get("/api/v1/offers")).body["items"]}


@pytest_twisted.ensureDeferred
async def test_offers_are_added_changed_and_deleted(biller):
    admin = Reader(await biller.logged_in("admin"))
    form = await admin.look("/ui/offers/new")
    given = {"name": "talk", "price": "300", "amount": "60", "destinations": "55, on-net", "services.voice": "true"}
    for name, wrong in (("amount", ""), ("price", "x"), ("destinations", "Brazil")):
        page = await admin.fill(form, **given | {name: wrong})
        assert (page.status, bool(page.error_of(name))) == (422, True), name
    page = await admin.fill(form, **given)
    assert page.path == "/ui/offers?done=offer_added"
    made = (await offers(admin))["talk"]
    assert (made["services"], made["destinations"], made["amount"]) == (["voice"], ["55", "on-net"], 60)
    place = f"/ui/offers/{made['id']}"
    form = await admin.look(f"{place}/change")
    assert form.content.find("input", {"name": "services.voice"}).has_attr("checked")
    fields = form.fields() | {"name": "talks", "destinations": "", "call_seconds_max": "30", "enabled": "false"}
    page = await admin.send(
        f"{place}/change", **{name: each for name, each in fields.items() if "services" not in name}
    )
    assert "not for sale" in page.text
    changed = (await offers(admin))["talks"]
    assert changed == made | {
        "name": "talks",
        "destinations": [],
        "services": [],
        "call_seconds_max": 30,
        "enabled": False,
    }
    page = await admin.fill(await admin.look(f"{place}/delete"))
    assert page.path == "/ui/offers?done=offer_deleted"
    assert (await admin.look(f"{place}/change")).status == 404


@pytest_twisted.ensureDeferred
async def test_offer_without_limit_keeps_it(biller):
    admin = Reader(await biller.logged_in("admin"))
    form = await admin.look("/ui/offers/new")
    await admin.fill(form, name="flat", price="9", unlimited="true")
    made = (await offers(admin))["flat"]
    assert made["unlimited"]
    place = f"/ui/offers/{made['id']}/change"
    await admin.fill(await admin.look(place), price="8", renews="true")
    assert (await offers(admin))["flat"] == made | {"price": 8, "renews": True}


@pytest_twisted.ensureDeferred
async def test_bundle_is_given_once_after_a_look(biller):
    clara = Reader(await biller.logged_in("clara"))
    before = len(await bundles_of(biller))
    page = await plan(clara, note="a present")
    assert page.status == 200
    assert "Ana" in page.text
    assert "3,600 seconds" in page.text
    assert len(await bundles_of(biller)) == before, "nothing is given yet"
    places = {(await clara.fill(page, "/ui/bundles")).path for _ in range(2)}  # a second tap
    assert len(places) == 1
    assert len(await bundles_of(biller)) == before + 1
    shown = await clara.look(places.pop())
    assert "a present" in shown.text
    assert "Left 3,600" in shown.text
    assert "free hour" in (await clara.look("/ui/subscribers/ana")).text
    assert "free hour" in (await clara.look("/ui/bundles?username=ana")).text
    assert "No bundle was found." in (await clara.look("/ui/bundles?username=bia")).text


@pytest_twisted.ensureDeferred
async def test_refused_bundle_says_why_and_gives_nothing(biller):
    clara = Reader(await biller.logged_in("clara"))
    before = await bundles_of(biller)
    wrong = {"amount": "x", "valid_hours": "0", "name": "", "valid_from": "2020-01-01T00:00", "destinations": "no"}
    for name, value in wrong.items():
        page = await plan(clara, **{name: value})
        assert (page.status, bool(page.error_of(name))) == (422, True), name
        assert page.fields("/ui/bundles/plan")["username"] == "ana"
        page = await clara.send("/ui/bundles", **HOUR | {name: value}, idempotency_key=f"k{name}")
        assert page.status == 422, name
    assert (await plan(clara, username="nobody")).status == 404
    assert (await clara.send("/ui/bundles", **HOUR)).status == 400, "without a key"
    assert await bundles_of(biller) == before


@pytest_twisted.ensureDeferred
async def test_bundle_ends_once_for_a_reason(biller):
    clara = Reader(await biller.logged_in("clara"))
    given = await clara.fill(await plan(clara, name="wrong one", username="bia"), "/ui/bundles")
    place = given.path.partition("?")[0]
    page = await clara.look(f"{place}/end")
    assert "3,600 seconds" in page.text
    for _ in range(2):
        page = await clara.fill(page, f"{place}/end", note="for somebody else")
        assert page.path == f"{place}?done=bundle_ended"
        page = await clara.look(f"{place}/end")
    shown = await clara.look(place)
    assert "for somebody else" in shown.text
    assert len(shown.content.select("tbody tr")) == 2
    assert not await bundles_of(biller, "bia")
    assert "wrong one" in (await clara.look("/ui/bundles?ended=true")).text
    assert "wrong one" not in (await clara.look("/ui/bundles")).text
