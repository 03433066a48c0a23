"""Tariffs on pages: made, changed, given a price list after a look at it, and deleted. Over real HTTP."""

from datetime import UTC, datetime, timedelta

import pytest_twisted

from celcombiller.core.schema import tables
from tests.support.http.api_service import biller_fixture, header
from tests.support.http.pages import Reader

biller = biller_fixture()
LIST = "prefix,name,price,increment\n55,Brazil,10,60\n5511,São Paulo,5,30/6\n1,USA,20,60\n"
SOON = ("waits for its time", "in force")
"""A version without a time waits a second, until all nodes have it."""
LATER = {"others": "stay", "at": (datetime.now(UTC) + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M")}


async def tariff(biller, name):
    """Make a tariff by its form; return an administrator's reader and its place."""
    admin = Reader(await biller.logged_in("admin"))
    page = await admin.fill(await admin.look("/ui/tariffs/new"), name=name, currency="R$", credits_per_unit="100")
    assert page.path.endswith("?done=tariff_added"), page.text
    return admin, page.path.partition("?")[0]


async def offer(admin, place, rates=LIST, **fields):
    """Show what a price list would change, and give the page that says so."""
    form = await admin.look(f"{place}/import")
    return await admin.fill(form, f"{place}/import", list=rates, **fields)


def texts(page, selector):
    return [each.get_text(" ", strip=True) for each in page.content.select(selector)]


@pytest_twisted.ensureDeferred
async def test_tariffs_are_added_changed_and_deleted(biller):
    admin, place = await tariff(biller, "retail")
    assert "retail" in (await admin.look("/ui/tariffs")).text
    refused = await admin.send("/ui/tariffs/new", name="retail", credits_per_unit="x", time_zone="UTC")
    assert (refused.status, bool(refused.error_of("credits_per_unit"))) == (422, True)
    assert (await admin.send("/ui/tariffs/new", name="retail", credits_per_unit="1", time_zone="UTC")).status == 409
    form = await admin.look(f"{place}/change")
    page = await admin.fill(form, name="shop", currency="", is_default="true")
    assert page.path == f"{place}?done=tariff_changed"
    assert page.content.h1.get_text() == "shop"
    assert "Currency none" in page.text
    assert "Default yes" in page.text
    kept = await admin.send(f"{place}/delete")
    assert (kept.status, kept.content.h1.get_text()) == (409, "Delete shop")
    await admin.fill(await admin.look(f"{place}/change"), is_default="false")
    page = await admin.fill(await admin.look(f"{place}/delete"))
    assert page.path == "/ui/tariffs?done=tariff_deleted"
    assert "shop" not in page.text
    assert (await admin.look(place)).status == 404


@pytest_twisted.ensureDeferred
async def test_price_list_is_shown_before_it_counts(biller):
    admin, place = await tariff(biller, "lists")
    before = biller.rows(tables.rate)
    page = await offer(admin, place, note="first")
    assert page.status == 200
    assert "New prices: 3" in page.text
    assert biller.rows(tables.rate) == before, "nothing is written yet"
    assert page.fields(f"{place}/import")["list"] == LIST, "it can be mended"
    made = await admin.fill(page, f"{place}/versions")
    assert made.path == f"{place}?done=version_written"
    assert texts(made, "tbody td")[1] in SOON
    assert "first" in made.text
    again = await admin.fill(page, f"{place}/versions")
    assert again.path == f"{place}?done=version_same"
    page = await offer(admin, place, "prefix,name,price,increment\n55,Brazil,11,60\n5511,São Paulo,5,30/6\n")
    assert "Changed prices: 1" in page.text
    assert "(+10%)" in page.text
    assert "Prices that are gone: 1" in page.text
    page = await offer(admin, place, "prefix,name,price,increment\n55,Brazil,11,60\n", others="stay")
    assert "Changed prices: 1" in page.text
    assert "gone:" not in page.text
    page = await offer(admin, place)
    assert "just these prices" in page.text
    assert page.content.find("form", action=f"{place}/versions") is None


@pytest_twisted.ensureDeferred
async def test_subscribers_are_shown_with_their_tariff(biller):
    admin, place = await tariff(biller, "special")
    number = int(place.rpartition("/")[2])
    assert (await admin.client.patch("/api/v1/subscribers/ana", {"tariff_id": number})).code == 200
    page = await admin.look("/ui/subscribers/ana")
    assert page.content.main.find("a", string="special")["href"] == place
    assert (await admin.client.patch("/api/v1/subscribers/ana", {"tariff_id": None})).code == 200
    assert "special" not in (await admin.look("/ui/subscribers/ana")).text


@pytest_twisted.ensureDeferred
async def test_faults_of_a_list_are_shown_by_row(biller):
    admin, place = await tariff(biller, "faults")
    rates = "prefix,price\n55,x\n1,<b>2\n"
    page = await offer(admin, place, rates)
    assert "Faults, which must be mended: 2" in page.text
    assert texts(page, "tbody td:first-child") == ["2", "3"]
    assert page.content.main.find("b") is None
    assert page.content.find("form", action=f"{place}/versions") is None
    page = await admin.send(f"{place}/versions", list=rates)
    assert (page.status, page.fields(f"{place}/import")["list"]) == (422, rates)
    assert "has no rows" in (await offer(admin, place, "")).text
    page = await offer(admin, place, at="2020-01-01T00:00")
    assert (page.status, bool(page.error_of("effective_at"))) == (422, True)
    assert (await admin.send(f"{place}/import", list="x" * 70_000)).status == 413
    assert "It has no prices yet" in (await admin.look(place)).text


@pytest_twisted.ensureDeferred
async def test_version_that_waits_can_be_withdrawn(biller):
    admin, place = await tariff(biller, "waits")
    await admin.fill(await offer(admin, place), f"{place}/versions")
    page = await admin.fill(await offer(admin, place, "prefix,price\n7,3\n", **LATER), f"{place}/versions")
    assert texts(page, "tbody td:nth-child(2)")[0] == "waits for its time"
    action = page.content.select_one("tbody form")["action"]
    page = await admin.send(action)
    assert page.path == f"{place}?done=version_withdrawn"
    states = texts(page, "tbody td:nth-child(2)")
    assert (states[0], states[1] in SOON) == ("withdrawn", True)
    assert (await admin.send(f"{place}/versions/1/withdrawal")).status == 409, "all nodes may have it already"


@pytest_twisted.ensureDeferred
async def test_rates_are_searched_paged_and_downloaded(biller):
    admin, place = await tariff(biller, "rates")
    rates = LIST + "".join(f"4{number:03},place {number},1,60\n" for number in range(60))
    await admin.fill(await offer(admin, place, rates), f"{place}/versions")
    first = f"{place}/versions/1"
    assert texts(await admin.look(f"{first}?prefix=5511"), "tbody td")[:2] == ["5511", "São Paulo"]
    assert texts(await admin.look(f"{first}?name=bra"), "tbody td:first-child") == ["55"]
    assert "No price was found." in (await admin.look(f"{first}?service=sms")).text
    refused = await admin.look(f"{first}?prefix=abc")
    assert (refused.status, bool(refused.error_of("prefix"))) == (422, True)
    page = await admin.look(f"{first}?prefix=4")
    following = await admin.look(page.content.select_one("a[rel=next]")["href"])
    found = [texts(each, "tbody td:first-child") for each in (page, following)]
    assert [len(each) for each in found] == [50, 10]
    clara = await biller.logged_in("clara")
    page = await Reader(clara).look(first)
    link = page.content.find("a", string="Prices as CSV")["href"]
    answer = await clara.get(link)
    assert header(answer, "content-type").startswith("text/csv")
    assert answer.bytes.count(b"\n") == 64
    assert (await admin.look(f"{place}/versions/9")).status == 404
