"""Sales by seller and day, and calls by destination and trunk, with what they leave."""

from dataclasses import replace
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from celcombiller.core.reports import use_report
from celcombiller.core.reports.use_report import DestinationCalls, SellerDay, TrunkCalls
from celcombiller.core.schema import tables
from celcombiller.core.selling import sales
from tests.core.ledger.test_book import ask, credit, ended, initiate
from tests.support import databases
from tests.support.databases import NOW
from tests.support.query_plans import plans_of
from tests.support.selling.sellers import OPERATOR, TERMS, add_seller, sell

ZONE = ZoneInfo("America/Belem")
DAY = date(2026, 11, 1)
NEXT = DAY + timedelta(days=1)


@pytest.fixture
def engine(tmp_path):
    made = databases.sqlite(tmp_path / "report.sqlite", databases.three_subscribers)
    yield made
    made.dispose()


def test_sales_are_summed_by_seller_and_day(engine):
    with engine.begin() as tx:
        add_seller(tx, stock=1000, commission="bonus", commission_rate=1000)
        add_seller(tx, "u1003", stock=1000)
        sell(tx, 100, key="1")
        sell(tx, 50, key="2")
        undone = sell(tx, 30, key="3").receipt
        sales.undo(tx, TERMS, OPERATOR, undone.label, now=NOW)
        midnight = NOW.replace(hour=3) + timedelta(days=1)
        sell(tx, 7, key="4", seller_id=3, now=midnight - timedelta(seconds=1))
        sell(tx, 8, key="5", seller_id=3, now=midnight)
        assert use_report.sum_sales(tx, DAY, NEXT + timedelta(days=1), ZONE) == [
            SellerDay(DAY, "u1001", "N", sales=2, sold=150, commission=15, undone=1),
            SellerDay(DAY, "u1003", "N", sales=1, sold=7, commission=0, undone=0),
            SellerDay(NEXT, "u1003", "N", sales=1, sold=8, commission=0, undone=0),
        ]
        assert use_report.sum_sales(tx, NEXT, NEXT + timedelta(days=9), ZONE) != []
        assert use_report.sum_sales(tx, DAY - timedelta(days=9), DAY, ZONE) == []


def test_calls_are_summed_by_destination_and_trunk(engine):
    ask(engine, credit(1000))
    for uniqueid, end in (("1.0", {"talk_ms": 10_000}), ("2.0", {"talk_ms": 5_500}), ("3.0", {"answered": False})):
        ask(engine, initiate(uniqueid))
        ask(engine, ended(uniqueid, **end))
    with engine.begin() as tx:
        trunk = {"name": "north", "dial": "x", "enabled": True, "created_at": NOW}
        (trunk_id,) = tx.execute(sa.insert(tables.trunk).values(trunk)).inserted_primary_key
        first = tables.call.c.uniqueid == "1.0"
        tx.execute(sa.update(tables.call).where(first).values(trunk_id=trunk_id, trunk_cost=4, rate_name="North"))
        of_first = {"calls": 1, "answered": 1, "talk_seconds": 10, "credits": 10, "trunk_cost": 4, "margin": 6}
        others = {"calls": 2, "answered": 1, "talk_seconds": 5, "credits": 6, "trunk_cost": 0, "margin": 0}
        found = use_report.sum_calls_by_destination(tx, DAY, NEXT, ZONE)
        assert [replace(each, prefix="") for each in found] == [
            DestinationCalls(**of_first, prefix="", destination="North"),
            DestinationCalls(**others, prefix="", destination=""),
        ]
        assert use_report.sum_calls_by_trunk(tx, DAY, NEXT, ZONE) == [
            TrunkCalls(**of_first, trunk="north"),
            TrunkCalls(**others, trunk=None),
        ]
        assert use_report.sum_calls_by_trunk(tx, NEXT, NEXT + timedelta(days=1), ZONE) == []


@pytest.mark.parametrize("read", [use_report.sum_sales, use_report.sum_calls_by_destination])
def test_reports_read_the_rows_of_their_days(engine, read):
    plan = plans_of(engine, lambda tx: read(tx, DAY, NEXT, ZONE))
    assert any("USING INDEX ix_" in line and ">? AND" in line for line in plan), plan
    assert not any(line.startswith(("SCAN call", "SCAN receipt")) for line in plan), plan
