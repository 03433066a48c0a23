"""Reports and the start page as operators see them, over real HTTP: sums, needs, spans of days and files."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.task import deferLater

from celcombiller.core.ledger import day_sums
from celcombiller.core.reports.overview import Need
from celcombiller.core.schema import tables
from celcombiller.jobs.day_sums import DaySumService
from celcombiller.rest.v1.reports.overview import REMEDIES
from tests.core.ledger.test_day_sums import post
from tests.support.http.api_service import biller_fixture, header
from tests.support.http.pages import Reader

biller = biller_fixture()


async def counted(biller):
    """Wait until all movements are in the sums."""
    (job,) = [each for each in biller.service if isinstance(each, DaySumService)]
    zone = ZoneInfo(biller.config.schedules.zone)
    for _ in range(100):
        with biller.engine.begin() as tx:
            if day_sums.count_uncounted(tx, zone) == 0:
                return
        await job.look()
        await deferLater(reactor, 0.02)
    raise AssertionError("not counted")


async def with_movements(biller):
    """Give ana 600 by hand, take 45 for a call, and return a reader."""
    clara = Reader(await biller.logged_in("clara"))
    form = await clara.look("/ui/subscribers/ana/credit/plan?kind=voice&value=600")
    await clara.fill(form, "/ui/subscribers/ana/transfers")
    with biller.engine.begin() as tx:
        own = tx.execute(
            sa.select(tables.account.c.id)
            .join(tables.subscriber, tables.subscriber.c.id == tables.account.c.subscriber_id)
            .where(tables.subscriber.c.username == "ana", tables.account.c.kind == "voice")
        ).scalar_one()
    post(biller.engine, "used", own, 1, 45, "offer", datetime.now(UTC))
    await counted(biller)
    return clara


def cells(page):
    return [[cell.get_text(strip=True) for cell in row.find_all("td")] for row in page.content.select("#days tbody tr")]


@pytest_twisted.ensureDeferred
async def test_days_show_what_was_sold_and_used(biller):
    clara = await with_movements(biller)
    page = await clara.look("/ui/reports")
    assert page.path == "/ui/reports/days"
    ((_, sold, used, *others),) = cells(page)
    assert (sold, used) == ("600", "45")
    assert others[3] == "45", "under plans"
    month = await clara.look("/ui/reports/days?by=month")
    assert [each[1:] for each in cells(month)] == [each[1:] for each in cells(page)]
    assert (await clara.look("/ui/reports/days?account=data")).content.select("#days") == []
    file = await clara.client.get(
        header(await clara.client.get(page.content.select_one("a[href*=csv]")["href"]), "location")
    )
    today = datetime.now(ZoneInfo(biller.config.schedules.zone)).date()
    assert file.bytes.decode().splitlines() == [
        "day,account,heading,movement,direction,transfers,credits",
        f"{today},voice,plans,offer,out,1,45",
        f"{today},voice,sold,operator,in,1,600",
    ]


@pytest_twisted.ensureDeferred
async def test_start_page_shows_figures_and_needs(biller):
    clara = await with_movements(biller)
    with biller.engine.begin() as tx:
        tx.execute(
            sa.insert(tables.payment).values(
                provider="p",
                provider_id="1",
                recipient="9",
                amount="1",
                currency="USD",
                credits=5,
                state="unassigned",
                received_at=datetime.now(UTC),
            )
        )
    page = await clara.look("/ui/start")
    assert "Sold today 600 600 this month" in page.text
    assert "Used today 45 45 this month" in page.text
    assert [each.a.get_text() for each in page.content.select(".needs li")] == ["1 unassigned payments"]
    assert REMEDIES["payments_unassigned"][1] in page.text
    assert page.content.select_one(".chart")["data-table"] == page.content.select_one("table")["id"]
    with biller.engine.begin() as tx:
        tx.execute(sa.delete(tables.payment))
    assert "Nothing needs a person now." in (await clara.look("/ui/start")).text


@pytest.mark.parametrize("need", Need)
@pytest_twisted.ensureDeferred
async def test_each_need_has_a_page(biller, need):
    for username in ("clara", "admin"):
        page = await Reader(await biller.logged_in(username)).look(REMEDIES[need][0])
        assert (page.status, page.path) == (200, REMEDIES[need][0]), page.text
        name, _, chosen = page.path.partition("?")[2].partition("=")
        choices = page.content.select(f"main [name={name}] option[selected]") if name else []
        assert [each["value"] for each in choices] == ([chosen] if name else [])


@pytest_twisted.ensureDeferred
async def test_only_pages_with_a_chart_load_it(biller):
    clara = Reader(await biller.logged_in("clara"))
    for path, loads in (("/ui/start", True), ("/ui/reports/days", True), ("/ui/reports/trunks", False)):
        page = await clara.look(path)
        assert bool(page.content.select("script[src*=uPlot]")) == loads, path


@pytest_twisted.ensureDeferred
async def test_wrong_days_are_refused_beside_the_field(biller):
    clara = Reader(await biller.logged_in("clara"))
    for query in ("from=2026-11-02&until=2026-11-01", "from=2020-01-01&until=2026-01-01", "from=9999-12-31"):
        for name in ("days", "sellers", "destinations", "trunks"):
            page = await clara.look(f"/ui/reports/{name}?{query}")
            assert (page.status, bool(page.error_of("from"))) == (422, True), (name, query)
            answer = await clara.client.get(f"/api/v1/reports/{name}.csv?{query}")
            assert answer.code == 422, (name, query)
    assert (await clara.look("/ui/reports/days?from=x")).error_of("from")


@pytest_twisted.ensureDeferred
async def test_subscribers_get_no_reports(biller):
    ana = await biller.logged_in("ana")
    for path in ("overview", "reports/days", "reports/days.csv", "reports/trunks", "reports/sellers.csv"):
        assert (await ana.get(f"/api/v1/{path}")).code == 403, path
