"""Many subscribers at once: the filters of their page, and what is done to those who are ticked."""

from urllib.parse import urlencode

import pytest_twisted

from celcombiller.core.schema import tables
from tests.support.http.api_service import biller_fixture, header
from tests.support.http.pages import Reader

biller = biller_fixture()


def names_on(page):
    return [each.get_text() for each in page.content.select("tbody a")]


@pytest_twisted.ensureDeferred
async def test_page_and_its_file_have_one_filter(biller):
    clara = Reader(await biller.logged_in("clara"))
    await clara.send("/ui/subscribers/bia/change", enabled="false")
    page = await clara.look("/ui/subscribers?search=&enabled=false&suspended=&at_zero=true&inactive_days=&done=x")
    assert names_on(page) == ["bia"]
    (link,) = page.content.select("a[href*='subscribers.csv']")
    on = header(await clara.client.get(link["href"]), "location")  # the password was given a moment ago
    assert (await clara.client.get(on)).bytes.count(b"\r\n") == 2
    assert names_on(await clara.look("/ui/subscribers?suspended=true")) == []
    page = await clara.look("/ui/subscribers?inactive_days=0")
    assert (page.status, bool(page.error_of("inactive_days"))) == (422, True)


@pytest_twisted.ensureDeferred
async def test_those_ticked_are_disabled_and_enabled(biller):
    clara = Reader(await biller.logged_in("clara"))
    boxes = (await clara.look("/ui/subscribers")).content.select("input[type=checkbox]")
    ticked = urlencode({each["name"]: each["value"] for each in boxes if each["value"] in ("ana", "bia")})
    trail = len(biller.rows(tables.trail))
    for action, enabled in (("disable", False), ("enable", True)):
        plan = await clara.look(f"/ui/subscribers/ticked/{action}?{ticked}")
        assert plan.content.h1.get_text().endswith("subscribers: 2")
        assert len(biller.rows(tables.trail)) == trail, "nothing was done yet"
        page = await clara.fill(plan, f"/ui/subscribers/ticked/{action}")
        assert "were changed" in page.text
        assert {each["username"]: each["enabled"] for each in biller.rows(tables.subscriber)} == {
            "admin": True,
            "ana": enabled,
            "bia": enabled,
            "clara": True,
        }
        trail += 2
        assert len(biller.rows(tables.trail)) == trail


@pytest_twisted.ensureDeferred
async def test_one_refused_of_those_ticked_keeps_all(biller):
    clara = Reader(await biller.logged_in("clara"))
    before = biller.rows(tables.subscriber)
    place = "/ui/subscribers/ticked/disable"
    for fields, status, reason in (
        ({"subscriber-1": "ana", "subscriber-2": "admin"}, 403, "only an administrator"),
        ({"subscriber-1": "ana", "subscriber-2": "nobody"}, 404, "no subscriber"),
        ({}, 422, "at least one"),
        ({f"subscriber-{n}": "ana" for n in range(51)}, 422, "at most 50"),
    ):
        page = await clara.send(place, **fields)
        assert (page.status, reason.lower() in page.text.lower()) == (status, True), page.text
    assert biller.rows(tables.subscriber) == before
    assert (await clara.look(place)).status == 422


LIST = "username,clid,imsi,name,enabled\r\neva,2002,724000000002002,Eva,\r\nivo,2003,724000000002003,Ivo Sá,no\r\n"
IMPORT = "/ui/subscribers/new/import"


@pytest_twisted.ensureDeferred
async def test_list_is_shown_and_then_added_whole(biller):
    clara = Reader(await biller.logged_in("clara"))
    before = biller.everything()
    page = await clara.send(IMPORT, list=LIST)
    assert "New subscribers: 2" in page.text
    assert biller.everything() == before
    page = await clara.fill(page, IMPORT)
    assert "were added" in page.text
    added = {each["username"]: (each["name"], each["enabled"]) for each in biller.rows(tables.subscriber)[4:]}
    assert added == {"eva": ("Eva", True), "ivo": ("Ivo Sá", False)}
    assert [each["subject"] for each in biller.rows(tables.trail)[-2:]] == ["subscriber:eva", "subscriber:ivo"]


@pytest_twisted.ensureDeferred
async def test_list_with_a_fault_adds_nobody(biller):
    clara = Reader(await biller.logged_in("clara"))
    before = biller.everything()
    rows = "ana,2004,724000000002004,Taken,0\n" + "leo,20x,724000000002005,Leo,1\n" + "rui,2006,724000000002006,Rui\n"
    faulty = LIST + rows
    page = await clara.send(IMPORT, list=faulty)
    assert [row.td.get_text() for row in page.content.table.select("tbody tr")] == ["4", "5", "6"]
    assert "sure" not in page.fields(IMPORT)
    refused = await clara.send(IMPORT, list=faulty, sure="true")
    assert (refused.status, "3 faults" in refused.text) == (422, True)
    assert refused.fields()["list"] == faulty, "it is still there to be mended"
    staff = await clara.send(IMPORT, list="username,clid,imsi,name,level\nzoe,2007,724000000002007,Zoe,0\n")
    assert "only an administrator" in staff.text
    assert (await clara.send(IMPORT, list="no,such,columns\n")).status == 422
    long = LIST.splitlines()[0] + "".join(f"\nu{n},{n},724000000{n:06},U,1" for n in range(501))
    assert "500 rows" in (await clara.send(IMPORT, list=long)).text
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_tabs_lead_to_all_of_one_subscriber(biller):
    clara, admin = [Reader(await biller.logged_in(name)) for name in ("clara", "admin")]
    for n, kind in enumerate(("voice", "data", "voice")):
        body = {"username": "ana", "kind": kind, "value": n + 1, "note": f"n{n}"}
        await clara.client.post("/api/v1/transfers", body, headers={"Idempotency-Key": f"k{n}"})
    links = {each["href"] for each in (await admin.look("/ui/subscribers/ana")).content.select("nav.tabs a")}
    assert len(links) == 8
    for each in links:
        assert (await admin.look(each)).status == 200, each
    assert len((await clara.look("/ui/subscribers/ana")).content.select("nav.tabs a")) == 7
    first = await clara.look("/ui/subscribers/ana/statement?kind=voice&limit=1")
    assert "n2" in first.text
    second = await clara.look(first.content.select_one("a[rel=next]")["href"])
    assert ("n0" in second.text, "n1" in second.text) == (True, False)
    assert (await clara.look("/ui/subscribers/nobody/statement")).status == 404
    refused = await clara.look("/ui/subscribers/ana/statement?since=yesterday")
    assert (refused.status, bool(refused.error_of("since"))) == (422, True)
