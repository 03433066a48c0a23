"""Payments over real HTTP: only signed notices count, each once; and what the staff does of those that wait."""

import json
import time

import pytest
import pytest_twisted
import sqlalchemy as sa

from celcombiller.config.tables import PaymentProvider
from celcombiller.core.payments.signatures import sign
from celcombiller.core.schema import tables
from celcombiller.rest.v1.selling import payments
from tests.core.payments.test_payment_properties import set_currency
from tests.support.http.api_service import Biller, header

SECRET = "a secret of the provider"
PATH = "/api/v1/payments"
PAID = {"id": "T1", "to": "1002", "amount": "12.50"}


@pytest_twisted.async_yield_fixture
async def biller(tmp_path_factory):
    providers = (
        PaymentProvider(name="gateway", secret=SECRET, currency="BRL", clock_seconds=60),
        PaymentProvider(name="mobile", secret=SECRET[::-1], currency="BRL", reversal="debt"),
    )
    made = Biller(tmp_path_factory.mktemp("biller"), {}, "", payments=providers)
    with made.engine.begin() as tx:
        set_currency(tx)
    yield made
    report = made.audit()
    await made.stop()
    assert report.ok, report.differences


async def notify(client, body=PAID, *, provider="gateway", secret=SECRET, seconds=0, raw=None, path=PATH, **headers):
    raw = json.dumps(body).encode() if raw is None else raw
    now = str(int(time.time()) + seconds)
    sent = {
        "Content-Type": "application/json",
        "Payment-Provider": provider,
        "Payment-Time": now,
        "Payment-Signature": sign(secret, now, raw),
    }
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.ask("POST", path, raw=raw, headers={name: each for name, each in sent.items() if each})


def mobile(client, body):
    return notify(client, body, provider="mobile", secret=SECRET[::-1])


def posted(biller, who=2):
    (row,) = [each for each in biller.rows(tables.account) if each["subscriber_id"] == who and each["kind"] == "voice"]
    return row["posted"]


def count(biller, name, **labels):
    return biller.service.metrics.registry.get_sample_value(name, labels) or 0


@pytest_twisted.ensureDeferred
async def test_a_signed_payment_is_credited_once(biller):
    client = biller.client()
    answers = [await notify(client) for _ in range(3)]
    assert [each.code for each in answers] == [200] * 3
    receipt = {"id": "T1", "payment": 1, "state": "credited", "credits": 1250, "taken": 0, "debt": 0}
    assert [each.body for each in answers] == [receipt] * 3
    assert posted(biller) == 1250
    assert count(biller, "celcombiller_payments_total", provider="gateway", result="repeated") == 2
    assert count(biller, "celcombiller_payment_credits_total", provider="gateway") == 1250
    other = await notify(client, PAID | {"amount": "13"})
    assert (other.code, other.body["code"]) == (409, "CONFLICT")
    same_id = await mobile(client, PAID)
    assert (same_id.code, posted(biller)) == (200, 2500)


WRONG = {
    "no headers": {"Payment_Provider": None, "Payment_Time": None, "Payment_Signature": None},
    "no signature": {"Payment_Signature": None},
    "no time": {"Payment_Time": None},
    "another provider": {"provider": "mobile"},
    "an unknown provider": {"provider": "nobody"},
    "another secret": {"secret": SECRET + "x"},
    "too old": {"seconds": -61},
    "of the future": {"seconds": 90},
    "another time": {"Payment_Time": "1700000000"},
    "a broken time": {"Payment_Time": "soon"},
    "a broken signature": {"Payment_Signature": "é" * 64},
    "two signatures": {"Payment_Signature": ["0" * 64, "1" * 64]},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest_twisted.ensureDeferred
async def test_what_is_not_signed_changes_nothing(biller, wrong):
    before = biller.everything()
    for body in (PAID, {"event": "reversal", "id": "T1"}, {"broken": 1}):
        answer = await notify(biller.client(), body, **wrong)
        assert (answer.code, answer.body["code"]) == (401, "NOT_AUTHENTICATED"), answer.bytes
    assert biller.everything() == before
    assert count(biller, "celcombiller_payment_wrong_signatures_total") == 3


@pytest_twisted.ensureDeferred
async def test_a_changed_body_has_no_signature(biller):
    now, raw = str(int(time.time())), json.dumps(PAID).encode()
    answer = await notify(
        biller.client(), PAID | {"to": "1003"}, Payment_Time=now, Payment_Signature=sign(SECRET, now, raw)
    )
    assert (answer.code, posted(biller), posted(biller, 3)) == (401, 0, 0)


@pytest_twisted.ensureDeferred
async def test_no_login_stands_for_a_signature(biller):
    admin = await biller.logged_in("admin")
    made = await admin.post("/api/v1/tokens", {"name": "t", "scopes": ["admin"]})
    token = biller.client()
    token.bearer = made.body["secret"]
    for client in (admin, token):
        assert (await notify(client, secret="x" * 16)).code == 401
    client = biller.client()
    client.cookie, client.bearer = "x" * 43, "ccb_" + "x" * 43
    assert (await notify(client)).code == 200


@pytest_twisted.ensureDeferred
async def test_wrong_signatures_lock_an_address_out(biller, monkeypatch):
    monkeypatch.setattr(payments, "WRONG_SIGNATURES_MAX", 3)
    client = biller.client()
    assert [(await notify(client, secret="x" * 16)).code for _ in range(4)] == [401, 401, 401, 429]
    answer = await notify(client)
    assert (answer.code, header(answer, "retry-after")) == (429, "60")
    assert posted(biller) == 0


BROKEN = {
    "no json": (b"{", 400),
    "no object": (b"[]", 400),
    "a key twice": (b'{"id": "1", "id": "2"}', 400),
    "a float": (b'{"id": "1", "to": "1002", "amount": 12.5}', 422),
    "a whole number": (b'{"id": "1", "to": "1002", "amount": 12}', 422),
    "too exact": (b'{"id": "1", "to": "1002", "amount": "0.001"}', 422),
    "nothing": (b'{"id": "1", "to": "1002", "amount": "0.00"}', 422),
    "a sign": (b'{"id": "1", "to": "1002", "amount": "-5"}', 422),
    "a comma": (b'{"id": "1", "to": "1002", "amount": "5,00"}', 422),
    "too much": (b'{"id": "1", "to": "1002", "amount": "999999999999999"}', 422),
    "another currency": (b'{"id": "1", "to": "1002", "amount": "5", "currency": "EUR"}', 422),
    "no amount": (b'{"id": "1", "to": "1002"}', 422),
    "nobody": (b'{"id": "1", "amount": "5"}', 422),
    "a colon": (b'{"id": "1:2", "to": "1002", "amount": "5"}', 422),
    "an unknown field": (b'{"id": "1", "to": "1002", "amount": "5", "tip": 1}', 422),
    "a reversal of what": (b'{"id": "1", "event": "reversal"}', 404),
    "a reversal with an amount": (b'{"id": "1", "event": "reversal", "amount": "5"}', 422),
    "another event": (b'{"id": "1", "event": "gift"}', 422),
}


@pytest.mark.parametrize(("raw", "status"), BROKEN.values(), ids=BROKEN)
@pytest_twisted.ensureDeferred
async def test_a_wrong_notice_is_explained_and_lost_nowhere(biller, raw, status):
    before = biller.everything()
    answer = await notify(biller.client(), raw=raw)
    assert answer.code == status, answer.bytes
    assert answer.body["detail"]
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_a_large_body_is_too_large(biller):
    answer = await notify(biller.client(), raw=b" " * 70_000)
    assert (answer.code, answer.body["code"]) == (413, "TOO_LARGE")


@pytest_twisted.ensureDeferred
async def test_without_the_currency_a_provider_tries_again(biller):
    with biller.engine.begin() as tx:
        tx.execute(sa.update(tables.tariff).values(currency="EUR"))
    answer = await notify(biller.client())
    assert (answer.code, answer.body["code"]) == (503, "NOT_READY")
    with biller.engine.begin() as tx:
        tx.execute(sa.update(tables.tariff).values(currency="BRL"))
    assert (await notify(biller.client())).code == 200


@pytest_twisted.ensureDeferred
async def test_a_reversal_follows_the_providers_setting(biller):
    client, back = biller.client(), {"event": "reversal", "id": "T1"}
    assert (await notify(client)).code == 200
    answers = [await notify(client, back) for _ in range(2)]
    assert [(each.code, each.body["state"], each.body["taken"]) for each in answers] == [(200, "reversed", 1250)] * 2
    assert (await notify(client)).body["state"] == "reversed"
    for pay in (lambda body: notify(client, body), lambda body: mobile(client, body)):
        assert (await pay(PAID | {"id": "T2"})).code == 200
    admin = await biller.logged_in("admin")
    spent = {"username": "ana", "kind": "voice", "value": -2000, "origin": "spent"}
    assert (await admin.post("/api/v1/transfers", spent, headers={"Idempotency-Key": "s"})).code == 201
    back = {"event": "reversal", "id": "T2"}
    refused = await notify(client, back)
    assert (refused.code, refused.body["code"], posted(biller)) == (409, "NO_CREDIT", 500)
    owed = await mobile(client, back)
    assert (owed.body["taken"], owed.body["debt"], posted(biller)) == (500, 750, 0)
    (row,) = (await admin.get(f"{PATH}?debt=true")).body["items"]
    assert (row["provider"], row["debt"], row["username"]) == ("mobile", 750, "ana")


@pytest_twisted.ensureDeferred
async def test_the_staff_assigns_what_nobody_has(biller):
    answer = await notify(biller.client(), PAID | {"to": "999"})
    assert (answer.code, answer.body["state"]) == (200, "unassigned")
    clara, ana = await biller.logged_in("clara"), await biller.logged_in("ana")
    (row,) = (await clara.get(f"{PATH}?state=unassigned")).body["items"]
    assert (row["recipient"], row["username"], row["amount"]) == ("999", None, "12.5")
    metrics = await (await biller.logged_in("admin")).get("/metrics")
    assert b"\ncelcombiller_unassigned_payments 1.0\n" in metrics.bytes
    assert (await ana.get(PATH)).code == 403
    assert (await clara.post(f"{PATH}/1/assignment", {"username": "nobody"})).code == 404
    for _ in range(2):
        answer = await clara.post(f"{PATH}/1/assignment", {"username": "ana"})
        assert (answer.code, answer.body["state"], answer.body["username"]) == (200, "credited", "ana")
    assert (await clara.post(f"{PATH}/1/assignment", {"username": "bia"})).code == 409
    assert posted(biller) == 1250
    answer = await clara.post(f"{PATH}/1/reversal", {"note": "paid twice"})
    assert (answer.body["state"], answer.body["taken"], posted(biller)) == ("reversed", 1250, 0)
    assert (await clara.get(f"{PATH}/1")).body == answer.body
    assert (await clara.get(f"{PATH}/2")).code == 404
    (newest, *_) = (await (await biller.logged_in("admin")).get("/api/v1/trail")).body["items"]
    assert (newest["actor"], newest["action"]) == ("admin", "log in")
