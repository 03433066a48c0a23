"""Selling on pages: a look at who gets it, one sale for one form, its receipt, its undoing. Over real HTTP."""

import re
from urllib.parse import urlencode

import pytest_twisted

from tests.support.http.api_service import biller_fixture
from tests.support.http.pages import Reader

biller = biller_fixture()
SALES, PLAN = "/ui/sell/sales", "/ui/sell/plan"


async def seller(biller, stock=1000):
    """Make ana a seller by the pages of operators, with this stock; return her reader."""
    admin = Reader(await biller.logged_in("admin"))
    if (await admin.look("/ui/sellers/ana")).status == 404:
        page = await admin.send("/ui/sellers/new", username="ana", commission="none", sale_max="500")
        assert page.path == "/ui/sellers/ana?done=seller_added"
    form = await admin.look(f"/ui/sellers/ana/refills/plan?amount={stock}&paid=&note=")
    assert f"Paid {stock:,}" in form.text
    action = "/ui/sellers/ana/refills"
    for _ in range(2):  # a double tap
        page = await admin.fill(form, action)
        assert page.path.startswith("/ui/receipts/"), page.text
    return Reader(await biller.logged_in("ana"))


async def plan(reader, **fields):
    return await reader.look(f"{PLAN}?{urlencode(fields)}")


async def number_of(biller, username):
    answer = await (await biller.logged_in("admin")).get(f"/api/v1/subscribers/{username}")
    return answer.body["clid"], answer.body["voice"]["posted"], answer.body["name"]


async def sold_today(ana):
    return int(re.search(r"Today you sold ([0-9,]+)", (await ana.look("/ui/sell")).text)[1].replace(",", ""))


async def stock_of(biller):
    return (await (await biller.logged_in("admin")).get("/api/v1/sellers/ana")).body["posted"]


@pytest_twisted.ensureDeferred
async def test_double_tap_sells_once_and_shows_receipt(biller):
    ana = await seller(biller)
    assert (await ana.look("/ui/")).path == "/ui/sell"
    number, before, name = await number_of(biller, "bia")
    stock = await stock_of(biller)
    sold_before = await sold_today(ana)
    planned = await plan(ana, to=number, amount="60")
    assert planned.status == 200
    assert name in planned.text
    receipts = {(await ana.fill(planned, SALES)).path for _ in range(3)}
    assert len(receipts) == 1
    assert (await number_of(biller, "bia"))[1] == before + 60
    assert await stock_of(biller) == stock - 60
    assert await sold_today(ana) == sold_before + 60
    receipt = await ana.look(receipts.pop())
    assert "1 min" in receipt.content.find("pre").get_text()


@pytest_twisted.ensureDeferred
async def test_undo_gives_stock_back_once(biller):
    ana = await seller(biller)
    number, before, _ = await number_of(biller, "bia")
    stock = await stock_of(biller)
    receipt = await ana.fill(await plan(ana, to=number, amount="70"), SALES)
    for _ in range(2):
        page = await ana.send(f"{receipt.path}/undo")
        assert page.path == f"{receipt.path}?done=receipt_undone"
    assert "undone" in page.text
    assert (await number_of(biller, "bia"))[1] == before
    assert await stock_of(biller) == stock


@pytest_twisted.ensureDeferred
async def test_refused_sale_says_why_and_sells_nothing(biller):
    ana = await seller(biller)
    number, before, _ = await number_of(biller, "bia")
    for fields in (
        {"to": "999", "amount": "10"},
        {"to": number, "amount": "x"},
        {"to": number, "amount": "0"},
        {"to": number, "amount": "501"},
        {"to": number, "amount": ""},
        {"to": "", "amount": "5"},
    ):
        page = await plan(ana, **fields)
        assert page.status in (404, 409, 422), fields
        assert page.content.find(attrs={"role": "alert"}), fields
        page = await ana.send(SALES, **fields, idempotency_key=f"k{fields['to']}{fields['amount']}")
        assert page.status in (404, 409, 422), fields
    assert (await number_of(biller, "bia"))[1] == before


@pytest_twisted.ensureDeferred
async def test_who_is_no_seller_sells_nothing(biller):
    bia = Reader(await biller.logged_in("bia"))
    page = await bia.look("/ui/sell")
    assert page.status == 404
    assert "Sell" not in page.content.header.get_text()
    assert (await bia.send(SALES, to="1", amount="1", idempotency_key="x")).status == 404


@pytest_twisted.ensureDeferred
async def test_receipts_of_others_are_hidden(biller):
    ana = await seller(biller)
    number, *_ = await number_of(biller, "bia")
    receipt = await ana.fill(await plan(ana, to=number, amount="5"), SALES)
    bia, clara = [Reader(await biller.logged_in(name)) for name in ("bia", "clara")]
    assert (await bia.look(receipt.path)).status == 200, "who got the credit"
    assert (await clara.look(receipt.path)).status == 200
    assert "5" in (await ana.look("/ui/sell/settlement")).text
    assert (await bia.look("/ui/sell/settlement")).status == 404


@pytest_twisted.ensureDeferred
async def test_emptied_limits_of_sellers_are_gone(biller):
    await seller(biller)
    admin = Reader(await biller.logged_in("admin"))
    page = await admin.fill(await admin.look("/ui/sellers/ana"), "/ui/sellers/ana", sale_max="7", day_limit="9")
    fields = page.fields("/ui/sellers/ana")
    assert (fields["sale_max"], fields["day_limit"], fields["enabled"]) == ("7", "9", "true")
    page = await admin.fill(page, "/ui/sellers/ana", sale_max="", day_limit="")
    assert page.fields("/ui/sellers/ana") == fields | {"sale_max": "", "day_limit": ""}
    shown = await admin.client.get("/api/v1/sellers/ana")
    assert (shown.body["sale_max"], shown.body["day_limit"]) == (None, None)


@pytest_twisted.ensureDeferred
async def test_terms_of_a_seller_are_changed(biller):
    await seller(biller)
    admin = Reader(await biller.logged_in("admin"))
    terms = {"seller_class": "shop", "commission": "bonus", "commission_rate": "500", "credit_line": "100"}
    page = await admin.fill(await admin.look("/ui/sellers/ana"), "/ui/sellers/ana", **terms)
    assert terms.items() <= page.fields("/ui/sellers/ana").items()
    shown = (await admin.client.get("/api/v1/sellers/ana")).body
    assert {name: str(shown[name]) for name in terms} == terms
    refused = await admin.fill(page, "/ui/sellers/ana", parent="nosuch", commission_rate="x")
    assert refused.status == 422
    assert refused.error_of("commission_rate")
