"""Logging in with a second factor: by pages and by the API. Over real HTTP."""

import re
from datetime import UTC, datetime, timedelta

import pyotp
import pytest_twisted

from tests.support.http.api_service import PASSWORD, biller_fixture
from tests.support.http.pages import Reader

biller = biller_fixture()
strict_biller = biller_fixture(second_factor="staff")


async def set_up(reader):
    """Set a second factor by the page, and return its secret and the recovery codes."""
    page = await reader.look("/ui/second-factor/new")
    secret = page.content.find("code").get_text()
    wrong = await reader.fill(page, "/ui/second-factor/new", code="000000")
    assert wrong.status == 403
    assert wrong.content.find("code").get_text() == secret
    page = await reader.fill(wrong, "/ui/second-factor/new", code=pyotp.TOTP(secret).now())
    codes = [each.get_text() for each in page.content.select("ul.codes code")]
    assert len(codes) == 10
    return secret, codes


@pytest_twisted.ensureDeferred
async def test_login_needs_the_code_and_keeps_the_way(biller):
    _, codes = await set_up(Reader(await biller.logged_in("clara")))
    reader = Reader(biller.client())
    page = await reader.send("/ui/login", username="clara", password=PASSWORD, next="/ui/subscribers")
    assert page.content.find("input", {"name": "code"})
    assert (await reader.look("/ui/subscribers")).path.startswith("/ui/login"), "the password alone opens nothing"
    refused = await reader.fill(page, "/ui/login/code", code="123456")
    assert refused.status == 403
    page = await reader.fill(page, "/ui/login/code", code=codes[0])
    assert (page.status, page.path) == (200, "/ui/subscribers")
    await (await biller.logged_in("admin")).delete("/api/v1/subscribers/clara/second-factor")


@pytest_twisted.ensureDeferred
async def test_programs_send_the_code_with_the_password(biller):
    secret, codes = await set_up(Reader(await biller.logged_in("ana")))
    client = biller.client()
    body = {"username": "ana", "password": PASSWORD}
    needed = await client.post("/login", body)
    wrong = await client.post("/login", body | {"code": "000000"})
    used = await client.post("/login", body | {"code": pyotp.TOTP(secret).at(datetime.now(UTC) - timedelta(hours=1))})
    right = await client.post("/login", body | {"code": codes[1]})
    again = await client.post("/login", body | {"code": codes[1]})
    assert [each.code for each in (needed, wrong, used, right, again)] == [403, 403, 403, 200, 403]
    assert re.search("code", needed.body["message"])
    admin = await biller.logged_in("admin")
    assert (await admin.delete("/api/v1/subscribers/ana/second-factor")).code == 204
    assert (await client.post("/login", body)).code == 200


@pytest_twisted.ensureDeferred
async def test_required_factor_keeps_staff_out(strict_biller):
    client = strict_biller.client()
    assert (await client.post("/login", {"username": "admin", "password": PASSWORD})).code == 403
    assert (await client.post("/login", {"username": "ana", "password": PASSWORD})).code == 200
