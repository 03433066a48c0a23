"""Schedules and who is in them, by /api/v1: made, changed, forecast, credited, looked back at."""

from datetime import UTC, date, datetime, timedelta

import pytest_twisted

from celcombiller.core.schedules import runs, schedule_records
from celcombiller.core.schedules.runs import ScheduleRules
from celcombiller.core.schema import tables
from celcombiller.database.transaction import transact
from tests.rest.v1.test_transfers import refused
from tests.support.http.api_service import biller_fixture, header

running = biller_fixture()
MADE = {"name": "card", "kind": "both", "value": 50, "recurrence": "days", "interval_days": 1, "time_zone": "UTC"}
LIST = "/api/v1/schedules"


@pytest_twisted.async_yield_fixture
async def biller(running):
    """A biller for which the tests do the rounds."""
    await running.credit_nothing_itself()
    yield running


async def made(client, **facts):
    answer = await client.post(LIST, MADE | facts)
    assert answer.code == 201, answer.bytes
    return answer.body


def credit_all(biller, today):
    """Do what the service does when a date has come."""
    now = datetime(today.year, today.month, today.day, 12, tzinfo=UTC)

    def work(tx):
        for schedule in schedule_records.list_all(tx):
            runs.decide(tx, schedule.id, ScheduleRules(), today, now)
        for run in runs.open_runs(tx):
            while runs.advance(tx, run.id, ScheduleRules(), now, size=10).more:
                pass

    transact(biller.engine, work)


@pytest_twisted.ensureDeferred
async def test_a_schedule_is_made_shown_changed_and_ended(biller, today):
    admin = await biller.logged_in("admin")
    answer = await admin.post(LIST, MADE | {"recurrence": "monthly", "day": 31, "interval_days": None, "count": 3})
    shown = answer.body
    assert (answer.code, header(answer, "location")) == (201, f"{biller.base}{LIST}/1")
    assert (shown["kind"], shown["day"], shown["count"], shown["enabled"]) == ("both", 31, 3, True)
    assert date.fromisoformat(shown["next_on"]) >= today
    assert (await admin.get(f"{LIST}/1")).body == shown
    changed = await admin.patch(f"{LIST}/1", {"value": 60, "kind": "voice", "enabled": False})
    assert changed.body == shown | {"value": 60, "kind": "voice", "enabled": False}
    weekly = await admin.patch(f"{LIST}/1", {"recurrence": "weekly", "day": 7})
    assert (weekly.body["recurrence"], weekly.body["day"]) == ("weekly", 7)
    assert (await admin.delete(f"{LIST}/1")).code == 204
    refused(await admin.get(f"{LIST}/1"), 404, "UNKNOWN_SCHEDULE")
    assert (await admin.get(LIST)).body == {"items": [], "next": None}
    actions = [row["action"] for row in biller.rows(tables.trail) if row["subject"] == "schedule:1"]
    assert actions == ["add", "change", "change", "delete"]


@pytest_twisted.ensureDeferred
async def test_what_makes_no_schedule_is_refused_by_field(biller):
    admin = await biller.logged_in("admin")
    before = biller.everything()
    for wrong, field in (
        ({"value": -1}, "value"),
        ({"value": 2**53}, "value"),
        ({"kind": "gold"}, "kind"),
        ({"kind": 1}, "kind"),
        ({"interval_days": 0}, "interval_days"),
        ({"interval_days": None}, "interval_days"),
        ({"day": 5}, "day"),
        ({"recurrence": "monthly", "interval_days": None}, "day"),
        ({"recurrence": "weekly", "interval_days": None, "day": 8}, "day"),
        ({"recurrence": "once", "interval_days": None, "first_on": "2020-01-01"}, "first_on"),
        ({"first_on": "2026-02-30"}, "first_on"),
        ({"first_on": "9999-01-01"}, "first_on"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"name": "a\nb"}, "name"),
        ({"count": 10**7}, "count"),
        ({"members": []}, "members"),
    ):
        answer = await admin.post(LIST, MADE | wrong)
        assert refused(answer, 422, "INVALID")["fields"].keys() == {field}, wrong
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_a_member_joins_is_changed_renewed_and_leaves(biller, today):
    admin = await biller.logged_in("admin")
    await made(admin)
    answer = await admin.post(f"{LIST}/1/members", {"username": "ana", "count": 2, "joined_on": str(today)})
    shown = {"schedule_id": 1, "username": "ana", "name": "Ana", "count": 2, "joined_on": str(today)}
    assert (answer.code, answer.body) == (201, shown)
    assert header(answer, "location") == f"{biller.base}{LIST}/1/members/ana"
    refused(await admin.post(f"{LIST}/1/members", {"username": "ana"}), 409, "TAKEN")
    assert (await admin.patch(f"{LIST}/1/members/ana", {"count": 5})).body["count"] == 5
    renewed = await admin.post(f"{LIST}/1/members/ana/renewals", {"count": 12, "months": 6})
    assert (renewed.code, renewed.body["count"]) == (201, 12)
    whole = (await admin.get(f"{LIST}/1/members/ana")).body
    assert [each["months"] for each in whole["contracts"]] == [6]
    assert (await admin.get(f"{LIST}/1/members")).body["items"] == [shown | {"count": 12}]
    assert (await admin.get("/api/v1/subscribers/ana/memberships")).body["items"] == [shown | {"count": 12}]
    assert (await admin.delete(f"{LIST}/1/members/ana")).code == 204
    for answer in (
        await admin.get(f"{LIST}/1/members/ana"),
        await admin.delete(f"{LIST}/1/members/ana"),
        await admin.patch(f"{LIST}/1/members/ana", {"count": 1}),
        await admin.post(f"{LIST}/1/members/ana/renewals", {"count": 1, "months": 1}),
    ):
        refused(answer, 404, "UNKNOWN_MEMBERSHIP")
    refused(await admin.post(f"{LIST}/1/members", {"username": "nobody"}), 404, "UNKNOWN")
    refused(await admin.post(f"{LIST}/7/members", {"username": "ana"}), 404, "UNKNOWN_SCHEDULE")


@pytest_twisted.ensureDeferred
async def test_a_collaborator_manages_schedules_a_subscriber_sees_own(biller):
    admin, clara, ana = [await biller.logged_in(name) for name in ("admin", "clara", "ana")]
    await made(clara)
    assert (await clara.post(f"{LIST}/1/members", {"username": "ana"})).code == 201
    assert (await admin.post(f"{LIST}/1/members", {"username": "clara"})).code == 201
    for answer in (
        await clara.post(f"{LIST}/1/members", {"username": "admin"}),
        await clara.patch(f"{LIST}/1/members/clara", {"count": 99}),
        await clara.post(f"{LIST}/1/members/clara/renewals", {"count": 99, "months": 1}),
        await clara.delete(f"{LIST}/1/members/clara"),
        await ana.get(LIST),
        await ana.get(f"{LIST}/1/members"),
        await ana.post(f"{LIST}/1/members", {"username": "bia"}),
        await ana.get("/api/v1/subscribers/bia/memberships"),
    ):
        refused(answer, 403, "FORBIDDEN")
    assert len((await ana.get("/api/v1/subscribers/ana/memberships")).body["items"]) == 1


@pytest_twisted.ensureDeferred
async def test_the_forecast_and_the_run_agree(biller, today):
    admin = await biller.logged_in("admin")
    await made(admin)
    for username in ("ana", "bia"):
        await admin.post(f"{LIST}/1/members", {"username": username, "count": 2})
    await admin.patch("/api/v1/subscribers/bia", {"enabled": False})
    until = today + timedelta(days=1)
    forecast = (await admin.get(f"{LIST}/1/due?until={until}")).body
    assert forecast["until"] == str(until)
    counted = [(each["due_on"], each["credited"], each["passed"], each["total_voice"]) for each in forecast["dates"]]
    assert counted == [(str(today), 1, 1, 50), (str(until), 1, 1, 50)]
    turns = [(each["username"], each["outcome"], each["value"]) for each in forecast["members"]]
    assert turns == [("ana", "credited", 50), ("bia", "passed", 0)] * 2
    assert biller.rows(tables.transfer) == []
    credit_all(biller, today)
    (run,) = (await admin.get(f"{LIST}/1/runs")).body["items"]
    assert (run["due_on"], run["credited"], run["passed"], run["state"]) == (str(today), 1, 1, "open")
    whole = (await admin.get(f"/api/v1/runs/{run['id']}")).body
    assert [(each["username"], each["outcome"]) for each in whole["uncredited"]] == [("bia", "passed")]
    lines = (await admin.get("/api/v1/subscribers/ana/statement")).body["items"]
    assert [(each["kind"], each["value"], each["origin"]) for each in lines] == [
        ("data", 50, "schedule"),
        ("voice", 50, "schedule"),
    ]
    refused(await admin.get("/api/v1/runs/99"), 404, "NOT_FOUND")
    assert "until" in refused(await admin.get(f"{LIST}/1/due?until=tomorrow"), 422, "INVALID")["fields"]
    refused(await admin.get(f"{LIST}/1/due?until=2999-01-01"), 422, "INVALID")


@pytest_twisted.ensureDeferred
async def test_a_schedule_may_give_sms_credit(biller, today):
    admin = await biller.logged_in("admin")
    assert (await made(admin, kind="sms"))["kind"] == "sms"
    await admin.post(f"{LIST}/1/members", {"username": "ana"})
    (date_,) = (await admin.get(f"{LIST}/1/due?until={today}")).body["dates"]
    assert [date_[f"total_{kind}"] for kind in ("voice", "data", "sms")] == [0, 0, 50]
    credit_all(biller, today)
    shown = (await admin.get("/api/v1/subscribers/ana")).body
    assert [shown[kind]["posted"] for kind in ("voice", "data", "sms")] == [0, 0, 50]
    (run,) = (await admin.get(f"{LIST}/1/runs")).body["items"]
    assert (run["kind"], run["credited"]) == ("sms", 1)
    assert (await admin.get("/api/schedule/1")).body["kind"] == 4
    (moved,) = (await admin.get("/api/schedule_input")).body["objects"]
    assert (moved["voice_balance_id"], moved["data_balance_id"]) == (None, None)
    assert (await admin.patch(f"{LIST}/1", {"kind": "both"})).body["kind"] == "both"
    assert biller.audit().ok


@pytest_twisted.ensureDeferred
async def test_schedules_members_and_runs_come_page_by_page(biller, today):
    admin = await biller.logged_in("admin")
    for n in range(3):
        await made(admin, name=f"n{n}")
    for username in ("ana", "bia", "clara"):
        await admin.post(f"{LIST}/1/members", {"username": username, "count": 9})
    for days in range(3):
        credit_all(biller, today + timedelta(days=days))
    for path in (LIST, f"{LIST}/1/members", f"{LIST}/1/runs"):
        whole = (await admin.get(path)).body
        assert (len(whole["items"]), whole["next"]) == (3, None), path
        first = (await admin.get(f"{path}?limit=2")).body
        rest = (await admin.get(f"{path}?limit=2&cursor={first['next']}")).body
        assert (first["items"] + rest["items"], rest["next"]) == (whole["items"], None), path
        refused(await admin.get(f"{path}?cursor=zzz"), 422, "INVALID")


@pytest_twisted.ensureDeferred
async def test_a_schedule_has_a_name_of_its_own(biller):
    clara = await biller.logged_in("clara")
    await made(clara)
    said = refused(await clara.post(LIST, MADE), 409, "TAKEN")
    assert said["fields"] == {"name": "schedule 1 has it: 50 credits, days"}
    refused(await clara.post(LIST, MADE | {"name": "7"}), 422, "INVALID")
    other = await made(clara, name="other")
    refused(await clara.patch(f"{LIST}/{other['id']}", {"name": "card"}), 409, "TAKEN")
    assert (await clara.patch(f"{LIST}/{other['id']}", {"name": "other", "value": 1})).code == 200
    assert (await clara.delete(f"{LIST}/1")).code == 204
    assert (await clara.patch(f"{LIST}/{other['id']}", {"name": "card"})).code == 200


@pytest_twisted.ensureDeferred
async def test_the_originals_two_of_a_name_stay_apart(biller):
    clara = await biller.logged_in("clara")
    plan = {"name": "card", "day": 5, "value": 60, "kind": 1}
    assert [(await clara.post("/api/schedule", plan)).body["_id"] for _ in range(2)] == [1, 2]
    refused(await clara.post(LIST, MADE), 409, "TAKEN")
    assert (await clara.patch(f"{LIST}/2", {"value": 70})).body["value"] == 70


@pytest_twisted.ensureDeferred
async def test_lists_show_the_persons_name(biller):
    admin = await biller.logged_in("admin")
    await made(admin)
    assert (await admin.post(f"{LIST}/1/members", {"username": "ana"})).body["name"] == "Ana"
    credit = {"username": "ana", "kind": "voice", "value": 60}
    assert (await admin.post("/api/v1/transfers", credit, headers={"Idempotency-Key": "1"})).code == 201
    for path in (f"{LIST}/1/members", "/api/v1/subscribers/ana/memberships", "/api/v1/transfers"):
        (item,) = (await admin.get(path)).body["items"]
        assert (item["username"], item["name"]) == ("ana", "Ana"), path
    (item,) = (await admin.get("/api/v1/sessions")).body["items"]
    assert (item["username"], item["name"]) == ("admin", "Admin")


FEE = {"name": "fee", "value": 50, "recurrence": "days", "interval_days": 1, "time_zone": "UTC"}
TERMS = {"when_short": "retry", "joining": "days", "remind_days": [3, 0], "suspend_days": 7}


@pytest_twisted.ensureDeferred
async def test_a_fee_is_taken_seen_waived_and_undone(biller, today):
    admin, ana = await biller.logged_in("admin"), await biller.logged_in("ana")
    shown = (await admin.post(LIST, FEE | {"fee": TERMS})).body
    assert (shown["kind"], shown["value"], shown["fee"], shown["count"]) == ("fee", 50, TERMS, 1_000_000)
    assert (await admin.post(f"{LIST}/{shown['id']}/members", {"username": "ana"})).code == 201
    due = (await admin.get(f"{LIST}/{shown['id']}/due?until={today}")).body
    assert [(each["username"], each["value"], each["lacking"]) for each in due["members"]] == [("ana", 0, 50)]
    credit_all(biller, today)
    (owed,) = (await ana.get("/api/v1/fees")).body["items"]
    assert (owed["username"], owed["schedule"], owed["state"], owed["left"]) == ("ana", "fee", "owed", 50)
    assert (await ana.get(f"/api/v1/fees/{owed['id']}")).body == owed
    assert (await ana.get("/api/v1/fees?overdue=true")).body["items"] == [], "it may be owed for seven days"
    refused(await ana.post(f"/api/v1/fees/{owed['id']}/pay", {}), 409, "NO_CREDIT")
    refused(await ana.post(f"/api/v1/fees/{owed['id']}/waive", {}), 403, "FORBIDDEN")
    refused(await ana.post(f"/api/v1/runs/{owed['id']}/undo", {}), 403, "FORBIDDEN")
    waived = await admin.post(f"/api/v1/fees/{owed['id']}/waive", {"note": "storm"})
    assert (waived.code, waived.body["state"], waived.body["note"]) == (200, "waived", "storm")
    (run,) = (await admin.get(f"{LIST}/{shown['id']}/runs")).body["items"]
    undone = await admin.post(f"/api/v1/runs/{run['id']}/undo", {"note": "wrong"})
    assert (undone.code, undone.body["undone_at"] is None, undone.body["note"]) == (200, False, "wrong")
    actions = [row["action"] for row in biller.rows(tables.trail) if row["subject"].startswith(("fee:", "run:"))]
    assert actions == ["waive", "undo"]
    refused(await admin.post(LIST, FEE | {"name": "x", "fee": {"suspend_days": 366}}), 422, "INVALID")
    changed = await admin.patch(f"{LIST}/{shown['id']}", {"value": 60, "fee": TERMS | {"suspend_days": None}})
    assert (changed.body["value"], changed.body["fee"]["suspend_days"]) == (60, None)
