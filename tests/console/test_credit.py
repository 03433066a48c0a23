"""Credit on pages: given once, refused with a reason, seen by its owner. Over real HTTP."""

from urllib.parse import urlencode

import pytest_twisted

from celcombiller.config.tables import Sellers
from tests.support.http.api_service import biller_fixture
from tests.support.http.pages import Reader, voice_of

biller = biller_fixture(sections={"sellers": Sellers(denominations=(600, 3600))})


CREDIT = "/ui/subscribers/ana/transfers"


async def plan(reader, username="ana", **fields):
    """Look at what a credit would do."""
    given = {"kind": "voice", "note": ""} | fields
    return await reader.look(f"/ui/subscribers/{username}/credit/plan?{urlencode(given)}")


@pytest_twisted.ensureDeferred
async def test_form_sent_twice_credits_once(biller):
    reader = Reader(await biller.logged_in("clara"))
    before = await voice_of(biller, "ana")
    form = await plan(reader, value="60", note="in cash")
    assert f"Balance after it {before + 60:,}" in form.text
    assert await voice_of(biller, "ana") == before, "nothing moved yet"
    receipts = {(await reader.fill(form, CREDIT)).path for _ in range(2)}  # a second tap, and the back button
    assert len(receipts) == 1
    assert receipts.pop().startswith("/ui/receipts/office-")
    assert await voice_of(biller, "ana") == before + 60
    await reader.fill(await plan(reader, value="60", note="in cash"), CREDIT)
    assert await voice_of(biller, "ana") == before + 120


@pytest_twisted.ensureDeferred
async def test_credit_taken_back_is_a_movement(biller):
    reader = Reader(await biller.logged_in("clara"))
    await reader.fill(await plan(reader, value="60"), CREDIT)
    before = await voice_of(biller, "ana")
    form = await plan(reader, value="-20")
    assert "Take 20 credits" in form.text
    page = await reader.fill(form, CREDIT)
    assert page.path.startswith("/ui/transfers/")
    assert await voice_of(biller, "ana") == before - 20
    assert (await plan(reader, value="-999999999")).status == 409
    assert (await reader.fill(await plan(reader, kind="sms", value="5"), CREDIT)).path.startswith("/ui/transfers/")


@pytest_twisted.ensureDeferred
async def test_a_movement_with_receipt_leads_to_it(biller):
    reader = Reader(await biller.logged_in("clara"))
    receipt = (await reader.fill(await plan(reader, value="60"), CREDIT)).path.partition("?")[0]
    place = (await reader.look("/ui/subscribers/ana")).content.select_one("tbody a")["href"]
    movement = await reader.look(place)
    assert movement.content.find("a", href=receipt) is not None
    assert movement.content.find("form", action=f"{place}/reversal") is None, "its receipt is undone in its place"
    await reader.fill(await plan(reader, kind="sms", value="5"), CREDIT)
    place = (await reader.look("/ui/subscribers/ana")).content.select_one("tbody a")["href"]
    assert (await reader.look(place)).content.find("form", action=f"{place}/reversal") is not None


@pytest_twisted.ensureDeferred
async def test_refused_amount_moves_nothing_and_is_kept(biller):
    reader = Reader(await biller.logged_in("clara"))
    before = await voice_of(biller, "ana")
    for value in ("", "0", "1.5", "x", "9" * 30):
        page = await plan(reader, value=value, note="for <b>Ana</b>")
        assert page.status == 422, value
        assert page.error_of("value"), value
        fields = page.fields("/ui/subscribers/ana/credit/plan")
        assert fields == {"kind": "voice", "value": value, "note": "for <b>Ana</b>"}
        assert page.content.main.find("b") is None
        assert (await reader.send(CREDIT, kind="voice", value=value, idempotency_key=f"k{value}")).status == 422
    assert await voice_of(biller, "ana") == before


@pytest_twisted.ensureDeferred
async def test_denominations_are_one_tap_away(biller):
    reader = Reader(await biller.logged_in("clara"))
    page = await reader.look("/ui/subscribers/ana/credit")
    taps = page.content.select(".choices a")
    assert [each.get_text() for each in taps] == ["10 min", "60 min"]
    assert "Give 600 credits" in (await reader.look(taps[0]["href"])).text


@pytest_twisted.ensureDeferred
async def test_subscribers_see_their_own_credit(biller):
    clara = Reader(await biller.logged_in("clara"))
    form = await plan(clara, "bia", value="1234567", note="<script>alert(1)</script>")
    await clara.fill(form, "/ui/subscribers/bia/transfers")
    bia, ana = [Reader(await biller.logged_in(name)) for name in ("bia", "ana")]
    page = await bia.look("/ui/")
    assert page.path == "/ui/me"
    assert "1,234,567" in page.text
    assert "<script>alert(1)</script>" in page.text, "as text"
    assert page.content.main.find("script") is None
    assert "1,234,567" in (await bia.look("/ui/me/statement")).text
    assert "1,234,567" not in (await ana.look("/ui/me")).text


@pytest_twisted.ensureDeferred
async def test_pages_without_anything_say_so(biller):
    ana, admin = [Reader(await biller.logged_in(name)) for name in ("ana", "admin")]
    assert "No call was found." in (await ana.look("/ui/me/calls")).text
    assert "No message was found." in (await ana.look("/ui/me/messages")).text
    assert "No call is in progress." in (await admin.look("/ui/live")).text
    assert "No call was found." in (await admin.look("/ui/calls?username=ana&since=2026-11-29")).text


@pytest_twisted.ensureDeferred
async def test_wrong_filter_shows_the_page_with_reason(biller):
    admin = Reader(await biller.logged_in("admin"))
    for path in ("/ui/calls?since=yesterday", "/ui/subscribers?cursor=zzz", "/ui/calls?username=unknown"):
        page = await admin.look(path)
        assert page.status in (400, 404, 422), path
        assert page.content.find(attrs={"role": "alert"}), path
