"""Groups on pages: made, changed, with members, deleted when empty. Over real HTTP."""

import pytest_twisted

from tests.support.http.api_service import biller_fixture
from tests.support.http.pages import Reader

biller = biller_fixture()
NEW = "/ui/groups/new"


async def made(admin, name, **fields):
    page = await admin.fill(await admin.look(NEW), name=name, **fields)
    assert "done=group_added" in page.path, page.text
    return page.path.partition("?")[0]


@pytest_twisted.ensureDeferred
async def test_group_is_made_and_changed(biller):
    admin = Reader(await biller.logged_in("admin"))
    tariff = (await admin.client.post("/api/v1/tariffs", {"name": "retail"})).body["id"]
    place = await made(admin, "pupils", calls_max="3", barred="900, 55900", tariff_id=str(tariff))
    page = await admin.look(place)
    assert "retail" in page.text
    assert "900 55900" in page.text
    form = await admin.look(f"{place}/change")
    refused = await admin.fill(form, f"{place}/change", calls_max="many", allowed="x")
    assert (refused.status, bool(refused.error_of("calls_max")), bool(refused.error_of("allowed"))) == (422, True, True)
    assert refused.fields(f"{place}/change")["calls_max"] == "many"
    page = await admin.fill(form, f"{place}/change", name="students", calls_max="", barred="", tariff_id="")
    assert page.path == f"{place}?done=group_changed"
    shown = (await admin.client.get(f"/api/v1{place.removeprefix('/ui')}")).body
    facts = {name: shown[name] for name in ("name", "calls_max", "barred", "tariff_id")}
    assert facts == {"name": "students", "calls_max": None, "barred": [], "tariff_id": None}
    taken = await admin.fill(await admin.look(NEW), name="students")
    assert (taken.status, bool(taken.error_of("name"))) == (409, True)


@pytest_twisted.ensureDeferred
async def test_group_with_members_is_not_deleted(biller):
    admin, clara = [Reader(await biller.logged_in(name)) for name in ("admin", "clara")]
    place = await made(admin, "village")
    for username, status in (("", 422), ("nobody", 404)):
        page = await clara.fill(await clara.look(place), f"{place}/members", username=username)
        assert (page.status, page.content.h1.get_text()) == (status, "village"), username
    page = await clara.fill(await clara.look(place), f"{place}/members", username="bia")
    assert "bia Bia 1003" in page.text
    refused = await admin.send(f"{place}/delete")
    assert refused.status == 409
    assert refused.content.find(attrs={"role": "alert"})
    for _ in range(2):
        page = await clara.send(f"{place}/members/bia/removal")
        assert page.path == f"{place}?done=member_removed"
    assert "There is no member yet." in page.text
    assert (await clara.send(f"{place}/delete")).status == 403
    page = await admin.send(f"{place}/delete")
    assert page.path == "/ui/groups?done=group_deleted"
    assert (await admin.look(place)).status == 404
