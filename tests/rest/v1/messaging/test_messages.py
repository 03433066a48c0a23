"""Messages by the API: who may send in whose name, what is refused with every field named, and what is shown."""

import msgspec
import pytest
import pytest_twisted

from celcombiller.config.tables import Asterisk, Sms
from celcombiller.core.schema import tables
from tests.support.http.api_service import Biller

WAYS = Sms(on_net_route="asterisk", on_net_price=3)
NOWHERE = Asterisk(name="pbx1", host="127.0.0.1", port=1, username="x", secret="x")


async def begun(folder, **sms):
    made = Biller(folder, {}, "", sms=msgspec.structs.replace(WAYS, **sms), asterisk=(NOWHERE,))
    admin = await made.logged_in("admin")
    for kind in ("voice", "sms"):
        order = {"username": "ana", "kind": kind, "value": 100}
        assert (await admin.post("/api/v1/transfers", order, headers={"Idempotency-Key": kind})).code == 201
    return made


async def ended(biller):
    report = biller.audit()
    await biller.stop()
    assert report.ok, report.differences


@pytest_twisted.async_yield_fixture
async def biller(tmp_path):
    made = await begun(tmp_path)
    yield made
    await ended(made)


@pytest_twisted.async_yield_fixture
async def biller_by_sms(tmp_path):
    made = await begun(tmp_path, account="sms")
    yield made
    await ended(made)


async def send(client, key="k", **body):
    answer = await client.post(
        "/api/v1/messages", {"to": "1003", "text": "hello"} | body, headers={"Idempotency-Key": key}
    )
    return answer.code, answer.body


@pytest_twisted.ensureDeferred
async def test_a_subscriber_sends_and_sees_only_own_messages(biller):
    ana, bia, admin = [await biller.logged_in(each) for each in ("ana", "bia", "admin")]
    code, made = await send(ana, text="x" * 161)
    assert code == 201
    assert {
        name: made[name]
        for name in ("username", "from_number", "to_number", "state", "parts", "cost", "kind", "encoding")
    } == {
        "username": "ana",
        "from_number": "1002",
        "to_number": "1003",
        "state": "queued",
        "parts": 2,
        "cost": 6,
        "kind": "voice",
        "encoding": "gsm7",
    }
    assert "text" not in made
    assert (await send(ana, username="bia", key="other"))[0] == 403
    assert (await send(ana, text="x" * 161))[1] == made
    assert (await send(ana, text="other"))[0] == 409
    for client, seen in ((ana, [made]), (bia, []), (admin, [made])):
        assert (await client.get("/api/v1/messages")).body["items"] == seen
        assert (await client.get(f"/api/v1/messages/{made['id']}")).code == (200 if seen else 404)
    account = (await ana.get("/api/v1/subscribers/ana/accounts")).body
    assert [each["held"] for each in account["items"] if each["kind"] == "voice"] == [6]


@pytest_twisted.ensureDeferred
async def test_a_message_may_use_sms_credit(biller_by_sms):
    ana = await biller_by_sms.logged_in("ana")
    code, made = await send(ana)
    assert (code, made["kind"], made["cost"]) == (201, "sms", 3)
    assert (await ana.post("/sms", {"id": 2, "to": "1003", "msg": "hello"})).code == 200
    kinds = [each["kind"] for each in (await ana.get("/api/v1/messages")).body["items"]]
    items = (await ana.get("/api/v1/subscribers/ana/accounts")).body["items"]
    assert (kinds, [each["held"] for each in items]) == (["sms", "sms"], [0, 0, 6])
    answers = [await send(ana, f"long {n}", text="x" * 1530) for n in range(4)]
    assert [said.get("cost", said.get("code")) for _, said in answers] == [30, 30, 30, "NO_CREDIT"]


@pytest_twisted.ensureDeferred
async def test_staff_send_for_anyone_or_free(biller):
    clara = await biller.logged_in("clara")
    assert (await send(clara, "a", username="ana"))[1]["cost"] == 3
    free = (await send(clara, "b"))[1]
    assert (free["username"], free["cost"], free["kind"], free["origin"]) == (None, 0, None, "api")
    assert (await send(clara, "c", username="admin"))[0] == 403
    assert (await send(clara, "d", username="nobody"))[0] == 404
    bia = (await send(clara, "e", username="bia"))[1]
    assert bia["code"] == "NO_CREDIT"
    rows = [each for each in biller.rows(tables.trail) if each["action"] == "send"]
    assert [each["subject"] for each in rows] == ["message:1", "message:2"]
    assert "hello" not in str(rows)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"text": ""}, {"text"}),
        ({"text": "a\x07b"}, {"text"}),
        ({"text": "x" * 10_000}, {"text"}),
        ({"text": 5, "to": "1003;rm"}, {"text", "to"}),
        ({"text": "\x1b", "to": ""}, {"text", "to"}),
        ({"to": "1003\n"}, {"to"}),
        ({"to": "1003", "nonsense": 1}, {"nonsense"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_invalid_message_names_every_field(biller, body, fields):
    code, said = await send(await biller.logged_in("ana"), **body)
    assert (code, said["code"], set(said["fields"])) == (422, "INVALID", fields)
    assert biller.rows(tables.message) == []


@pytest_twisted.ensureDeferred
async def test_quotes_and_pipes_stay_surrogates_are_refused(biller):
    ana = await biller.logged_in("ana")
    assert (await send(ana, text='\'; rm -rf / | `x` "${HOME}"\r\n'))[0] == 201
    for text in (b"\\ud83d", b"a\\u0000b", b"a\x00b"):
        answer = await ana.ask(
            "POST",
            "/api/v1/messages",
            raw=b'{"to": "1003", "text": "%b"}' % text,
            headers={"Content-Type": "application/json", "Idempotency-Key": "half"},
        )
        assert (answer.code, answer.body["code"]) == (400, "BROKEN_REQUEST")
    assert len(biller.rows(tables.message)) == 1


@pytest_twisted.ensureDeferred
async def test_pages_of_messages_are_whole(biller):
    admin = await biller.logged_in("admin")
    for n in range(5):
        await send(admin, str(n))
    seen, cursor = [], ""
    while cursor is not None:
        page = (await admin.get(f"/api/v1/messages?limit=2{cursor and '&cursor=' + cursor}")).body
        seen += [each["id"] for each in page["items"]]
        cursor = page["next"]
    assert seen == [5, 4, 3, 2, 1]
    assert (await admin.get("/api/v1/messages?state=accepted")).body["items"] == []


@pytest_twisted.ensureDeferred
async def test_the_original_route_answers_alike_and_charges(biller):
    ana, admin = await biller.logged_in("ana"), await biller.logged_in("admin")
    answer = await ana.post("/sms", {"id": 2, "to": "1003", "msg": 'it\'s | "so"'})
    assert (answer.code, answer.body) == (200, {})
    answer = await admin.post("/sms", {"id": "2", "to": "1003", "msg": "hello"})
    assert (answer.code, answer.body) == (200, {})
    assert [(each["subscriber_id"], each["price"]) for each in biller.rows(tables.message)] == [(2, 3), (2, 3)]
    answer = await ana.post("/sms", {"id": 2, "to": "9999", "msg": "hello"})
    assert (answer.code, answer.body) == (404, {"message": "User not found"})
    assert (await ana.post("/sms", {"id": 3, "to": "1003", "msg": "hello"})).code == 403
    answer = await admin.post("/sms", {"id": 99, "to": "1003", "msg": ""})
    assert (answer.code, set(answer.body["validation_errors"])) == (400, {"msg"})
    answer = await admin.post("/sms", {"id": 2, "to": "1003", "msg": "x" * 10_000})
    assert (answer.code, set(answer.body["validation_errors"])) == (400, {"msg"})
    assert (await admin.post("/sms", {"id": 99, "to": "1003", "msg": "hello"})).code == 400
    assert (await admin.post("/sms", {"to": "1003"})).code == 400
    assert len(biller.rows(tables.message)) == 2
