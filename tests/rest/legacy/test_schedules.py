"""The original's schedules over real HTTP: both shapes of them, who is in them, renewals, and what is refused."""

import json
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote

import pytest
import pytest_twisted

from celcombiller.core.schedules import memberships, schedule_records
from celcombiller.core.schema import tables
from celcombiller.database.transaction import transact
from celcombiller.rest.legacy import collections
from tests.support import schedules as rounds
from tests.support.http.api_service import biller_fixture, header

running = biller_fixture()


@pytest_twisted.async_yield_fixture
async def biller(running):
    """A biller for which the tests do the rounds."""
    await running.credit_nothing_itself()
    yield running


@pytest.fixture(autouse=True)
def every_count_is_new(monkeypatch):
    """Keep no count: on a busy machine the count of four rows may take long enough to be kept."""
    monkeypatch.setattr(collections, "SLOW_SECONDS", 3600)


PLAN = {"name": "Plano 1", "day": "5", "value": "600", "kind": 1}
GROUP = {"name": "group_name", "day": 1, "month": 1, "year": 3000, "count": 10}


def looking_for(**q):
    return f"?q={quote(json.dumps(q))}"


def pair(schedule_id, user_id, op="eq"):
    filters = [{"name": "schedule_id", "op": "eq", "val": schedule_id}, {"name": "user_id", "op": op, "val": user_id}]
    return {"filters": filters}


def members_of(biller):
    return {
        (row["schedule_id"], row["subscriber_id"]): row["count"]
        for row in biller.rows(tables.membership)
        if row["ended_at"] is None
    }


# -- schedules -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_schedule_is_made_shown_changed_and_ended(biller):
    client = await biller.logged_in("clara")
    answer = await client.post("/api/schedule", PLAN)
    assert answer.code == 201, answer.bytes
    assert header(answer, "location") == f"{biller.base}/api/schedule/1"
    assert list(answer.body) == ["_id", "name", "day", "value", "kind"]
    assert answer.body == {"_id": 1, "name": "Plano 1", "day": 5, "value": 600, "kind": 1}
    assert (await client.post("/api/schedule", PLAN | {"day": 31})).body["day"] == 28  # and names may repeat
    answer = await client.patch("/api/schedule/1", {"day": 31, "value": "0", "kind": "3", "name": "Plano 2"})
    assert answer.body == {"_id": 1, "name": "Plano 2", "day": 31, "value": 0, "kind": 3}
    assert (await client.get("/api/schedule/1")).body == answer.body
    assert (await client.get("/api/schedules/" + quote("Plano 2"))).body == answer.body
    listed = (await client.get("/api/schedule")).body
    assert (listed["num_results"], listed["objects"][0]) == (2, answer.body)
    assert (await client.get("/api/schedules")).body == listed
    assert (await client.delete("/api/schedule/1")).code == 204
    for method in ("GET", "PATCH", "DELETE"):
        gone = await client.ask(method, "/api/schedule/1", {} if method == "PATCH" else None)
        assert (gone.code, gone.body) == (404, {})
    actions = [row["action"] for row in biller.rows(tables.trail) if row["subject"].startswith("schedule:")]
    assert actions == ["add", "add", "change", "delete"]


@pytest_twisted.ensureDeferred
async def test_a_group_has_first_date_count_and_members(biller):
    client = await biller.logged_in("admin")
    answer = await client.post("/api/schedules", GROUP | {"users": [2, "3", 2], "value": "60", "kind": 2})
    assert answer.code == 201, answer.bytes
    assert header(answer, "location") == f"{biller.base}/api/schedules/group_name"
    assert answer.body == {"_id": 1, "name": "group_name", "day": 1, "value": 60, "kind": 2}
    (row,) = biller.rows(tables.schedule)
    assert (row["first_on"].isoformat(), row["count"], row["recurrence"]) == ("3000-01-01", 10, "monthly")
    assert members_of(biller) == {(1, 2): 10, (1, 3): 10}
    answer = await client.post("/api/schedules", GROUP)
    assert (answer.code, answer.body["message"]) == (400, "Already has this Group")
    answer = await client.post("/api/schedules", {"name": "plain", "day": 31, "value": 5, "kind": 3})
    assert (answer.code, answer.body["day"]) == (201, 31)


@pytest_twisted.ensureDeferred
async def test_an_invalid_group_is_refused_whole(biller):
    client = await biller.logged_in("admin")
    before = biller.everything()
    for wrong in (
        {"year": 2016},
        {"day": 30, "month": 2},
        {"month": None},
        {"year": datetime.now(UTC).year - 1},
    ):
        answer = await client.post("/api/schedules", GROUP | wrong)
        assert (answer.code, answer.body["message"].startswith("Date not accept")) == (400, True), wrong
    for field, value in (
        ("day", 0),
        ("day", 32),
        ("month", 13),
        ("year", 10000),
        ("count", -1),
        ("count", "many"),
        ("count", 10**9),
        ("value", -5),
        ("value", 2**53),
        ("value", 0.5),
        ("kind", 4),
        ("name", ""),
        ("name", "a/b"),
        ("name", "a\nb"),
        ("name", None),
        ("users", "2"),
        ("users", [99]),
        ("users", ["x"]),
        ("users", [2, -1]),
        ("users", list(range(201))),
        ("interval", 5),
    ):
        answer = await client.post("/api/schedules", GROUP | {field: value})
        assert (answer.code, list(answer.body["validation_errors"])) == (400, [field]), (field, value)
    for missing in PLAN:
        answer = await client.post("/api/schedule", {name: value for name, value in PLAN.items() if name != missing})
        assert (answer.code, answer.body["validation_errors"]) == (400, {missing: "is missing"})
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_joining_and_leaving_update_the_group(biller):
    client = await biller.logged_in("admin")
    await client.post("/api/schedules", GROUP | {"users": [2]})
    here = "/api/schedules/group_name"
    answer = await client.patch(here, {})
    assert (answer.code, answer.body["name"]) == (200, "group_name")
    assert (await client.patch(here, {"newUser": [2, 3]})).code == 200
    assert members_of(biller) == {(1, 2): 10, (1, 3): 10}
    assert (await client.patch(here, {"removeUser": ["2"], "updateGroup": 1, "name": "new"})).body["name"] == "new"
    assert members_of(biller) == {(1, 3): 10}
    assert (await client.patch("/api/schedules/new", {"removeUser": [2, 99]})).code == 200
    assert (await client.patch(here, {})).body == {}
    await client.post("/api/schedules", GROUP)
    answer = await client.patch(here, {"name": "new"})
    assert (answer.code, answer.body["message"]) == (400, "Already has this Group")
    answer = await client.patch(here, {"newUser": [2, 99]})
    assert (answer.code, list(answer.body["validation_errors"])) == (400, ["newUser"])
    assert members_of(biller) == {(1, 3): 10}
    await client.post("/api/schedule", PLAN | {"name": "new"})
    answer = await client.patch("/api/schedules/new", {"value": 1})
    assert (answer.code, "say which by /api/schedule/" in answer.body["message"]) == (400, True)
    assert (await client.delete(here)).code == 204
    assert (await client.delete(here)).body == {}


# -- memberships -----------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_user_joins_is_listed_and_leaves(biller):
    client = await biller.logged_in("clara")
    await client.post("/api/schedule", PLAN)
    answer = await client.post("/api/schedule_user", {"user_id": "2", "schedule_id": 1, "count": "6"})
    assert answer.code == 201, answer.bytes
    assert header(answer, "location") == f"{biller.base}/api/schedule_user/1"
    assert answer.body == {"_id": 1, "user_id": 2, "schedule_id": 1, "count": 6}
    again = await client.post("/api/schedule_user", {"user_id": 2, "schedule_id": 1, "count": 6})
    assert (again.code, again.body["message"]) == (409, "the user already exists")
    listed = (await client.get("/api/schedule_user")).body
    more = {"schedule_name": "Plano 1", "day": 5, "value": 600, "kind": 1}
    assert listed["objects"] == [answer.body | more]
    single = await client.get("/api/schedule_user" + looking_for(**pair(1, 2), single=True))
    assert single.body == answer.body | more
    assert (await client.get("/api/schedule_user/1")).body == answer.body
    assert (await client.patch("/api/schedule_user/1", {"count": "0"})).body["count"] == 0
    assert (await client.patch("/api/schedule_user/1", {})).body["count"] == 0
    for field in ("_id", "user_id", "schedule_id"):
        wrong = await client.patch("/api/schedule_user/1", {field: 1, "count": 5})
        assert (wrong.code, list(wrong.body["validation_errors"])) == (400, [field])
    assert (await client.delete("/api/schedule_user/1")).code == 204
    assert (await client.delete("/api/schedule_user/1")).body == {}
    assert (await client.patch("/api/schedule_user/1", {"count": 5})).body == {}
    assert (await client.get("/api/schedule_user")).body["num_results"] == 0
    for field, value in (("user_id", 99), ("schedule_id", 99), ("count", -1), ("count", None), ("schedule_id", "x")):
        body = {"user_id": 2, "schedule_id": 1, "count": 1} | {field: value}
        wrong = await client.post("/api/schedule_user", body)
        assert (wrong.code, list(wrong.body["validation_errors"])) == (400, [field]), (field, value)


@pytest_twisted.ensureDeferred
async def test_a_membership_is_renewed_by_search(biller):
    client = await biller.logged_in("admin")
    await client.post("/api/schedule", PLAN)
    await client.post("/api/schedule_user", {"user_id": 2, "schedule_id": 1, "count": 1})
    for number, method in enumerate(("PATCH", "PUT"), 1):
        body = {"q": pair(1, "2"), "count": 7, "number": str(number)}
        answer = await client.ask(method, "/api/schedule_user", body)
        assert (answer.code, answer.body) == (200, {"num_modified": 1}), answer.bytes
    assert members_of(biller) == {(1, 2): 7}
    contracts = (await client.get("/api/schedule_contract")).body["objects"]
    assert [list(each) for each in contracts] == [["_id", "schedule_user_id", "date", "months"]] * 2
    assert [(each["schedule_user_id"], each["months"]) for each in contracts] == [(1, 1), (1, 2)]
    assert (await client.get("/api/schedule_contract/2")).body == contracts[1]
    before = biller.everything()
    for q in (
        {},
        {"filters": []},
        {"filters": pair(1, 2)["filters"][:1]},
        pair(1, 2, "ge"),
        {"filters": [{"or": pair(1, 2)["filters"]}]},
    ):
        answer = await client.patch("/api/schedule_user", {"q": q, "count": 1, "number": 1})
        assert (answer.code, "must have filters" in answer.body["message"]) == (400, True), q
    answer = await client.patch("/api/schedule_user", {"q": pair(1, 2), "count": 1})
    assert (answer.code, answer.body["validation_errors"]) == (400, {"number": "is missing"})
    answer = await client.patch("/api/schedule_user", {"q": pair(1, 3), "count": 1, "number": 1})
    assert (answer.code, answer.body) == (404, {"message": "No result found"})
    for method in ("POST", "PATCH", "DELETE"):
        for path in (
            "/api/schedule_contract",
            "/api/schedule_contract/1",
            "/api/schedule_input",
            "/api/schedule_input/1",
        ):
            answer = await client.ask(method, path, {})
            assert (answer.code, "nothing recorded is edited" in answer.body["message"]) == (405, True)
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_only_a_monthly_schedule_has_a_day(biller):
    def work(tx):
        facts = {"name": "weekly", "kind": 1, "value": 5, "count": 1, "time_zone": "UTC", "now": datetime.now(UTC)}
        schedule_records.add(tx, recurrence="weekly", day=3, interval_days=None, first_on=date(2026, 1, 1), **facts)

    transact(biller.engine, work)
    client = await biller.logged_in("admin")
    assert (await client.get("/api/schedule/1")).body["day"] is None
    answer = await client.patch("/api/schedule/1", {"day": 5})
    assert (answer.code, answer.body["validation_errors"]) == (400, {"day": "this schedule is not monthly"})
    assert (await client.patch("/api/schedule/1", {"value": 6})).body["value"] == 6


@pytest_twisted.ensureDeferred
async def test_runs_are_listed_by_movement_ids(biller):
    client = await biller.logged_in("admin")
    await client.post("/api/voice_balance", {"from_user_id": 2, "value": 1, "origin": "web"})
    tomorrow = datetime.now(UTC) + timedelta(days=1)

    def work(tx):
        for kind in (1, 3):
            memberships.join(tx, rounds.plan(tx, datetime.now(UTC), kind=kind, count=1), 2, now=datetime.now(UTC))

    transact(biller.engine, work)
    rounds.go(biller.engine, tomorrow)
    moved = [(row["_id"], row["origin"]) for row in (await client.get("/api/voice_balance")).body["objects"]]
    assert moved == [(1, "web"), (2, "schedule"), (3, "schedule")]
    (data,) = (await client.get("/api/data_balance")).body["objects"]
    bodies = [
        {"_id": 1, "schedule_id": 1, "voice_balance_id": 2, "data_balance_id": None},
        {"_id": 2, "schedule_id": 2, "voice_balance_id": 3, "data_balance_id": data["_id"]},
    ]
    assert (await client.get("/api/schedule_input")).body["objects"] == bodies
    assert (await client.get("/api/schedule_input/2")).body == bodies[1]
    assert (await client.get("/api/schedule_input/3")).body == {}
    assert (await (await biller.logged_in("ana")).get("/api/schedule_input")).body["num_results"] == 2
    assert (await (await biller.logged_in("bia")).get("/api/schedule_input")).body["num_results"] == 0


@pytest_twisted.ensureDeferred
async def test_a_deleted_user_leaves_all_schedules(biller):
    client = await biller.logged_in("admin")
    await client.post("/api/schedules", GROUP | {"users": [2, 3]})
    await client.delete("/api/users/ana")
    assert members_of(biller) == {(1, 3): 10}


@pytest_twisted.ensureDeferred
async def test_a_subscriber_sees_own_schedules_read_only(biller):
    admin = await biller.logged_in("admin")
    await admin.post("/api/schedules", GROUP | {"users": [2, 3]})
    await admin.post("/api/schedules", GROUP | {"name": "other", "users": [3]})
    await admin.patch("/api/schedule_user", {"q": pair(1, 3), "count": 1, "number": 1})
    client = await biller.logged_in("ana")
    for path, number in (("schedule", 1), ("schedules", 1), ("schedule_user", 1), ("schedule_contract", 0)):
        assert (await client.get(f"/api/{path}")).body["num_results"] == number
    for path in ("schedule/2", "schedules/other", "schedule_user/2", "schedule_contract/1"):
        assert (await client.get(f"/api/{path}")).body == {}
    before = biller.everything()
    for method, path, body in (
        ("POST", "/api/schedule", PLAN),
        ("PATCH", "/api/schedules/group_name", {"newUser": [2]}),
        ("PATCH", "/api/schedule_user/1", {"count": 99}),
        ("PATCH", "/api/schedule_user", {"q": pair(1, 2), "count": 99, "number": 1}),
        ("DELETE", "/api/schedule_user/1", None),
        ("DELETE", "/api/schedule/1", None),
    ):
        assert (await client.ask(method, path, body)).code == 403
    assert biller.everything() == before
    collaborator = await biller.logged_in("clara")
    answer = await collaborator.post("/api/schedule_user", {"user_id": 4, "schedule_id": 1, "count": 1})
    assert answer.code == 403
