"""A text to a group on pages: a second look before it is sent, once. Over real HTTP."""

from urllib.parse import urlencode

import pytest_twisted

from celcombiller.config.tables import Asterisk, Sms
from celcombiller.core.schema import tables
from tests.support.http.api_service import Biller
from tests.support.http.pages import Reader

NOWHERE = Asterisk(name="pbx1", host="127.0.0.1", port=1, username="biller", secret="nothing")
NEW, PLAN, SENT = "/ui/broadcasts/new", "/ui/broadcasts/plan", "/ui/broadcasts"
TEXT = "The network is off\non Sunday."


@pytest_twisted.async_yield_fixture
async def biller(tmp_path):
    made = Biller(tmp_path, {}, "", sms=Sms(on_net_route="asterisk"), asterisk=(NOWHERE,))
    admin = await made.logged_in("admin")
    assert (await admin.post("/api/v1/groups", {"name": "village"})).code == 201
    for username in ("ana", "bia"):
        assert (await admin.patch(f"/api/v1/subscribers/{username}", {"group_id": 1})).code == 200
    yield made
    await made.stop()


async def plan(reader, text=TEXT):
    return await reader.look(f"{PLAN}?{urlencode({'group_id': 1, 'text': text})}")


@pytest_twisted.ensureDeferred
async def test_a_group_leads_to_its_broadcast(biller):
    clara = Reader(await biller.logged_in("clara"))
    links = {each["href"] for each in (await clara.look("/ui/groups/1")).content.find_all("a")}
    assert f"{NEW}?group_id=1" in links
    form = await clara.look(f"{NEW}?group_id=1")
    assert form.fields(PLAN) == {"group_id": "1", "text": ""}
    assert f"{NEW}" in {each["href"] for each in (await clara.look("/ui/messages")).content.find_all("a")}


@pytest_twisted.ensureDeferred
async def test_the_second_look_sends_once(biller):
    clara = Reader(await biller.logged_in("clara"))
    page = await plan(clara, "x" * 161)
    assert "Recipients 2" in page.text
    assert "Parts of each message 2 Parts in all, which the operator pays 4 Credits that members pay 0" in page.text
    assert biller.rows(tables.broadcast) == []
    sent = [await clara.fill(page, SENT) for _ in range(2)]
    assert [each.path.partition("?")[0] for each in sent] == ["/ui/broadcasts/1"] * 2
    assert len(biller.rows(tables.broadcast)) == 1
    assert "village" in (await clara.look(SENT)).text


@pytest_twisted.ensureDeferred
async def test_lines_of_a_text_are_kept(biller):
    clara = Reader(await biller.logged_in("clara"))
    sent = await clara.fill(await plan(clara), SENT)
    assert sent.status == 200
    assert [each["text"] for each in biller.rows(tables.broadcast)] == [TEXT]


@pytest_twisted.ensureDeferred
async def test_a_broadcast_is_cancelled_by_a_button(biller):
    clara = Reader(await biller.logged_in("clara"))
    await clara.fill(await plan(clara), SENT)
    page = await clara.send("/ui/broadcasts/1/cancellation")
    assert "No more of it is sent" in page.text
    assert "State cancelled" in page.text
    assert page.content.find("form", class_="action", action="/ui/broadcasts/1/cancellation") is None
    assert (await clara.send("/ui/broadcasts/9/cancellation")).status == 404


@pytest_twisted.ensureDeferred
async def test_a_refused_text_stays_in_its_form(biller):
    clara = Reader(await biller.logged_in("clara"))
    page = await plan(clara, "x" * 5000)
    assert (page.status, page.path.partition("?")[0]) == (422, PLAN)
    assert "short messages" in page.error_of("text")
    assert page.fields(PLAN) == {"group_id": "1", "text": "x" * 5000}
    assert (await plan(clara, "")).error_of("text")
    assert biller.rows(tables.broadcast) == []
