"""Trunks and routes by /api/v1, and what calls show of them."""

from datetime import UTC, datetime

import pytest_twisted

from celcombiller.core.charging.batch import process_batch
from celcombiller.core.routing import trunk_records
from celcombiller.database.transaction import transact
from tests.core.charging.test_call_limits import provider, terms
from tests.core.ledger.test_book import credit, ended, initiate
from tests.rest.v1.test_transfers import refused
from tests.support.http.api_service import biller_fixture, header

biller = biller_fixture()
TRUNKS, ROUTES = "/api/v1/trunks", "/api/v1/routes"


async def made(client, name="north", **facts):
    answer = await client.post(TRUNKS, {"name": name, "dial": f"PJSIP/{{number}}@{name}", **facts})
    assert answer.code == 201, answer.bytes
    return answer


@pytest_twisted.ensureDeferred
async def test_a_trunk_is_made_shown_changed_and_deleted(biller):
    admin = await biller.logged_in("admin")
    answer = await made(admin, strip="+", calls_max=3)
    assert header(answer, "location") == f"{biller.base}{TRUNKS}/1"
    shown = (await admin.get(f"{TRUNKS}/1")).body
    assert shown == answer.body
    assert (shown["strip"], shown["calls_max"], shown["enabled"], shown["open_calls"]) == ("+", 3, True, 0)
    changed = await admin.patch(f"{TRUNKS}/1", {"calls_max": None, "enabled": False})
    assert changed.body == shown | {"calls_max": None, "enabled": False}
    assert (await admin.get(TRUNKS)).body == {"items": [changed.body], "next": None}
    refused(await admin.post(TRUNKS, {"name": "north", "dial": "PJSIP/{number}"}), 409, "TAKEN")
    refused(await admin.patch(f"{TRUNKS}/1", {"dial": "PJSIP/{number},60"}), 422, "INVALID")
    refused(await admin.patch(f"{TRUNKS}/1", {"tariff_id": 77}), 404, "UNKNOWN_TARIFF")
    assert (await admin.delete(f"{TRUNKS}/1")).code == 204
    refused(await admin.get(f"{TRUNKS}/1"), 404, "UNKNOWN_TRUNK")


@pytest_twisted.ensureDeferred
async def test_a_route_is_made_shown_changed_and_deleted(biller):
    admin = await biller.logged_in("admin")
    for name in ("north", "south"):
        await made(admin, name)
    body = {"prefix": "+55", "choose": "weight", "trunks": [{"trunk_id": 2, "weight": 3}, {"trunk_id": 1}]}
    answer = await admin.post(ROUTES, body)
    shown = {"id": 1, "prefix": "55", "choose": "weight", "trunks": [{"trunk_id": 2, "weight": 3}]}
    shown["trunks"].append({"trunk_id": 1, "weight": 1})
    assert (answer.code, header(answer, "location"), answer.body) == (201, f"{biller.base}{ROUTES}/1", shown)
    assert (await admin.get(ROUTES)).body == {"items": [shown], "next": None}
    refused(await admin.delete(f"{TRUNKS}/1"), 409, "IN_USE")
    changed = await admin.patch(f"{ROUTES}/1", {"prefix": "", "trunks": [{"trunk_id": 2}]})
    assert changed.body == shown | {"prefix": "", "trunks": [{"trunk_id": 2, "weight": 1}]}
    assert (await admin.get(f"{ROUTES}/1")).body == changed.body
    assert (await admin.delete(f"{ROUTES}/1")).code == 204
    refused(await admin.get(f"{ROUTES}/1"), 404, "UNKNOWN_ROUTE")


@pytest_twisted.ensureDeferred
async def test_only_administrators_change_trunks_and_routes(biller):
    await made(await biller.logged_in("admin"))
    ana = await biller.logged_in("ana")
    for path in (TRUNKS, ROUTES, f"{TRUNKS}/1"):
        refused(await ana.get(path), 403, "FORBIDDEN")
    refused(await ana.patch(f"{TRUNKS}/1", {"enabled": False}), 403, "FORBIDDEN")


@pytest_twisted.ensureDeferred
async def test_a_call_shows_its_trunk_to_staff(biller):
    admin, ana = await biller.logged_in("admin"), await biller.logged_in("ana")
    await made(admin)

    def work(tx):
        north = trunk_records.find(tx, "north")
        tariffs = [provider(7)]
        policy = terms(trunks=[north], tariffs=tariffs)
        now = datetime.now(UTC)
        asked = [credit(100, "for a call", "ana"), initiate("1.0", "1002", "5511"), ended("1.0", talk_ms=9000)]
        process_batch(tx, policy, asked, now)

    transact(biller.engine, work)
    (shown,) = (await admin.get("/api/v1/calls")).body["items"]
    facts = {name: shown[name] for name in ("trunk", "trunks_tried", "trunk_cost", "margin")}
    assert facts == {"trunk": "north", "trunks_tried": [], "trunk_cost": None, "margin": None}
    assert (await admin.get(f"/api/v1/calls/{shown['id']}")).body["trunk"] == "north"
    assert (await admin.get("/api/v1/calls.csv")).bytes.decode().splitlines()[1].endswith(",north,,,,")
    (own,) = (await ana.get("/api/v1/calls")).body["items"]
    assert own["trunk"] is None
