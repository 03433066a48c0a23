"""Vouchers over real HTTP: made as CSV once, redeemed once, by whom they may be."""

import csv
import io

import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from celcombiller.core.schema import tables
from celcombiller.core.vouchers import voucher_batches
from tests.rest.v1.test_transfers import refused, voice
from tests.support.http.api_service import Biller

BATCHES = "/api/v1/voucher-batches"
MINE = "/api/v1/me/vouchers"
ORDER = {"name": "fifty", "cards": 5, "kind": "voice", "value": 50}


@pytest_twisted.async_yield_fixture
async def biller(tmp_path):
    made = Biller(tmp_path, {}, "")
    yield made
    report = made.audit()
    await made.stop()
    assert report.ok, report.differences


async def make(client, order=ORDER, key="k"):
    return await client.post(BATCHES, order, headers={"Idempotency-Key": key})


async def codes(admin, order=ORDER, *, active=True):
    answer = await make(admin, order)
    assert answer.code == 201, answer.bytes
    if active:
        assert (await admin.post(f"{BATCHES}/1/activate", {})).code == 200
    return [row["code"] for row in csv.DictReader(io.StringIO(answer.bytes.decode()))]


@pytest_twisted.ensureDeferred
async def test_codes_are_sent_once_as_csv(biller, monkeypatch):
    monkeypatch.setattr(voucher_batches, "CHUNK", 2)
    admin = await biller.logged_in("admin")
    answer = await make(admin)
    lines = list(csv.DictReader(io.StringIO(answer.bytes.decode())))
    assert [(line["batch"], line["serial"], line["value"]) for line in lines] == [
        ("fifty", str(serial), "50") for serial in range(1, 6)
    ]
    assert len(biller.rows(tables.voucher)) == 5
    refused(await make(admin), 409, "CONFLICT")
    refused(await make(admin, key="other"), 409, "TAKEN")
    (batch,) = (await admin.get(BATCHES)).body["items"]
    assert (batch["name"], batch["cards"]) == ("fifty", 5)
    text = str(biller.rows(tables.voucher) + biller.rows(tables.trail))
    assert not any(line["code"].replace(" ", "") in text for line in lines)


@pytest_twisted.ensureDeferred
async def test_a_card_is_redeemed_once(biller):
    admin, ana, bia = [await biller.logged_in(name) for name in ("admin", "ana", "bia")]
    first, second, *_ = await codes(admin)
    answer = await ana.post(MINE, {"code": f" {first.replace('1', 'l')}"})
    assert (answer.code, answer.body["value"], answer.body["serial"]) == (201, 50, 1), answer.bytes
    again = await ana.post(MINE, {"code": first})
    assert (again.code, again.body) == (200, answer.body)
    refused(await bia.post(MINE, {"code": first}), 409, "VOUCHER_REDEEMED")
    refused(await bia.post(MINE, {"code": "12"}), 404, "UNKNOWN_VOUCHER")
    refused(await ana.post("/api/v1/subscribers/bia/vouchers", {"code": second}), 403, "FORBIDDEN")
    assert (await admin.post("/api/v1/subscribers/bia/vouchers", {"code": second})).code == 201
    assert [(await voice(admin, name))["available"] for name in ("ana", "bia")] == [50, 50]
    listed = [(await client.get("/api/v1/vouchers")).body["items"] for client in (admin, ana, bia)]
    assert [[each["serial"] for each in rows] for rows in listed] == [[2, 1], [1], [2]]
    page = (await admin.get("/api/v1/vouchers?limit=1")).body
    assert (await admin.get(f"/api/v1/vouchers?limit=1&cursor={page['next']}")).body["items"] == [answer.body]
    found = (await admin.post("/api/v1/vouchers/find", {"code": second})).body
    assert (found["state"], found["redeemed_by"]) == ("redeemed", "bia")
    whole = (await admin.get(f"{BATCHES}/1")).body
    assert whole["counts"] == {"made": 0, "active": 3, "redeemed": 2, "revoked": 0, "expired": 0}
    metrics = (await admin.get("/metrics")).bytes.decode()
    assert 'celcombiller_vouchers_redeemed_total{kind="voice"} 2.0' in metrics
    assert 'celcombiller_voucher_refusals_total{reason="VOUCHER_REDEEMED"} 1.0' in metrics


@pytest_twisted.ensureDeferred
async def test_requests_at_once_redeem_a_card_once(biller):
    admin, ana, bia = [await biller.logged_in(name) for name in ("admin", "ana", "bia")]
    first, second, *_ = await codes(admin)
    clients = [ana, bia, admin, ana, bia, admin]  # each of them twice: whoever is first gets both answers
    answers = await gatherResults([Deferred.fromCoroutine(each.post(MINE, {"code": first})) for each in clients])
    assert sorted(answer.code for answer in answers) == [200, 201, 409, 409, 409, 409]
    assert (await ana.post(MINE, {"code": second})).code == 201


@pytest_twisted.ensureDeferred
async def test_ranges_are_activated_and_revoked(biller):
    admin, ana = await biller.logged_in("admin"), await biller.logged_in("ana")
    typed = await codes(admin, active=False)
    refused(await ana.post(MINE, {"code": typed[0]}), 409, "VOUCHER_NOT_ACTIVE")
    made = (await admin.post(f"{BATCHES}/1/activate", {"first_serial": 2, "last_serial": 4})).body
    assert (made["first_serial"], made["last_serial"], made["state"], made["seller"]) == (2, 4, "active", None)
    refused(await admin.post(f"{BATCHES}/1/activate", {"last_serial": 2}), 422, "INVALID")
    assert (await admin.post(f"{BATCHES}/1/revoke", {"first_serial": 3, "last_serial": 3})).code == 200
    refused(await ana.post(MINE, {"code": typed[2]}), 409, "VOUCHER_REVOKED")
    cards = (await admin.get(f"{BATCHES}/1/vouchers?limit=2")).body
    more = (await admin.get(f"{BATCHES}/1/vouchers?limit=3&cursor={cards['next']}")).body
    states = [each["state"] for each in (*cards["items"], *more["items"])]
    assert states == ["made", "active", "revoked", "active", "made"]


@pytest_twisted.ensureDeferred
async def test_sellers_see_vouchers_handed_to_them(biller):
    admin, ana, bia = [await biller.logged_in(name) for name in ("admin", "ana", "bia")]
    typed, handed = await codes(admin, active=False), "/api/v1/sellers/ana/vouchers"
    refused(await ana.get(handed), 404, "UNKNOWN_SELLER")
    assert (await admin.post("/api/v1/sellers", {"username": "ana"})).code == 201
    for serials in ({"last_serial": 1}, {"first_serial": 2, "last_serial": 4}):
        body = serials | {"seller": "ana", "note": "for the harbour"}
        assert (await admin.post(f"{BATCHES}/1/activate", body)).code == 200
    await admin.post(f"{BATCHES}/1/activate", {"first_serial": 5})
    await admin.post(f"{BATCHES}/1/revoke", {"first_serial": 4})
    assert (await bia.post(MINE, {"code": typed[1]})).code == 201
    page = (await ana.get(f"{handed}?limit=1")).body
    (newest,) = page["items"]
    assert (newest["batch"], newest["first_serial"], newest["last_serial"], newest["price"]) == ("fifty", 2, 4, 0)
    assert newest["counts"] == {"made": 0, "active": 1, "redeemed": 1, "revoked": 1, "expired": 0}
    assert "harbour" not in str(newest)
    (oldest,) = (await admin.get(f"{handed}?cursor={page['next']}")).body["items"]
    assert (oldest["last_serial"], oldest["counts"]["active"]) == (1, 1)
    refused(await bia.get(handed), 403, "FORBIDDEN")


@pytest_twisted.ensureDeferred
async def test_wrong_codes_must_wait(biller):
    admin, ana = await biller.logged_in("admin"), await biller.logged_in("ana")
    typed = await codes(admin)
    answers = [await ana.post(MINE, {"code": "0" * 21}) for _ in range(7)]
    assert [answer.code for answer in answers[:5]] == [404] * 5
    refused(answers[-1], 429, "TOO_MANY_ATTEMPTS")
    refused(await ana.post(MINE, {"code": typed[0]}), 429, "TOO_MANY_ATTEMPTS")
    assert (await admin.post("/api/v1/subscribers/ana/vouchers", {"code": typed[0]})).code == 201


@pytest_twisted.ensureDeferred
async def test_only_administrators_make_cards(biller):
    ana, clara = await biller.logged_in("ana"), await biller.logged_in("clara")
    for client in (ana, clara):
        refused(await make(client), 403, "FORBIDDEN")
    refused(await ana.get(BATCHES), 403, "FORBIDDEN")
    refused(await ana.post("/api/v1/vouchers/find", {"code": "0" * 21}), 403, "FORBIDDEN")
    assert (await clara.get(BATCHES)).body["items"] == []
    refused(await clara.post("/api/v1/vouchers/find", {"code": "0" * 21}), 404, "UNKNOWN_VOUCHER")
