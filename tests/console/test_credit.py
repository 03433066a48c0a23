"""Credit on pages: given once, refused with a reason, seen by its owner. Over real HTTP."""

import pytest_twisted

from tests.support.http.api_service import biller_fixture
from tests.support.http.pages import Reader, voice_of

biller = biller_fixture()


@pytest_twisted.ensureDeferred
async def test_form_sent_twice_credits_once(biller):
    reader = Reader(await biller.logged_in("clara"))
    form = await reader.look("/ui/subscribers/ana/credit")
    before = await voice_of(biller, "ana")
    for _ in range(2):  # a second tap, and the back button
        page = await reader.fill(form, "/ui/subscribers/ana/transfers", value="60")
        assert page.path == "/ui/subscribers/ana?done=credit_given"
    assert await voice_of(biller, "ana") == before + 60
    fresh = await reader.look("/ui/subscribers/ana/credit")
    await reader.fill(fresh, "/ui/subscribers/ana/transfers", value="60")
    assert await voice_of(biller, "ana") == before + 120


@pytest_twisted.ensureDeferred
async def test_refused_amount_moves_nothing_and_keeps_key(biller):
    reader = Reader(await biller.logged_in("clara"))
    form = await reader.look("/ui/subscribers/ana/credit")
    before = await voice_of(biller, "ana")
    for value in ("", "0", "1.5", "x", "9" * 30):
        page = await reader.fill(form, "/ui/subscribers/ana/transfers", value=value, note="for <b>Ana</b>")
        assert page.status == 422, value
        assert page.error_of("value"), value
        assert page.fields("/ui/subscribers/ana/transfers") == {
            "idempotency_key": form.fields("/ui/subscribers/ana/transfers")["idempotency_key"],
            "kind": "voice",
            "value": value,
            "note": "for <b>Ana</b>",
        }
        assert page.content.main.find("b") is None
    assert await voice_of(biller, "ana") == before


@pytest_twisted.ensureDeferred
async def test_subscribers_see_their_own_credit(biller):
    clara = Reader(await biller.logged_in("clara"))
    form = await clara.look("/ui/subscribers/bia/credit")
    await clara.fill(form, "/ui/subscribers/bia/transfers", value="1234567", note="<script>alert(1)</script>")
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
