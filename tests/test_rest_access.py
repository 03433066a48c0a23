"""Who may do what: logins, sessions, tokens, levels, other sites' pages. Over real HTTP."""

from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
import sqlalchemy as sa
from resting import PASSWORD, biller_fixture, header

from celcombiller import schema
from celcombiller.credentials import FAILURES_FREE

biller = biller_fixture()


@pytest_twisted.ensureDeferred
async def test_a_login_gives_a_cookie_that_scripts_of_pages_cannot_read(biller):
    client = biller.client()
    answer = await client.log_in("admin")
    assert answer.body == {"roles": ["admin"], "displayName": "Admin", "username": "admin", "id": 1}
    cookie = header(answer, "set-cookie")
    for part in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=43200"):
        assert part in cookie
    assert "Secure" not in cookie
    assert (await client.get("/api/v1/subscribers")).code == 200
    (row,) = biller.rows(schema.session)
    assert client.cookie not in str(row)
