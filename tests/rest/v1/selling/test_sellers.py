"""Sellers, receipts, settlements and PINs over real HTTP: who may what, and each once."""

import pytest
import pytest_twisted

from tests.rest.v1.test_transfers import refused, voice
from tests.support.http.api_service import PASSWORD, Biller, header

SELLERS = "/api/v1/sellers"
PERIOD = "since=2020-01-01T00:00:00Z&until=2100-01-01T00:00:00Z"
PIN = "/api/v1/subscribers/ana/pin"


@pytest_twisted.async_yield_fixture
async def biller(tmp_path):
    """Lend a biller whose sellers are ana and, below her, bia."""
    made = Biller(tmp_path, {}, "")
    admin = await made.logged_in("admin")
    for body in ({"username": "ana", "seller_class": "shop", "sale_max": 90}, {"username": "bia", "parent": "ana"}):
        assert (await admin.post(SELLERS, body)).code == 201
    assert (await post(admin, f"{SELLERS}/ana/refills", {"amount": 500, "paid": 450})).code == 201
    yield made
    report = made.audit()
    await made.stop()
    assert report.ok, report.differences


async def put(client, path, body):
    return await client.ask("PUT", path, body)


async def post(client, path, body, key="k"):
    return await client.post(path, body, headers={"Idempotency-Key": key})


@pytest_twisted.ensureDeferred
async def test_a_seller_sells_once_for_a_key(biller):
    ana, admin = await biller.logged_in("ana"), await biller.logged_in("admin")
    answer = await post(ana, f"{SELLERS}/ana/sales", {"to": "1003", "amount": 60})
    assert answer.code == 201, answer.bytes
    made = answer.body
    assert (made["receipt"], made["seller"], made["username"], made["stock"]) == ("S2-000001", "ana", "bia", 440)
    assert (made["kind"], made["origin"], made["to_number"]) == ("sale", "rest", "1003")
    assert header(answer, "location").endswith("/api/v1/receipts/S2-000001")
    assert (await post(ana, f"{SELLERS}/ana/sales", {"to": "1003", "amount": 60})).body == made
    refused(await post(ana, f"{SELLERS}/ana/sales", {"to": "1003", "amount": 61}), 409, "CONFLICT")
    assert (await voice(admin, "bia"))["available"] == 60
    whole = (await ana.get("/api/v1/receipts/S2-000001")).body
    assert whole["text"].startswith("Receipt S2-000001\n")
    listed = (await ana.get("/api/v1/receipts?kind=sale")).body["items"]
    assert [each["receipt"] for each in listed] == ["S2-000001"]
    assert (await ana.get(f"{SELLERS}/ana")).body["posted"] == 440


@pytest_twisted.ensureDeferred
async def test_a_seller_undoes_their_own_sale(biller):
    ana, bia = await biller.logged_in("ana"), await biller.logged_in("bia")
    await post(ana, f"{SELLERS}/ana/sales", {"to": "1003", "amount": 60})
    refused(await bia.post("/api/v1/receipts/S2-000001/undo", None), 403, "FORBIDDEN")
    undone = (await ana.post("/api/v1/receipts/S2-000001/undo", None)).body
    assert undone["voided_at"] is not None
    assert (await ana.post("/api/v1/receipts/S2-000001/undo", None)).body == undone
    refused(await ana.post("/api/v1/receipts/S2-000009/undo", None), 404, "NOT_FOUND")
    assert (await ana.get(f"{SELLERS}/ana")).body["posted"] == 500


@pytest_twisted.ensureDeferred
async def test_transfers_list_refills_and_sales(biller):
    ana, admin = await biller.logged_in("ana"), await biller.logged_in("admin")
    await post(ana, f"{SELLERS}/ana/sales", {"to": "1001", "amount": 60})
    listed = await admin.get("/api/v1/transfers")
    assert listed.code == 200, listed.bytes
    assert {each["kind"] for each in listed.body["items"]} >= {"seller"}
    receipts = set()
    for each in listed.body["items"]:
        shown = (await admin.get(f"/api/v1/transfers/{each['id']}")).body
        receipts.add(shown.pop("receipt"))
        assert shown == each
    assert "S2-000001" in receipts


@pytest_twisted.ensureDeferred
async def test_a_parent_refills_those_below_only(biller):
    ana, bia = await biller.logged_in("ana"), await biller.logged_in("bia")
    made = (await post(ana, "/api/v1/me/refills", {"username": "bia", "amount": 200})).body
    assert (made["receipt"], made["kind"], made["seller"], made["stock"]) == ("S2-000001", "refill", "ana", 300)
    assert (await bia.get(f"{SELLERS}/bia")).body["posted"] == 200
    refused(await post(bia, "/api/v1/me/refills", {"username": "ana", "amount": 5}), 404, "NOT_FOUND")
    refused(await post(ana, "/api/v1/me/refills", {"username": "nobody", "amount": 5}), 404, "NOT_FOUND")
    refused(await post(ana, "/api/v1/me/refills", {"username": "bia", "amount": 301}, "2"), 409, "NO_CREDIT")


@pytest_twisted.ensureDeferred
async def test_sellers_see_their_own_only(biller):
    ana, bia = await biller.logged_in("ana"), await biller.logged_in("bia")
    await post(ana, f"{SELLERS}/ana/sales", {"to": "1001", "amount": 60})
    for path, status in ((f"{SELLERS}/ana", 403), (SELLERS, 403), ("/api/v1/receipts/S2-000001", 404)):
        assert (await bia.get(path)).code == status
    assert (await bia.get("/api/v1/receipts?username=ana")).code == 404
    assert (await bia.get(f"/api/v1/settlements?username=ana&{PERIOD}")).code == 404
    assert (await bia.get("/api/v1/receipts")).body["items"] == []
    for query in (f"?{PERIOD}", ""):
        sheet = (await bia.get(f"/api/v1/settlements{query}")).body["items"]
        assert [each["username"] for each in sheet] == ["bia"]
    for path, body in (
        (f"{SELLERS}/ana/sales", {"to": "1003", "amount": 1}),
        (f"{SELLERS}/bia/refills", {"amount": 5}),
    ):
        refused(await post(bia, path, body), 403, "FORBIDDEN")
    refused(await bia.post(SELLERS, {"username": "clara"}), 403, "FORBIDDEN")
    refused(await bia.patch(f"{SELLERS}/bia", {"credit_line": 5}), 403, "FORBIDDEN")


@pytest_twisted.ensureDeferred
async def test_staff_refill_settle_and_undo(biller):
    clara, admin = await biller.logged_in("clara"), await biller.logged_in("admin")
    made = (await post(clara, f"{SELLERS}/ana/refills", {"amount": -100}, "2")).body
    assert (made["receipt"], made["kind"], made["seller"], made["stock"]) == ("office-000002", "return", "ana", 400)
    (row, _) = (await clara.get(f"/api/v1/settlements?{PERIOD}")).body["items"]
    assert (row["refilled"], row["paid"], row["returned"], row["closing"]) == (500, 350, 100, 400)
    sheet = await clara.get(f"/api/v1/settlements.csv?username=ana&{PERIOD}")
    assert header(sheet, "content-type").startswith("text/csv")
    head, line = sheet.bytes.decode().splitlines()
    assert dict(zip(head.split(","), line.split(","), strict=True)) == {name: str(each) for name, each in row.items()}
    assert (await clara.post("/api/v1/receipts/office-000002/undo", None)).code == 200
    listed = (await admin.get(f"{SELLERS}?limit=1")).body
    assert [each["username"] for each in listed["items"]] == ["ana"]
    rest = (await admin.get(f"{SELLERS}?limit=1&cursor={listed['next']}")).body["items"]
    assert [(each["username"], each["parent"]) for each in rest] == [("bia", "ana")]
    assert (await admin.patch(f"{SELLERS}/bia", {"parent": None, "enabled": False})).body["parent"] is None
    refused(await post(admin, f"{SELLERS}/bia/sales", {"to": "1003", "amount": 5}), 403, "SELLER_DISABLED")


@pytest_twisted.ensureDeferred
async def test_each_refusal_has_its_status(biller):
    ana, admin = await biller.logged_in("ana"), await biller.logged_in("admin")
    for body, status, code in (
        ({"to": "1003", "amount": 91}, 409, "SALE_TOO_LARGE"),
        ({"to": "1003", "amount": 0}, 422, "INVALID"),
        ({"to": "1003", "amount": "5"}, 422, "INVALID"),
        ({"to": "4711", "amount": 5}, 404, "UNKNOWN"),
    ):
        refused(await post(ana, f"{SELLERS}/ana/sales", body), status, code)
    refused(await ana.post(f"{SELLERS}/ana/sales", {"to": "1003", "amount": 5}), 400, "BROKEN_REQUEST")
    refused(await post(admin, f"{SELLERS}/ana/refills", {"amount": 0}, "z"), 422, "INVALID")
    refused(await post(admin, f"{SELLERS}/clara/refills", {"amount": 5}, "z"), 404, "UNKNOWN_SELLER")
    refused(await admin.post(SELLERS, {"username": "ana"}), 409, "TAKEN")
    refused(await admin.patch(f"{SELLERS}/ana", {"parent": "bia"}), 422, "INVALID")
    assert (await admin.patch(f"{SELLERS}/ana", {"day_limit": 10})).code == 200
    refused(await post(ana, f"{SELLERS}/ana/sales", {"to": "1003", "amount": 11}), 409, "DAY_LIMIT")


@pytest_twisted.ensureDeferred
async def test_own_pin_needs_old_one_or_password(biller):
    ana, admin = await biller.logged_in("ana"), await biller.logged_in("admin")
    refused(await put(ana, PIN, {"pin": "4071"}), 422, "INVALID")
    refused(await put(ana, PIN, {"pin": "4071", "old_pin": "9318"}), 403, "WRONG_PIN")
    refused(await put(ana, PIN, {"pin": "4071", "old_password": "wrong horse"}), 403, "FORBIDDEN")
    assert (await put(ana, PIN, {"pin": "4071", "old_password": PASSWORD})).code == 204
    assert (await put(ana, PIN, {"pin": "9318", "old_pin": "4071"})).code == 204
    refused(await put(ana, PIN, {"pin": "1234", "old_pin": "9318"}), 422, "INVALID")
    assert (await put(admin, PIN, {"pin": "5520"})).code == 204
    refused(await ana.delete(PIN), 403, "FORBIDDEN")
    assert (await admin.delete(PIN)).code == 204
    bia = await biller.logged_in("bia")
    refused(await put(bia, PIN, {"pin": "4071"}), 403, "FORBIDDEN")


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_guessed_pins_must_wait(biller):
    ana, admin = await biller.logged_in("ana"), await biller.logged_in("admin")
    assert (await put(admin, PIN, {"pin": "5520"})).code == 204
    answers = [(await put(ana, PIN, {"pin": "4071", "old_pin": "9318"})).body["code"] for _ in range(8)]
    assert answers[0] == "WRONG_PIN"
    assert answers[-1] == "TOO_MANY_ATTEMPTS"
    refused(await put(ana, PIN, {"pin": "4071", "old_pin": "5520"}), 429, "TOO_MANY_ATTEMPTS")
