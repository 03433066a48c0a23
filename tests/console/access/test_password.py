"""Exports and large credits ask for the password again, and what was being done goes on. Over real HTTP."""

from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
import sqlalchemy as sa

from celcombiller.core.schema import tables
from tests.support.http.api_service import PASSWORD, biller_fixture, header
from tests.support.http.pages import Reader, voice_of

biller = biller_fixture(large_credit=1000)
EXPORTS = ("subscribers", "calls", "settlements", "reports/days", "reports/sellers", "reports/trunks")
KEY = {"Idempotency-Key": "large"}


async def long_logged_in(biller, username):
    """Give a client that gave its password an hour ago."""
    client = await biller.logged_in(username)
    with biller.engine.begin() as tx:
        tx.execute(sa.update(tables.session).values(password_at=datetime.now(UTC) - timedelta(hours=1)))
    return client


@pytest_twisted.ensureDeferred
async def test_large_credit_waits_for_the_password(biller):
    clara = Reader(await long_logged_in(biller, "clara"))
    before = await voice_of(biller, "ana")
    plan = await clara.look("/ui/subscribers/ana/credit/plan?kind=voice&value=1000")
    asked = await clara.fill(plan, "/ui/subscribers/ana/transfers")
    assert (asked.status, await voice_of(biller, "ana")) == (403, before)
    wrong = await clara.fill(asked, "/ui/password", current_password="wrong")
    assert (wrong.status, bool(wrong.error_of("current_password"))) == (422, True)
    assert wrong.fields("/ui/password") == asked.fields("/ui/password")
    for _ in range(2):
        page = await clara.fill(wrong, "/ui/password", current_password=PASSWORD)
        assert page.status == 200, page.text
        assert await voice_of(biller, "ana") == before + 1000
    trail = await (await biller.logged_in("admin")).get("/api/v1/trail?subject=subscriber:clara")
    assert "give password again" in [each["action"] for each in trail.body["items"]]


@pytest_twisted.ensureDeferred
async def test_small_credit_asks_for_nothing(biller):
    clara = Reader(await long_logged_in(biller, "clara"))
    before = await voice_of(biller, "bia")
    plan = await clara.look("/ui/subscribers/bia/credit/plan?kind=voice&value=999")
    await clara.fill(plan, "/ui/subscribers/bia/transfers")
    assert await voice_of(biller, "bia") == before + 999


@pytest_twisted.ensureDeferred
async def test_file_waits_for_the_password(biller):
    client = await long_logged_in(biller, "clara")
    clara = Reader(client)
    link = (await clara.look("/ui/subscribers?username=ana")).content.find("a", string="These subscribers as CSV")[
        "href"
    ]
    page = await clara.fill(await clara.look(link), "/ui/password", current_password=PASSWORD)
    file = await client.get(page.content.find("a", string="Save the file")["href"])
    assert (file.code, b"ana" in file.bytes, b"bia" in file.bytes) == (200, True, False)
    assert header(await client.get(link), "location") == "/api/v1/subscribers.csv?username=ana"


@pytest.mark.parametrize("name", EXPORTS)
@pytest_twisted.ensureDeferred
async def test_exports_need_a_recent_password(biller, name):
    client = await long_logged_in(biller, "admin")
    refused = await client.get(f"/api/v1/{name}.csv")
    assert (refused.code, refused.body["code"]) == (403, "PASSWORD_NEEDED")
    assert (await client.post("/api/v1/me/password-check", {"current_password": PASSWORD})).code == 204
    assert (await client.get(f"/api/v1/{name}.csv")).code == 200


@pytest_twisted.ensureDeferred
async def test_all_large_movements_need_a_recent_password(biller):
    client = await long_logged_in(biller, "admin")
    await client.post("/api/v1/sellers", {"username": "bia"}, headers=KEY)
    for path, body in (
        ("/api/v1/transfers", {"username": "ana", "kind": "voice", "value": 1000}),
        ("/api/v1/sellers/bia/refills", {"amount": 1000}),
        ("/api/v1/voucher-batches", {"name": "cards", "cards": 10, "kind": "voice", "value": 100}),
        ("/api/v1/schedules", {"name": "gift", "kind": "voice", "value": 1000, "day": 1}),
    ):
        refused = await client.post(path, body, headers=KEY)
        assert (refused.code, refused.body["code"]) == (403, "PASSWORD_NEEDED"), path
    refused = await client.patch("/api/v1/subscribers/ana/accounts/voice", {"credit_limit": 1000})
    assert refused.body["code"] == "PASSWORD_NEEDED"


@pytest_twisted.ensureDeferred
async def test_tokens_and_own_data_ask_for_nothing(biller):
    admin = await biller.logged_in("admin")
    token = (await admin.post("/api/v1/tokens", {"username": "admin", "name": "t", "scopes": ["admin"]})).body
    client = biller.client()
    client.bearer = token["secret"]
    order = {"username": "bia", "kind": "sms", "value": 2000}
    assert (await client.post("/api/v1/transfers", order, headers=KEY)).code == 201
    assert (await client.get("/api/v1/subscribers.csv")).code == 200
    assert (await client.post("/api/v1/me/password-check", {"current_password": PASSWORD})).code == 403
    ana = await long_logged_in(biller, "ana")
    assert (await ana.get("/api/v1/calls.csv")).code == 200


@pytest_twisted.ensureDeferred
async def test_guesses_here_count_as_failed_logins(biller):
    reader = Reader(await long_logged_in(biller, "clara"))
    pages = [await reader.send("/ui/password", current_password="wrong", next="") for _ in range(7)]
    assert [each.status for each in pages[:5]] == [422] * 5
    assert pages[-1].status == 429
    login = await Reader(biller.client()).send("/ui/login", username="clara", password=PASSWORD)
    assert login.status == 429
    assert int(header(login, "retry-after")) > 0


@pytest_twisted.ensureDeferred
async def test_password_leads_to_no_other_site(biller):
    admin = Reader(await biller.logged_in("admin"))
    for where in ("https://other.example/ui/", "//other.example", "/ui/\\other.example"):
        page = await admin.send("/ui/password", current_password=PASSWORD, next=where)
        assert page.path == "/ui/start"
