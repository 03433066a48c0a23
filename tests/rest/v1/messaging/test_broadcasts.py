"""Broadcasts by the API: what is planned, what is sent once, how far it is, and what is refused."""

from datetime import UTC, datetime

import pytest
import pytest_twisted

from celcombiller.config.tables import Asterisk, Sms
from celcombiller.core.schema import tables
from celcombiller.jobs.notices import broadcasts as jobs
from tests.support.http.api_service import Biller

NOWHERE = Asterisk(name="pbx1", host="127.0.0.1", port=1, username="x", secret="x")
TEXT = "The network is off on Sunday."


@pytest_twisted.async_yield_fixture(params=["asterisk"])
async def biller(request, tmp_path):
    made = Biller(tmp_path, {}, "", sms=Sms(on_net_route=request.param, on_net_price=3), asterisk=(NOWHERE,))
    admin = await made.logged_in("admin")
    assert (await admin.post("/api/v1/groups", {"name": "village"})).code == 201
    for username in ("ana", "bia", "clara"):
        assert (await admin.patch(f"/api/v1/subscribers/{username}", {"group_id": 1})).code == 200
    assert (await admin.patch("/api/v1/subscribers/bia", {"enabled": False})).code == 200
    yield made
    report = made.audit()
    await made.stop()
    assert report.ok, report.differences


async def send(client, key="k", **body):
    order = {"group_id": 1, "text": TEXT} | body
    return await client.post("/api/v1/broadcasts", order, headers={"Idempotency-Key": key})


async def advance(biller):
    """Queue what is to be queued now; the biller's own look may be doing so already."""
    parts = (biller.service.store.transact, biller.service.threads[0].read, biller.config.message_policy)
    await jobs.advance_broadcasts(*parts, datetime.now(UTC))


@pytest_twisted.ensureDeferred
async def test_a_plan_says_who_gets_how_much(biller):
    clara = await biller.logged_in("clara")
    answer = await clara.post("/api/v1/broadcasts/plan", {"group_id": 1, "text": "ã" * 71 + "ж"})
    assert (answer.code, answer.body) == (
        200,
        {
            "group_id": 1,
            "group": "village",
            "recipients": 2,
            "disabled": 1,
            "characters": 72,
            "encoding": "ucs2",
            "parts": 2,
            "parts_total": 4,
            "cost": 0,
        },
    )
    assert biller.rows(tables.broadcast) == []


@pytest_twisted.ensureDeferred
async def test_the_same_key_sends_nothing_twice(biller):
    clara = await biller.logged_in("clara")
    first = await send(clara)
    await advance(biller)
    again = await send(clara)
    assert (first.code, again.code, again.body["id"]) == (201, 201, first.body["id"])
    assert (await send(clara, text="other")).code == 409
    await advance(biller)
    assert sorted(each["to_number"] for each in biller.rows(tables.message)) == ["1002", "1004"]
    rows = [each for each in biller.rows(tables.trail) if each["subject"].startswith("broadcast:")]
    assert [(each["action"], each["actor"]) for each in rows] == [("send", "clara")]


@pytest_twisted.ensureDeferred
async def test_a_broadcast_shows_how_far_it_is(biller):
    clara = await biller.logged_in("clara")
    made = (await send(clara)).body
    await send(clara, "other", text="second")
    await advance(biller)
    shown = (await clara.get(f"/api/v1/broadcasts/{made['id']}")).body
    assert (shown["text"], shown["author"], shown["queued"], shown["left_out"]) == (TEXT, "clara", 2, 1)
    assert (shown["messages"]["queued"], shown["messages"]["delivered"]) == (2, 0)
    assert shown["completed_at"]
    page = (await clara.get("/api/v1/broadcasts?limit=1")).body
    last = (await clara.get(f"/api/v1/broadcasts?limit=1&cursor={page['next']}")).body
    assert [each["text"] for each in page["items"] + last["items"]] == ["second", TEXT]
    listed = (await clara.get(f"/api/v1/messages?broadcast_id={made['id']}")).body["items"]
    assert {(each["broadcast_id"], each["cost"]) for each in listed} == {(made["id"], 0)}
    assert len(listed) == 2
    ana = await biller.logged_in("ana")
    assert (await ana.get(f"/api/v1/messages?broadcast_id={made['id']}")).body["items"] == []


@pytest_twisted.ensureDeferred
async def test_a_broadcast_is_cancelled_once(biller):
    clara = await biller.logged_in("clara")
    made = (await send(clara)).body
    path = f"/api/v1/broadcasts/{made['id']}"
    answers = [await clara.post(f"{path}/cancellation") for _ in range(2)]
    assert {each.code for each in answers} == {200}
    assert answers[0].body["cancelled_at"] == answers[1].body["cancelled_at"] is not None
    await advance(biller)
    await advance(biller)
    shown = (await clara.get(path)).body
    assert (shown["messages"]["queued"], shown["messages"]["accepted"]) == (0, 0)
    assert shown["completed_at"]
    actions = [each["action"] for each in biller.rows(tables.trail) if each["subject"] == f"broadcast:{made['id']}"]
    assert actions == ["send", "cancel"]
    assert (await clara.post("/api/v1/broadcasts/99/cancellation")).code == 404


@pytest.mark.parametrize(
    ("body", "code", "fields"),
    [
        ({"text": ""}, "INVALID", {"text"}),
        ({"text": "x" * 5000}, "INVALID", {"text"}),
        ({"group_id": 9}, "UNKNOWN_GROUP", set()),
        ({"group_id": 0, "text": "\x07"}, "INVALID", {"group_id", "text"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_sent_is_refused(biller, body, code, fields):
    clara = await biller.logged_in("clara")
    for answer in (
        await send(clara, **body),
        await clara.post("/api/v1/broadcasts/plan", {"group_id": 1, "text": TEXT} | body),
    ):
        assert (answer.body["code"], set(answer.body.get("fields", ()))) == (code, fields)
    assert biller.rows(tables.broadcast) == []


@pytest.mark.parametrize("biller", ["none"], indirect=True)
@pytest_twisted.ensureDeferred
async def test_without_a_way_nothing_is_sent(biller):
    answer = await send(await biller.logged_in("clara"))
    assert (answer.code, answer.body["code"]) == (403, "NOT_OFFERED")
    assert "on_net_route" in answer.body["detail"]


@pytest_twisted.ensureDeferred
async def test_nobody_gets_it_is_refused(biller):
    admin = await biller.logged_in("admin")
    assert (await admin.post("/api/v1/groups", {"name": "empty"})).code == 201
    answer = await send(admin, group_id=2)
    assert (answer.code, set(answer.body["fields"])) == (422, {"group_id"})
    assert (await send(await biller.logged_in("ana"))).code == 403
