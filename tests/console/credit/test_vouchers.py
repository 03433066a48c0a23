"""Vouchers on pages: codes shown once, activated, sold, revoked and found. Over real HTTP."""

import csv
import io
from urllib.parse import urlencode

import pytest
import pytest_twisted

from celcombiller.console.credit import vouchers
from celcombiller.core.schema import tables
from tests.support.http.api_service import biller_fixture
from tests.support.http.pages import Reader, voice_of

biller = biller_fixture()
NEW, MAKE = "/ui/vouchers/new", "/ui/vouchers/batches"


async def make(admin, **fields):
    return await admin.fill(await admin.look(NEW), MAKE, **{"cards": "3", "value": "50"} | fields)


def codes_of(page):
    rows = csv.DictReader(io.StringIO(page.content.find("textarea").get_text()))
    return [row["code"] for row in rows]


async def made(biller, name, **fields):
    """Make a batch; return the reader of an administrator, its address and its codes."""
    admin = Reader(await biller.logged_in("admin"))
    page = await make(admin, name=name, **fields)
    assert page.status == 200, page.text
    place = page.content.find("a", string="The batch")["href"]
    return admin, place, codes_of(page)


async def activate(admin, place, **fields):
    plan = await admin.look(f"{place}/activation/plan?{urlencode(fields)}")
    return await admin.fill(plan, f"{place}/activation")


@pytest_twisted.ensureDeferred
async def test_codes_are_shown_once(biller):
    admin = Reader(await biller.logged_in("admin"))
    form = await admin.look(NEW)
    page = await admin.fill(form, MAKE, name="once", cards="3", value="50", valid_until="2099-12-31")
    codes = codes_of(page)
    assert len(set(codes)) == 3
    assert [each.get_text() for each in page.content.select(".cards code")] == codes
    assert "not shown again" in page.text
    assert page.headers.getRawHeaders("cache-control") == ["no-store"]
    again = await admin.fill(form, MAKE, name="once", cards="3", value="50", valid_until="2099-12-31")
    assert (again.status, again.content.find("textarea")) == (409, None)
    shown = await admin.look(page.content.find("a", string="The batch")["href"])
    assert "not active yet 3" in shown.text
    assert not any(code in str(shown.content) for code in codes)
    assert sum(each["name"] == "once" for each in biller.rows(tables.voucher_batch)) == 1


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"cards": "0"}, "cards"),
        ({"cards": str(vouchers.CARDS_SHOWN_MAX + 1)}, "cards"),
        ({"value": "x"}, "value"),
        ({"name": ""}, "name"),
        ({"valid_until": "2020-01-01"}, "valid_until"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refused_batch_says_why_and_stays(biller, fields, wrong):
    admin = Reader(await biller.logged_in("admin"))
    page = await make(admin, **{"name": "refused", "note": "for <b>"} | fields)
    assert (page.status, bool(page.error_of(wrong))) == (422, True)
    assert page.fields(MAKE)["note"] == "for <b>"
    assert "refused" not in [each["name"] for each in biller.rows(tables.voucher_batch)]


@pytest_twisted.ensureDeferred
async def test_seller_pays_once_and_sees_vouchers(biller):
    admin, place, codes = await made(biller, "handed")
    await admin.send("/ui/sellers/new", username="ana", commission="none")
    await admin.fill(await admin.look("/ui/sellers/ana/refills/plan?amount=100"), "/ui/sellers/ana/refills")
    order = {"first_serial": "1", "last_serial": "2", "seller": "ana", "price": "80", "note": "harbour"}
    plan = await admin.look(f"{place}/activation/plan?{urlencode(order)}")
    assert "Ana" in plan.text
    assert "80 credits" in plan.text
    for _ in range(2):
        page = await admin.fill(plan, f"{place}/activation")
        assert page.path == f"{place}?done=vouchers_activated", page.text
    stock = (await admin.client.get("/api/v1/sellers/ana")).body["posted"]
    assert stock == 20
    bia = Reader(await biller.logged_in("bia"))
    await bia.send("/ui/me/vouchers", code=codes[0])
    own = await Reader(await biller.logged_in("ana")).look("/ui/sell/vouchers")
    assert "handed 1\u20132 50 credits · calls 80 1 1 0" in own.text
    assert "harbour" not in own.text
    assert "handed" in (await admin.look("/ui/sellers/ana")).text
    assert (await bia.look("/ui/sell/vouchers")).status == 404
    overlap = await activate(admin, place, first_serial="2", last_serial="3")
    assert (overlap.status, bool(overlap.error_of("first_serial"))) == (422, True)


@pytest_twisted.ensureDeferred
async def test_wrong_plan_shows_the_form_again(biller):
    admin, place, _ = await made(biller, "plans")
    page = await admin.look(f"{place}/activation/plan?first_serial=x&note=mine")
    assert (page.status, bool(page.error_of("first_serial"))) == (422, True)
    assert page.fields(f"{place}/activation/plan")["note"] == "mine"
    page = await admin.look(f"{place}/activation/plan?seller=clara")
    assert page.status == 404
    assert page.content.find("form", action=f"{place}/activation/plan")


@pytest_twisted.ensureDeferred
async def test_revoked_voucher_gives_nothing(biller):
    admin, place, codes = await made(biller, "lost")
    await activate(admin, place)
    for serials, status in ((("2", "9"), 422), (("2", "2"), 200), (("2", "2"), 200)):
        fields = {"first_serial": serials[0], "last_serial": serials[1], "note": "lost"}
        page = await admin.fill(await admin.look(f"{place}/revocation"), **fields)
        assert page.status == status, page.text
    assert "revoked 1" in page.text
    bia, before = Reader(await biller.logged_in("bia")), await voice_of(biller, "bia")
    assert (await bia.send("/ui/me/vouchers", code=codes[1])).status == 409
    assert await voice_of(biller, "bia") == before


@pytest_twisted.ensureDeferred
async def test_voucher_is_found_by_its_code(biller):
    admin, place, codes = await made(biller, "sought")
    await activate(admin, place)
    await Reader(await biller.logged_in("bia")).send("/ui/me/vouchers", code=codes[2])
    clara = Reader(await biller.logged_in("clara"))
    page = await clara.fill(await clara.look("/ui/vouchers/find"), code=codes[2])
    assert "sought Serial number 3" in page.text
    assert page.content.find("a", href="/ui/subscribers/bia")
    assert codes[2] not in str(page.content)
    assert "bia" in (await clara.look("/ui/vouchers/redeemed?username=bia")).text
    assert "bia" in (await clara.look(place)).text
    assert (await clara.fill(page, "/ui/vouchers/find", code="1")).status == 404
    assert (await clara.look(NEW)).status == 403


@pytest_twisted.ensureDeferred
async def test_voucher_gives_a_plan(biller):
    admin = await biller.logged_in("admin")
    offer = {"name": "an <hour>", "price": 30, "kind": "seconds", "amount": 3600, "valid_hours": 24}
    number = (await admin.post("/api/v1/offers", offer)).body["id"]
    _, place, codes = await made(biller, "plan", offer_id=str(number))
    assert "an <hour>" in (await Reader(admin).look(place)).text
    await activate(Reader(admin), place)
    page = await Reader(await biller.logged_in("bia")).send("/ui/me/vouchers", code=codes[0])
    assert "3,600" in page.text
