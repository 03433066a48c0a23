"""Schedules, members and fees on pages: made, changed, forecast, taken, waived and undone. Over real HTTP."""

from datetime import timedelta

import pytest
import pytest_twisted

from tests.rest.v1.test_schedules import credit_all
from tests.support.http.api_service import biller_fixture
from tests.support.http.pages import Reader, voice_of

running = biller_fixture()
NEW = "/ui/schedules/new"
DAILY = {"recurrence": "days", "day": "", "interval_days": "1", "time_zone": "UTC"}
FEE = DAILY | {"takes": "true", "value": "50", "remind_days": "3, 0", "suspend_days": "0", "when_short": "retry"}


@pytest_twisted.async_yield_fixture
async def biller(running):
    """A biller for which the tests do the rounds."""
    await running.credit_nothing_itself()
    yield running


async def made(reader, name, **fields):
    """Make a schedule; return its address."""
    page = await reader.fill(await reader.look(NEW), **{"name": name} | fields)
    assert "done=schedule_added" in page.path, page.text
    return page.path.partition("?")[0]


async def owed(biller, reader, name, today):
    """Have a fee of ana that is owed; return the address of its schedule and its own."""
    place = await made(reader, name, **FEE)
    await reader.fill(await reader.look(f"{place}/members"), username="ana")
    credit_all(biller, today)
    page = await reader.look(f"/ui/fees?state=owed&username=ana&schedule_id={place.rpartition('/')[2]}")
    return place, page.content.select_one("tbody a")["href"]


async def credit(biller, value, key):
    body = {"username": "ana", "kind": "voice", "value": value}
    answer = await (await biller.logged_in("admin")).post("/api/v1/transfers", body, headers={"Idempotency-Key": key})
    assert answer.code == 201, answer.bytes


@pytest_twisted.ensureDeferred
async def test_schedule_is_made_changed_and_deleted(biller):
    clara = Reader(await biller.logged_in("clara"))
    place = await made(clara, "monthly <hour>", value="3600", kind="both", day="31")
    page = await clara.look(place)
    assert "3,600 credits · calls and data" in page.text
    assert "monthly, on day 31" in page.text
    form = await clara.look(f"{place}/change")
    refused = await clara.fill(form, f"{place}/change", value="x")
    assert (refused.status, bool(refused.error_of("value"))) == (422, True)
    page = await clara.fill(form, f"{place}/change", recurrence="weekly", day="7", enabled="false")
    assert page.path == f"{place}?done=schedule_changed", page.text
    assert "weekly, on day 7" in page.text
    assert "disabled" in page.text
    page = await clara.send(f"{place}/delete")
    assert page.path == "/ui/schedules?done=schedule_deleted"
    assert "monthly <hour>" not in page.text
    assert (await clara.look(place)).status == 404


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"name": ""}, "name"),
        ({"value": ""}, "value"),
        ({"day": "32"}, "day"),
        ({"takes": "true", "remind_days": "soon"}, "remind_days"),
        ({"takes": "true", "suspend_days": "-1"}, "suspend_days"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refused_schedule_says_why(biller, fields, wrong):
    clara = Reader(await biller.logged_in("clara"))
    page = await clara.fill(await clara.look(NEW), **{"name": "refused", "value": "5"} | fields)
    assert (page.status, bool(page.error_of(wrong))) == (422, True), page.text
    assert "refused" not in (await clara.look("/ui/schedules")).text


@pytest_twisted.ensureDeferred
async def test_members_join_renew_once_and_leave(biller):
    clara = Reader(await biller.logged_in("clara"))
    place = await made(clara, "members", value="5", count="3", **DAILY)
    page = await clara.fill(await clara.look(f"{place}/members"), username="nobody")
    assert page.status == 404
    assert page.content.find("form", action=f"{place}/members")
    page = await clara.fill(await clara.look(f"{place}/members"), username="bia")
    assert "bia Bia 3" in page.text
    member = f"{place}/members/bia"
    page = await clara.fill(await clara.look(member), member, count="5")
    assert page.path == f"{member}?done=member_changed"
    form = await clara.look(f"{member}/renewals")
    for _ in range(2):
        page = await clara.fill(form, count="12", months="12")
        assert page.path == f"{member}?done=member_renewed", page.text
    assert len(page.content.select("tbody tr")) == 1
    late = await clara.fill(form, count="6", months="6")
    assert (late.status, late.fields(f"{member}/renewals")["months"]) == (409, "6")
    page = await clara.send(f"{member}/removal")
    assert page.path == f"{place}/members?done=member_removed"
    assert (await clara.look(member)).status == 404


@pytest_twisted.ensureDeferred
async def test_forecast_and_runs_show_credit(biller, today):
    clara = Reader(await biller.logged_in("clara"))
    place = await made(clara, "forecast", value="7", **DAILY)
    await clara.fill(await clara.look(f"{place}/members"), username="bia", count="2")
    page = await clara.look(f"{place}/forecast?until={today + timedelta(days=1)}")
    assert len(page.content.find("tbody").find_all("tr")) == 2
    assert "bia" in page.text
    assert (await clara.look(f"{place}/forecast?until=soon")).error_of("until")
    before = await voice_of(biller, "bia")
    credit_all(biller, today)
    assert await voice_of(biller, "bia") == before + 7
    page = await clara.look((await clara.look(place)).content.select_one("tbody a")["href"])
    assert "Members 1" in page.text
    assert page.content.main.find("form") is None, "only a fee is undone"


@pytest_twisted.ensureDeferred
async def test_fee_is_taken_once(biller, today):
    clara = Reader(await biller.logged_in("clara"))
    place, fee = await owed(biller, clara, "village", today)
    assert "village" in (await clara.look("/ui/fees?state=overdue")).text
    refused = await clara.send(f"{fee}/pay")
    assert refused.status == 409
    assert refused.content.find(attrs={"role": "alert"})
    await credit(biller, 80, "taken")
    before = await voice_of(biller, "ana")
    for _ in range(2):
        page = await clara.send(f"{fee}/pay")
        assert page.path == f"{fee}?done=fee_taken"
    assert await voice_of(biller, "ana") == before - 50
    assert "paid" in page.text
    run = (await clara.look(place)).content.select_one("tbody a")["href"]
    for _ in range(2):
        page = await clara.send(f"{run}/undo", note="wrong price")
        assert page.path == f"{run}?done=run_undone"
    assert "wrong price" in page.text


@pytest_twisted.ensureDeferred
async def test_waived_fee_is_not_owed(biller, today):
    clara = Reader(await biller.logged_in("clara"))
    _, fee = await owed(biller, clara, "storm", today)
    before = await voice_of(biller, "ana")
    refused = await clara.send(f"{fee}/waiver", note="x" * 201)
    assert (refused.status, bool(refused.error_of("note"))) == (422, True)
    for _ in range(2):
        page = await clara.send(f"{fee}/waiver", note="the mast was down")
        assert page.path == f"{fee}?done=fee_waived"
    assert "waived" in page.text
    assert await voice_of(biller, "ana") == before
    assert (await clara.send(f"{fee}/pay")).status == 422


@pytest_twisted.ensureDeferred
async def test_subscriber_has_their_schedules_and_fees(biller):
    clara = Reader(await biller.logged_in("clara"))
    assert "in no schedule" in (await clara.look("/ui/subscribers/bia/schedules")).text
    place = await made(clara, "of bia", **FEE)
    await clara.fill(await clara.look(f"{place}/members"), username="bia")
    page = await clara.look("/ui/subscribers/bia/schedules")
    (row,) = page.content.select("tbody tr")
    assert row.a["href"] == f"{place}/members/bia"
    assert row.find_all("td")[3].get_text()
