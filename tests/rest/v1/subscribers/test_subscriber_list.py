"""The list of subscribers: its filters, each cheap for one subscriber, and the same list as a file."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
import sqlalchemy as sa

from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_filters
from celcombiller.database.transaction import transact
from celcombiller.rest.v1 import subscribers
from tests.rest.v1.test_transfers import refused
from tests.support.http.api_service import biller_fixture
from tests.support.query_plans import plans_of, record_calls

biller = biller_fixture()
SUBSCRIBER = tables.subscriber
KEY = {"Idempotency-Key": "five"}


def set_columns(biller, username, **values):
    which = SUBSCRIBER.c.username == username
    transact(biller.engine, lambda tx: tx.execute(sa.update(SUBSCRIBER).where(which).values(**values)))


async def names(client, query):
    return [each["username"] for each in (await client.get(f"/api/v1/subscribers?{query}")).body["items"]]


@pytest_twisted.ensureDeferred
async def test_subscribers_are_filtered_by_state_and_credit(biller):
    clara = await biller.logged_in("clara")
    assert set(await names(clara, "at_zero=true")) == {"admin", "ana", "bia", "clara"}
    await clara.post("/api/v1/transfers", {"username": "bia", "kind": "voice", "value": 5}, headers=KEY)
    assert "bia" not in await names(clara, "at_zero=true")
    assert await names(clara, "at_zero=false") == ["bia"]
    set_columns(biller, "ana", suspended_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert await names(clara, "suspended=true") == ["ana"]
    assert "ana" not in await names(clara, "suspended=false")
    set_columns(biller, "ana", suspended_at=None)  # they owe nothing, which the audit would find
    await clara.patch("/api/v1/subscribers/ana", {"enabled": False})
    assert await names(clara, "enabled=false") == ["ana"]
    refused(await clara.get("/api/v1/subscribers?inactive_days=0"), 422, "INVALID")


@pytest_twisted.ensureDeferred
async def test_calls_and_youth_count_as_activity(biller):
    clara = await biller.logged_in("clara")
    assert await names(clara, "inactive_days=30") == []
    for username in ("ana", "bia"):
        set_columns(biller, username, created_at=datetime(2020, 1, 1, tzinfo=UTC))

    def call(tx):
        account = tables.account.c
        (ana,) = tx.execute(
            sa.select(SUBSCRIBER.c.id, account.id)
            .join_from(SUBSCRIBER, tables.account)
            .where(SUBSCRIBER.c.username == "ana", account.kind == "voice")
        )
        record_calls(tx, 25, subscribers=[ana])
        tx.execute(sa.delete(tables.call).where(tables.call.c.state == "open"))
        tx.execute(sa.update(tables.call).values(started_at=datetime.now(UTC) - timedelta(days=29)))

    assert await names(clara, "inactive_days=30") == ["ana", "bia"]
    transact(biller.engine, call)
    assert await names(clara, "inactive_days=30") == ["bia"]
    assert await names(clara, "inactive_days=28") == ["ana", "bia"]
    biller.empty(tables.call)  # they cost nothing, which the audit would find


@pytest_twisted.ensureDeferred
async def test_file_of_subscribers_follows_the_filter(biller, monkeypatch):
    monkeypatch.setattr(subscribers, "PIECE_ROWS", 1)
    clara = await biller.logged_in("clara")
    await clara.patch("/api/v1/subscribers/bia", {"name": "=1+1", "allowed": ["55", "1"], "enabled": False})
    answer = await clara.get("/api/v1/subscribers.csv")
    first, *rows = csv.reader(io.StringIO(answer.bytes.decode(), newline=""))
    cells = [dict(zip(first, row, strict=True)) for row in rows]
    assert [each["username"] for each in cells] == ["admin", "ana", "bia", "clara"]
    bia = cells[2]
    assert (bia["name"], bia["allowed"], bia["enabled"], bia["voice_available"]) == ("'=1+1", "55 1", "false", "0")
    assert (await clara.get("/api/v1/subscribers.csv?enabled=false")).bytes.count(b"\r\n") == 2
    refused(await clara.get("/api/v1/subscribers.csv?limit=5"), 422, "INVALID")
    refused(await (await biller.logged_in("ana")).get("/api/v1/subscribers.csv"), 403, "FORBIDDEN")


@pytest.mark.parametrize(
    "condition",
    [subscriber_filters.is_at_zero(), subscriber_filters.is_inactive_since(datetime(2026, 1, 1, tzinfo=UTC))],
    ids=["at_zero", "inactive"],
)
def test_filter_of_history_uses_its_index(biller, condition):
    asked = sa.select(SUBSCRIBER).where(condition).order_by(SUBSCRIBER.c.id).limit(51)
    lines = "\n".join(plans_of(biller.engine, lambda tx: tx.execute(asked)))
    assert "subscriber_id=?" in lines
    for table in ("account", "call", "message"):
        assert f"SCAN {table}" not in lines
