"""The overview counts what needs a person, and only that."""

from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from celcombiller.core.ledger.day_sums import bookmark_of
from celcombiller.core.model.day_sums import Direction, Movement
from celcombiller.core.reports import use_report
from celcombiller.core.reports.day_report import Heading, MovementSum, Period, sum_up
from celcombiller.core.reports.overview import Figures, Need, look_over
from celcombiller.core.schedules.runs import ScheduleRules
from celcombiller.core.schema import tables
from tests.core.ledger.test_book import ask, credit, engine, initiate  # noqa: F401
from tests.support import databases
from tests.support.databases import NOW
from tests.support.selling.sellers import add_seller, sell

ZONE = ZoneInfo("America/Belem")
LATE = NOW + timedelta(hours=5)
SUMS = [
    ("2026-11-01", "sale", "voice", "in", 2, 150),
    ("2026-11-01", "call", "voice", "out", 3, 40),
    ("2026-11-01", "credit_transfer", "voice", "between", 1, 5),
    ("2026-11-02", "operator", "voice", "in", 1, 10),
    ("2026-11-02", "operator", "voice", "out", 1, 4),
    ("2026-11-02", "reversal", "voice", "in", 1, 3),
    ("2026-11-02", "data", "data", "out", 1, 7),
    ("2026-10-31", "sale", "voice", "in", 1, 1),
]


def add_sums(tx):
    names = [each.name for each in tables.day_sum.columns]
    rows = [dict(zip(names, (date.fromisoformat(each[0]), *each[1:]), strict=True)) for each in SUMS]
    tx.execute(sa.insert(tables.day_sum), rows)


def test_quiet_biller_needs_nobody(engine):  # noqa: F811
    with engine.begin() as tx:
        found = look_over(tx, ScheduleRules(), ZONE, NOW)
    assert (found.calls, found.needs, found.uncounted) == (0, {}, 0)
    assert found.figures == [Figures("voice", 0, 0, 0, 0)]


def test_what_waits_too_long_needs_a_person(engine):  # noqa: F811
    ask(engine, credit(100), initiate())
    with engine.begin() as tx:
        add_seller(tx, stock=150)
        sell(tx, 100, now=NOW)
        entry = {"version": 1, "queued_at": NOW, "attempts": 0, "last_error": "", "msisdn": "", "wanted": False}
        tx.execute(sa.insert(tables.network).values(name="bts", kind="openbts", added_at=NOW, last_error=""))
        tx.execute(sa.insert(tables.network_entry).values(network="bts", imsi="1", **entry))
        differs = dict.fromkeys(("channel", "context", "from_number", "to_number", "source", "uniqueid"), "")
        for kind, state in (("missing", "found"), ("open", "refused"), ("duration", "settled")):
            at = {"started_at": NOW, "found_at": NOW, "settled_at": NOW if state == "settled" else None}
            tx.execute(sa.insert(tables.cdr_difference).values(**differs, **at, server="p", kind=kind, state=state))
        soon = look_over(tx, ScheduleRules(), ZONE, NOW)
        assert soon.calls == 1
        assert soon.uncounted == 3
        assert soon.needs == {Need.CDR_DIFFERENCES: 2, Need.SELLERS_LOW: 1}
        late = look_over(tx, ScheduleRules(), ZONE, LATE)
        assert late.needs == soon.needs | {Need.OVERDUE_CALLS: 1, Need.NETWORKS_BEHIND: 1}


def test_figures_are_of_today_and_its_month(engine):  # noqa: F811
    with engine.begin() as tx:
        add_sums(tx)
        tx.execute(sa.insert(tables.bookmark).values(name=bookmark_of(ZONE), transfer_id=0))
        found = look_over(tx, ScheduleRules(), ZONE, NOW.replace(hour=1) + timedelta(days=2))
    assert found.today == date(2026, 11, 2)
    assert found.figures == [Figures("voice", 10, 0, 160, 40), Figures("data", 0, 7, 0, 7)]


def test_sums_by_month_are_those_of_its_days(engine):  # noqa: F811
    with engine.begin() as tx:
        add_sums(tx)
        span = (date(2026, 11, 1), date(2026, 12, 1))
        days, (month,) = sum_up(tx, *span, account="voice"), sum_up(tx, *span, by=Period.MONTH, account="voice")
    assert [each.day.day for each in days] == [1, 2]
    assert month.day == date(2026, 11, 1)
    for heading in Heading:
        assert month.total(heading) == sum(each.total(heading) for each in days)
    moved = sum(each[5] * {"in": 1, "out": -1, "between": 0}[each[3]] for each in SUMS[:6])
    kept = (Heading.SOLD, Heading.GIVEN_BACK)
    assert month.total(*kept) - month.total(*set(Heading) - set(kept)) == moved, "the headings have all credit"


def test_each_movement_has_one_heading():
    for movement in Movement:
        coming, going = (MovementSum(movement, each, 1, 1).heading for each in (Direction.IN, Direction.OUT))
        assert coming in (Heading.SOLD, Heading.GIVEN_BACK)
        assert going not in (Heading.SOLD, Heading.GIVEN_BACK, None)


@pytest.mark.real
def test_overview_and_reports_on_postgresql(cluster):
    span = (date(2026, 11, 1), date(2026, 12, 1))
    with databases.on_postgresql(cluster, databases.three_subscribers) as engine, engine.begin() as tx:  # noqa: F811
        add_sums(tx)
        add_seller(tx, stock=150)
        sell(tx, 100, now=NOW)
        found = look_over(tx, ScheduleRules(), ZONE, NOW)
        assert (found.needs, found.figures) == ({Need.SELLERS_LOW: 1}, [Figures("voice", 150, 40, 150, 40)])
        assert [each.day.day for each in sum_up(tx, *span, by=Period.MONTH)] == [1, 1]
        assert [each.sold for each in use_report.sum_sales(tx, *span, ZONE)] == [100]
        assert use_report.sum_calls_by_destination(tx, *span, ZONE) == []
        assert use_report.sum_calls_by_trunk(tx, *span, ZONE) == []
