"""What operators change on pages: subscribers, reversals, and who did it. Over real HTTP."""

from urllib.parse import urlencode

import pytest_twisted

from tests.support.http.api_service import PASSWORD, biller_fixture
from tests.support.http.pages import Reader

biller = biller_fixture()
NEW = {"username": "eva", "name": "Eva", "clid": "5511970000001", "imsi": "724050000000009"}


def prices(**fields):
    return f"/ui/prices?{urlencode(fields)}"


async def data_of(biller):
    """Give the settled data credit of ana: it moves without a receipt."""
    return (await (await biller.logged_in("admin")).get("/api/v1/subscribers/ana")).body["data"]["posted"]


@pytest_twisted.ensureDeferred
async def test_reversal_needs_a_reason_and_happens_once(biller):
    clara = Reader(await biller.logged_in("clara"))
    form = await clara.look("/ui/subscribers/ana/credit/plan?kind=data&value=60")
    await clara.fill(form, "/ui/subscribers/ana/transfers")
    before = await data_of(biller)
    shown = await clara.look("/ui/subscribers/ana")
    place = shown.content.select_one("tbody a")["href"]
    refused = await clara.send(f"{place}/reversal", note="")
    assert refused.status == 422
    assert refused.error_of("note")
    for _ in range(2):
        page = await clara.send(f"{place}/reversal", note="to the wrong number")
    assert "-60" in page.text
    assert await data_of(biller) == before - 60


@pytest_twisted.ensureDeferred
async def test_subscribers_are_changed_and_deleted(biller):
    clara = Reader(await biller.logged_in("clara"))
    await clara.send("/ui/subscribers/new", **NEW, password=PASSWORD)
    form = await clara.look("/ui/subscribers/eva/change")
    page = await clara.fill(form, "/ui/subscribers/eva/change", name="Eva Maria", enabled="false")
    assert page.path == "/ui/subscribers/eva?done=subscriber_changed"
    assert "Eva Maria" in page.text
    assert "disabled" in page.text
    assert (await biller.client().post("/login", {"username": "eva", "password": PASSWORD})).code == 404
    page = await clara.fill(form, "/ui/subscribers/eva/change", clid="abc")
    assert (page.status, bool(page.error_of("clid"))) == (422, True)
    assert (await clara.send("/ui/subscribers/eva/delete")).status == 422
    page = await clara.fill(await clara.look("/ui/subscribers/eva/delete"), "/ui/subscribers/eva/delete")
    assert page.path == "/ui/subscribers?done=subscriber_deleted"
    assert (await clara.look("/ui/subscribers/eva")).status == 404
    assert (await clara.fill(form, "/ui/subscribers/eva/change")).status == 404, "their page was still open"


@pytest_twisted.ensureDeferred
async def test_emptied_fields_are_cleared_or_refused(biller):
    clara = Reader(await biller.logged_in("clara"))
    place = "/ui/subscribers/bia/change"
    await clara.fill(await clara.look(place), place, address="Rua 1")
    assert "Rua 1" in (await clara.look("/ui/subscribers/bia")).text
    page = await clara.fill(await clara.look(place), place, address="")
    assert page.path == "/ui/subscribers/bia?done=subscriber_changed"
    assert "Rua 1" not in page.text
    page = await clara.fill(await clara.look(place), place, name="", clid="")
    assert page.status == 422
    assert page.error_of("clid")
    assert (await biller.client().post("/login", {"username": "bia", "password": PASSWORD})).code == 200


@pytest_twisted.ensureDeferred
async def test_trail_names_who_did_it(biller):
    clara = Reader(await biller.logged_in("clara"))
    await clara.send("/ui/subscribers/new", **NEW | {"username": "ivo"})
    page = await Reader(await biller.logged_in("admin")).look("/ui/trail?subject=subscriber:ivo")
    assert "clara" in page.text
    assert (await clara.look("/ui/trail")).status == 403
    await clara.send("/ui/subscribers/ivo/delete", username="ivo")


@pytest_twisted.ensureDeferred
async def test_price_of_a_call_is_told_beforehand(biller):
    number = (await (await biller.logged_in("admin")).get("/api/v1/subscribers/bia")).body["clid"]
    for name, fields in (("ana", {}), ("clara", {"username": "ana"})):
        page = await Reader(await biller.logged_in(name)).look(prices(to_number=number, seconds="61", **fields))
        assert page.status == 200, page.text
        assert "61 credits" in page.text
    refused = await Reader(await biller.logged_in("ana")).look(prices(to_number=number, seconds="-1"))
    assert refused.error_of("seconds")
    other = await Reader(await biller.logged_in("ana")).look(prices(to_number="9", seconds="1", username="bia"))
    assert other.status == 404


@pytest_twisted.ensureDeferred
async def test_limits_of_an_account_are_changed(biller):
    admin = Reader(await biller.logged_in("admin"))
    place = "/ui/subscribers/ana/accounts/voice/change"
    form = await admin.look(place)
    refused = await admin.fill(form, place, credit_limit="much", day_limit="50")
    assert refused.status == 422
    assert refused.error_of("credit_limit")
    assert refused.fields(place)["day_limit"] == "50"
    await admin.fill(await admin.look(place), place, credit_limit="20", day_limit="50", month_limit="")
    account = (await admin.client.get("/api/v1/subscribers/ana/accounts")).body["items"][0]
    assert (account["credit_limit"], account["day_limit"], account["month_limit"]) == (20, 50, None)
    await admin.fill(await admin.look(place), place, day_limit="")
    account = (await admin.client.get("/api/v1/subscribers/ana/accounts")).body["items"][0]
    assert (account["credit_limit"], account["day_limit"]) == (20, None)
