"""Offers and bundles over real HTTP: who may give, buy, see and end them."""

from datetime import datetime, timedelta

import pytest
import pytest_twisted

from celcombiller.core.schema import tables
from tests.rest.v1.test_transfers import give as credit
from tests.rest.v1.test_transfers import refused, voice
from tests.support.http.api_service import biller_fixture, header

biller = biller_fixture()
HOUR = {"username": "ana", "name": "free hour", "kind": "seconds", "amount": 3600, "valid_hours": 720}
OFFER = {"name": "hour", "price": 300, "kind": "seconds", "amount": 3600, "valid_hours": 24}


async def post(client, path, body, key="k"):
    return await client.post(f"/api/v1/{path}", body, headers={"Idempotency-Key": key})


async def sold(admin, **more):
    answer = await admin.post("/api/v1/offers", OFFER | more)
    assert answer.code == 201, answer.bytes
    return answer.body


@pytest_twisted.ensureDeferred
async def test_a_given_bundle_is_seen_by_its_subscriber(biller):
    clara, ana = await biller.logged_in("clara"), await biller.logged_in("ana")
    answer = await post(clara, "bundles", HOUR | {"destinations": ["+55", "on-net"], "note": "a present"})
    assert answer.code == 201, answer.bytes
    made = answer.body
    valid = datetime.fromisoformat(made["valid_until"]) - datetime.fromisoformat(made["valid_from"])
    assert valid == timedelta(hours=720)
    assert {name: made[name] for name in ("username", "name", "kind", "amount", "left", "held", "state")} == {
        "username": "ana",
        "name": "free hour",
        "kind": "seconds",
        "amount": 3600,
        "left": 3600,
        "held": 0,
        "state": "valid",
    }
    assert (made["services"], made["destinations"], made["renews"]) == (["voice"], ["55", "on-net"], False)
    assert (await ana.get(header(answer, "location").removeprefix(biller.base))).body == made
    for path in ("me/bundles", "subscribers/ana/bundles", "bundles", "bundles?username=ana&ended=false"):
        assert (await ana.get(f"/api/v1/{path}")).body["items"] == [made], path
    assert (await ana.get("/api/v1/me")).body["bundles"] == [made]
    assert (await ana.get("/api/v1/subscribers/ana/accounts")).body["bundles"] == [made]
    (line,) = (await ana.get(f"/api/v1/bundles/{made['id']}/statement")).body["items"]
    assert (line["kind"], line["value"], line["posted"], line["note"]) == ("seconds", 3600, 3600, "a present")
    (listed,) = (await clara.get("/api/v1/transfers")).body["items"]
    assert listed == line
    (row,) = [each for each in biller.rows(tables.trail) if each["action"] == "give bundle"]
    assert (row["actor"], row["subject"]) == ("clara", "subscriber:ana")
    assert biller.audit().ok


@pytest_twisted.ensureDeferred
async def test_a_repeated_key_gives_one_bundle(biller):
    admin = await biller.logged_in("admin")
    first = await post(admin, "bundles", HOUR)
    before = biller.everything()
    again = await post(admin, "bundles", HOUR)
    assert (again.code, again.body) == (201, first.body)
    refused(await post(admin, "bundles", HOUR | {"amount": 60}), 409, "CONFLICT")
    refused(await credit(admin, 100), 409, "CONFLICT")
    assert biller.everything() == before
    clara = await biller.logged_in("clara")
    assert (await post(clara, "bundles", HOUR)).body["id"] != first.body["id"]


@pytest_twisted.ensureDeferred
async def test_a_subscriber_buys_for_themselves_only(biller):
    admin, ana = await biller.logged_in("admin"), await biller.logged_in("ana")
    offer = await sold(admin, renews=True)
    refused(await post(ana, "me/bundles", {"offer_id": offer["id"]}), 409, "NO_CREDIT")
    await credit(admin, 700, "money")
    first = await post(ana, "me/bundles", {"offer_id": offer["id"]})
    assert (first.code, first.body["offer_id"], first.body["renews"]) == (201, offer["id"], True)
    assert (await post(ana, "me/bundles", {"offer_id": offer["id"]})).body == first.body
    assert (await voice(ana))["available"] == 400
    refused(await post(ana, "subscribers/bia/bundles", {"offer_id": offer["id"]}, "2"), 403, "FORBIDDEN")
    refused(await post(ana, "bundles", HOUR, "3"), 403, "FORBIDDEN")
    second = await post(admin, "subscribers/ana/bundles", {"offer_id": offer["id"], "renews": False}, "4")
    assert (second.code, second.body["renews"]) == (201, False)
    assert (await voice(ana))["available"] == 100
    bought = [each["actor"] for each in biller.rows(tables.trail) if each["action"] == "buy offer"]
    assert bought == ["ana", "admin"]
    assert biller.audit().ok


@pytest_twisted.ensureDeferred
async def test_others_bundles_are_not_found(biller):
    admin, bia = await biller.logged_in("admin"), await biller.logged_in("bia")
    made = (await post(admin, "bundles", HOUR)).body
    for path in ("", "/statement"):
        refused(await bia.get(f"/api/v1/bundles/{made['id']}{path}"), 404, "NOT_FOUND")
    refused(await bia.patch(f"/api/v1/bundles/{made['id']}", {"renews": False}), 404, "NOT_FOUND")
    refused(await bia.post(f"/api/v1/bundles/{made['id']}/end", {}), 403, "FORBIDDEN")
    assert (await bia.get("/api/v1/bundles")).body["items"] == []


@pytest_twisted.ensureDeferred
async def test_offers_are_the_administrators(biller):
    admin, clara, ana = [await biller.logged_in(each) for each in ("admin", "clara", "ana")]
    for client in (clara, ana):
        refused(await client.post("/api/v1/offers", OFFER), 403, "FORBIDDEN")
    made = await sold(admin, destinations=["on-net"], services=["voice"])
    path = f"/api/v1/offers/{made['id']}"
    refused(await admin.post("/api/v1/offers", OFFER), 409, "TAKEN")
    assert (await ana.get("/api/v1/offers")).body["items"] == [made] == [(await ana.get(path)).body]
    changed = await admin.patch(path, {"price": 0, "enabled": False, "destinations": []})
    assert (changed.body["price"], changed.body["enabled"], changed.body["destinations"]) == (0, False, [])
    assert (await ana.get("/api/v1/offers")).body["items"] == []
    refused(await ana.get(path), 404, "NOT_FOUND")
    refused(await post(ana, "me/bundles", {"offer_id": made["id"]}), 404, "NOT_FOUND")
    refused(await post(clara, "subscribers/ana/bundles", {"offer_id": made["id"]}), 422, "INVALID")
    assert (await clara.get(path)).body == changed.body
    assert (await admin.delete(path)).code == 204
    refused(await admin.get(path), 404, "NOT_FOUND")
    subjects = [each["action"] for each in biller.rows(tables.trail) if each["subject"] == f"offer:{made['id']}"]
    assert subjects == ["add", "change", "delete"]


@pytest_twisted.ensureDeferred
async def test_a_bundle_is_changed_and_ended(biller):
    admin, ana = await biller.logged_in("admin"), await biller.logged_in("ana")
    offer = await sold(admin, price=0)
    made = (await post(ana, "me/bundles", {"offer_id": offer["id"]})).body
    path = f"/api/v1/bundles/{made['id']}"
    assert (await ana.patch(path, {"renews": True})).body["renews"] is True
    ended = await admin.post(f"{path}/end", {"note": "a mistake"})
    assert (ended.code, ended.body["state"], ended.body["left"]) == (200, "ended", 0)
    assert (await admin.post(f"{path}/end", {})).body == ended.body
    refused(await ana.patch(path, {"renews": True}), 422, "INVALID")
    assert (await ana.get("/api/v1/me/bundles")).body["items"] == []
    assert [each["id"] for each in (await ana.get("/api/v1/bundles?ended=true")).body["items"]] == [made["id"]]
    assert biller.audit().ok


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "minutes"},
        {"amount": 0},
        {"amount": 2**53},
        {"valid_hours": 0},
        {"services": ["sms"]},
        {"services": ["fax"]},
        {"destinations": ["abc"]},
        {"priority": 5000},
        {"name": "17"},
        {"name": ""},
        {"valid_from": "2000-01-01T00:00:00Z"},
        {"colour": "red"},
    ],
)
@pytest_twisted.ensureDeferred
async def test_wrong_fields_of_a_bundle_are_named(biller, wrong):
    admin = await biller.logged_in("admin")
    answer = refused(await post(admin, "bundles", HOUR | wrong), 422, "INVALID")
    assert answer["fields"].keys() == wrong.keys()
    assert biller.rows(tables.bundle) == []


@pytest_twisted.ensureDeferred
async def test_a_schedule_may_give_an_offer(biller):
    admin = await biller.logged_in("admin")
    offer = await sold(admin)
    body = {"name": "gifts", "recurrence": "monthly", "day": 1}
    made = await admin.post("/api/v1/schedules", body | {"offer_id": offer["id"]})
    assert made.code == 201, made.bytes
    assert (made.body["kind"], made.body["value"], made.body["offer_id"]) == ("bundle", 3600, offer["id"])
    assert refused(await admin.post("/api/v1/schedules", body | {"name": "x"}), 422, "INVALID")["fields"].keys() == {
        "value"
    }
    refused(await admin.post("/api/v1/schedules", body | {"name": "x", "offer_id": 99}), 404, "NOT_FOUND")
    changed = await admin.patch(f"/api/v1/schedules/{made.body['id']}", {"value": 5})
    assert (changed.body["kind"], changed.body["value"], changed.body["offer_id"]) == ("voice", 5, None)


@pytest_twisted.ensureDeferred
async def test_a_planned_gift_is_shown_and_not_given(biller):
    clara, ana = await biller.logged_in("clara"), await biller.logged_in("ana")
    before = biller.everything()
    answer = await clara.post("/api/v1/bundles/plan", HOUR | {"destinations": ["+55"], "services": ["voice"]})
    assert answer.code == 200, answer.bytes
    shown = answer.body
    valid = [datetime.fromisoformat(shown.pop(name)) for name in ("valid_until", "valid_from")]
    assert valid[0] - valid[1] == timedelta(hours=720)
    assert shown == {
        "username": "ana",
        "subscriber": "Ana",
        "clid": "1002",
        "name": "free hour",
        "kind": "seconds",
        "amount": 3600,
        "unlimited": False,
        "services": ["voice"],
        "destinations": ["55"],
        "priority": 0,
        "call_seconds_max": None,
    }
    refused(await clara.post("/api/v1/bundles/plan", HOUR | {"username": "nobody"}), 404, "UNKNOWN")
    for wrong in ({"valid_from": "2020-01-01T00:00:00Z"}, {"services": ["sms"]}):
        refused(await clara.post("/api/v1/bundles/plan", HOUR | wrong), 422, "INVALID")
    refused(await ana.post("/api/v1/bundles/plan", HOUR), 403, "FORBIDDEN")
    assert biller.everything() == before
