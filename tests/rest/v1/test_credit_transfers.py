"""Transfers between subscribers over real HTTP: in two steps by subscribers, in one by staff, each for their own."""

import pytest_twisted

from celcombiller.config.tables import Asterisk, CreditTransfers, Sms
from celcombiller.core.schema import tables
from tests.rest.v1.test_transfers import give as credit
from tests.rest.v1.test_transfers import refused, voice
from tests.support.http.api_service import Biller

PATH = "/api/v1/credit-transfers"
MINE = "/api/v1/me/credit-transfers"
NOWHERE = Asterisk(name="pbx1", host="127.0.0.1", port=1, username="x", secret="x")


@pytest_twisted.async_yield_fixture
async def biller(tmp_path):
    terms = CreditTransfers(enabled=True, fee=5, most=90)
    made = Biller(tmp_path, {}, "", sms=Sms(on_net_route="asterisk"), asterisk=(NOWHERE,), credit_transfers=terms)
    await credit(await made.logged_in("admin"), 100)
    yield made
    report = made.audit()
    await made.stop()
    assert report.ok, report.differences


async def post(client, path, body, key="k"):
    return await client.post(path, body, headers={"Idempotency-Key": key})


def code_sent(biller):
    return biller.rows(tables.message)[-1]["text"].split()[1]


@pytest_twisted.ensureDeferred
async def test_a_transfer_is_asked_then_confirmed(biller):
    ana, admin = await biller.logged_in("ana"), await biller.logged_in("admin")
    answer = await post(ana, MINE, {"to": "1003", "amount": 50})
    assert answer.code == 201, answer.bytes
    asked = answer.body
    assert (asked["state"], asked["payer"], asked["recipient"], asked["fee"]) == ("asked", "ana", "bia", 5)
    assert "code" not in answer.bytes.decode()
    assert (await post(ana, MINE, {"to": "1003", "amount": 50})).body == asked
    assert (await voice(admin))["available"] == 100
    path = f"{MINE}/{asked['id']}/confirm"
    made = await ana.post(path, {"code": code_sent(biller)})
    assert (made.code, made.body["state"]) == (200, "made"), made.bytes
    assert [(await voice(admin, name))["available"] for name in ("ana", "bia")] == [45, 50]
    for client in (ana, admin, await biller.logged_in("bia")):
        assert (await client.get(PATH)).body["items"] == [made.body]
    assert (await admin.get(f"{PATH}?username=clara")).body["items"] == []


@pytest_twisted.ensureDeferred
async def test_a_plan_moves_and_sends_nothing(biller):
    ana = await biller.logged_in("ana")
    answer = await ana.post(f"{MINE}/plan", {"to": "1003", "amount": 50})
    assert answer.body == {"recipient": "bia", "to_number": "1003", "amount": 50, "fee": 5, "left": 45}
    refused(await ana.post(f"{MINE}/plan", {"to": "1003", "amount": 91}), 422, "INVALID")
    refused(await ana.post(f"{MINE}/plan", {"to": "1999", "amount": 50}), 404, "UNKNOWN")
    assert (biller.rows(tables.message), (await ana.get(PATH)).body["items"]) == ([], [])


@pytest_twisted.ensureDeferred
async def test_wrong_codes_are_counted_and_cancel(biller):
    ana = await biller.logged_in("ana")
    asked = (await post(ana, MINE, {"to": "1003", "amount": 50})).body
    path, right = f"{MINE}/{asked['id']}/confirm", code_sent(biller)
    for _ in range(3):
        refused(await ana.post(path, {"code": "1"}), 409, "WRONG_CODE")
    refused(await ana.post(path, {"code": right}), 409, "WRONG_CODE")
    refused(await ana.post(path, {"code": "five"}), 422, "INVALID")
    bia = await biller.logged_in("bia")
    refused(await bia.post(path, {"code": right}), 409, "WRONG_CODE")
    assert (await ana.get(PATH)).body["items"][0]["state"] == "cancelled"


@pytest_twisted.ensureDeferred
async def test_each_refusal_has_its_status(biller):
    ana = await biller.logged_in("ana")
    for body, status, code in (
        ({"to": "1003", "amount": 91}, 422, "INVALID"),
        ({"to": "1003", "amount": 0}, 422, "INVALID"),
        ({"to": "1003", "amount": "50"}, 422, "INVALID"),
        ({"to": "1002", "amount": 5}, 422, "INVALID"),
        ({"to": "4711", "amount": 5}, 404, "UNKNOWN"),
    ):
        refused(await post(ana, MINE, body), status, code)
    bia = await biller.logged_in("bia")
    refused(await post(bia, MINE, {"to": "1002", "amount": 5}), 409, "NO_CREDIT")
    assert biller.rows(tables.credit_transfer) == []


@pytest_twisted.ensureDeferred
async def test_only_staff_are_told_of_commands(biller):
    ana, clara = await biller.logged_in("ana"), await biller.logged_in("clara")
    body = {"to": "1002", "amount": 5}
    of_subscriber = await post(await biller.logged_in("bia"), MINE, body)
    of_staff = await post(clara, "/api/v1/transfers", {"username": "bia", "kind": "voice", "value": -1})
    assert of_subscriber.body["code"] == of_staff.body["code"] == "NO_CREDIT"
    assert "remedy" not in of_subscriber.body
    assert "`celcombiller credit`" in of_staff.body["remedy"]
    assert (await ana.post(MINE, body)).body["remedy"]


@pytest_twisted.ensureDeferred
async def test_staff_transfer_without_a_code(biller):
    clara, ana = await biller.logged_in("clara"), await biller.logged_in("ana")
    body = {"username": "ana", "to": "+1003", "amount": 95, "note": "at the office"}
    refused(await post(ana, PATH, body), 403, "FORBIDDEN")
    made = await post(clara, PATH, body)
    assert (made.code, made.body["state"], made.body["note"]) == (201, "made", "at the office"), made.bytes
    assert (await post(clara, PATH, body)).body == made.body
    refused(await post(clara, PATH, body | {"amount": 1}), 409, "CONFLICT")
    refused(await post(clara, PATH, body | {"username": "admin"}, key="m"), 403, "FORBIDDEN")
    (row,) = [each for each in biller.rows(tables.trail) if each["action"] == "transfer credit"]
    assert (row["actor"], row["subject"]) == ("clara", "subscriber:ana")
