"""What metrics say of sellers: sales of a day by class and way, stocks, and who is low."""

from datetime import timedelta

import pytest

from celcombiller.core.reports import seller_items
from celcombiller.core.reports.open_items import count_open_items
from celcombiller.core.reports.seller_items import SellerItems, count_seller_items
from celcombiller.core.selling import sales
from celcombiller.runtime.metrics.scrape import open_item_families
from tests.support.databases import NOW
from tests.support.query_plans import plans_of
from tests.support.selling.sellers import OPERATOR, TERMS, add_seller, sell

DAY = timedelta(days=1)


@pytest.fixture
def tx(engine):
    with engine.begin() as opened:
        yield opened


def test_sales_of_a_day_are_counted_by_class(tx):
    add_seller(tx, stock=1000, seller_class="shop")
    add_seller(tx, "u1002", stock=300)
    sell(tx, 400, now=NOW - 2 * DAY)
    sell(tx, 100, key="2")
    sell(tx, 50, key="3")
    sell(tx, 7, key="4")
    sell(tx, 200, "1003", seller_id=2)
    sales.undo(tx, TERMS, OPERATOR, "S1-000004", now=NOW)
    found = count_seller_items(tx, NOW)
    assert found.sales == {("shop", "sms"): (2, 150), ("", "sms"): (1, 200)}
    assert found.stocks == {"shop": 450, "": 100}
    assert found.low == 1


def test_disabled_sellers_are_not_low(tx):
    assert count_seller_items(tx, NOW) == SellerItems()
    add_seller(tx, stock=10, enabled=False)
    assert count_seller_items(tx, NOW) == SellerItems()


def test_a_scrape_has_the_sellers(tx):
    add_seller(tx, stock=1000, seller_class="shop")
    sell(tx, 600)
    families = {each.name: each for each in open_item_families(count_open_items(tx, NOW))}
    (sold,) = families["celcombiller_sold_credits"].samples
    assert (sold.labels, sold.value) == ({"seller_class": "shop", "origin": "sms"}, 600)
    assert families["celcombiller_sellers_low"].samples[0].value == 1
    assert families["celcombiller_seller_stock_credits"].samples[0].value == 400


def test_stocks_are_read_without_all_subscribers(engine):
    plan = plans_of(engine, lambda tx: tx.execute(seller_items._STOCKS))
    assert not any("SCAN subscriber" in line for line in plan), plan
