"""The way in: the login, an ended session, and addresses without a page. Over real HTTP."""

import pytest_twisted

from tests.support.http.api_service import PASSWORD, biller_fixture, header
from tests.support.http.pages import Reader

biller = biller_fixture()
few_unknown = biller_fixture(unknown_credentials_max=1)
NEW = {"username": "eva", "name": "Eva", "clid": "5511970000001", "imsi": "724050000000009"}


@pytest_twisted.ensureDeferred
async def test_browsers_are_sent_to_the_console(biller):
    client = biller.client()
    browser = await client.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    program = await client.get("/", headers={"Accept": "*/*"})
    assert (browser.code, header(browser, "location")) == (302, "/ui/")
    assert program.code == 401
    assert "message" in program.body


@pytest_twisted.ensureDeferred
async def test_login_leads_to_the_page_wanted(biller):
    reader = Reader(biller.client())
    page = await reader.look("/ui/subscribers?username=ana")
    assert page.path.startswith("/ui/login")
    page = await reader.fill(page, "/ui/login", username="admin", password=PASSWORD)
    assert (page.status, page.path) == (200, "/ui/subscribers?username=ana")
    assert "Ana" in page.text or "ana" in page.text


@pytest_twisted.ensureDeferred
async def test_wrong_password_stays_at_the_login(biller):
    reader = Reader(biller.client())
    page = await reader.send("/ui/login", username="admin", password="wrong", next="")
    assert page.status == 422
    assert page.error_of("password")
    assert page.fields("/ui/login")["username"] == "admin"


@pytest_twisted.ensureDeferred
async def test_number_is_a_username_at_login(biller):
    clid = (await (await biller.logged_in("admin")).get("/api/v1/subscribers/ana")).body["clid"]
    for number in (clid, f"+{clid}", f"00{clid}"):
        page = await Reader(biller.client()).send("/ui/login", username=number, password=PASSWORD, next="")
        assert page.path == "/ui/me", number
    for number in (clid, "9" * 15, "0" * 200, "*", ""):
        page = await Reader(biller.client()).send("/ui/login", username=number, password="wrong", next="")
        assert page.status == 422, number


@pytest_twisted.ensureDeferred
async def test_guesses_by_name_and_number_count_together(biller):
    clid = (await (await biller.logged_in("admin")).get("/api/v1/subscribers/bia")).body["clid"]
    guesser = Reader(biller.client())
    pages = [await guesser.send("/ui/login", username=each, password="wrong") for each in ("bia", clid) * 4]
    assert [each.status for each in pages[:5]] == [422] * 5
    assert 429 in [each.status for each in pages[5:]]


@pytest_twisted.ensureDeferred
async def test_page_says_when_to_try_again(biller, few_unknown):
    guesser = Reader(biller.client())
    pages = [await guesser.send("/ui/login", username="nobody", password="wrong") for _ in range(7)]
    assert pages[0].headers.getRawHeaders("retry-after") is None
    assert int(header(pages[-1], "retry-after")) >= 1
    forger = Reader(few_unknown.client())
    forger.client.cookie = "forged"
    pages = [await forger.look("/ui/subscribers") for _ in range(20)]
    assert {header(each, "retry-after") for each in pages if each.status == 503} == {"1"}


@pytest_twisted.ensureDeferred
async def test_own_language_is_that_of_pages(biller):
    bia = Reader(await biller.logged_in("bia"))
    assert (await bia.look("/ui/me")).content.html["lang"] == "en"
    page = await bia.fill(await bia.look("/ui/me/password"), "/ui/me/language", language="pt_BR")
    assert "Seu idioma foi alterado." in page.text
    assert page.content.html["lang"] == "pt-BR"
    refused = await bia.send("/ui/me/language", language="xx")
    assert (refused.status, bool(refused.error_of("language"))) == (422, True)
    page = await bia.send("/ui/me/language", language="")
    assert page.content.html["lang"] == "en"


@pytest_twisted.ensureDeferred
async def test_login_sends_to_no_other_site(biller):
    for where in ("https://other.example/ui/", "//other.example", "/ui/\\other.example", "javascript:1"):
        reader = Reader(biller.client())
        page = await reader.send("/ui/login", username="admin", password=PASSWORD, next=where)
        assert page.path == "/ui/start"


@pytest_twisted.ensureDeferred
async def test_form_of_ended_session_is_kept(biller):
    reader = Reader(biller.client())
    page = await reader.send("/ui/subscribers/new", **NEW, password="correct horse battery")
    assert page.status == 401
    assert "correct horse battery" not in str(page.content)
    page = await reader.fill(page, "/ui/login", username="admin", password=PASSWORD)
    page = await reader.fill(page, "/ui/subscribers/new")
    assert page.path == "/ui/subscribers/eva?done=subscriber_added"


@pytest_twisted.ensureDeferred
async def test_refused_form_says_why_beside_fields(biller):
    reader = Reader(await biller.logged_in("admin"))
    page = await reader.send("/ui/subscribers/new", **NEW | {"clid": "x", "username": "filo"})
    assert page.status == 422
    assert page.error_of("clid")
    assert not page.error_of("name")
    assert page.fields("/ui/subscribers/new")["username"] == "filo"


@pytest_twisted.ensureDeferred
async def test_unknown_page_is_a_page(biller):
    page = await Reader(await biller.logged_in("admin")).look("/ui/nothing/here")
    assert page.status == 404
    assert "no such page" in page.text


@pytest_twisted.ensureDeferred
async def test_page_of_other_site_sends_no_form(biller):
    client = await biller.logged_in("admin")
    raw, kind = b"username=eve&name=Eve&clid=1&imsi=2", "application/x-www-form-urlencoded"
    headers = {"Origin": "https://other.example", "Content-Type": kind}
    answer = await client.post("/ui/subscribers/new", raw=raw, headers=headers)
    assert answer.code == 403
    assert b"<!doctype html>" in answer.bytes
