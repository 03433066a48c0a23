"""The settlement sheet of a period: what was there, came, went, was paid, and is there now."""

from datetime import timedelta

import pytest

from celcombiller.core.ledger.book import Book
from celcombiller.core.model.selling import Commission
from celcombiller.core.selling import sales
from celcombiller.core.selling.settlements import settle
from tests.support.databases import NOW
from tests.support.selling.sellers import OPERATOR, TERMS, actor_of, add_seller, refill, sell

DAY = timedelta(days=1)


@pytest.fixture
def tx(engine):
    with engine.begin() as opened:
        yield opened


def test_a_sheet_has_each_part_of_a_period(tx):
    add_seller(tx, stock=1000, commission=Commission.DISCOUNT, commission_rate=1000, seller_class="shop")
    add_seller(tx, "u1002", parent_id=1, commission=Commission.BONUS, commission_rate=1000)
    day = NOW + DAY
    refill(tx, 500, now=day)
    refill(tx, -100, key="r2", now=day)
    refill(tx, 200, "u1002", from_parent=True, actor=actor_of(1), key="r3", now=day)
    sell(tx, 50, now=day)
    sell(tx, 70, key="2", now=day)
    sales.undo(tx, TERMS, OPERATOR, "S1-000003", now=day)
    sell(tx, 100, "1003", seller_id=2, now=day)
    sell(tx, 10, key="3", now=day + DAY)
    first, second = settle(tx, day, day + DAY)
    assert (first.username, first.seller_class) == ("u1001", "shop")
    assert (first.opening, first.refilled, first.returned, first.given) == (1000, 500, 100, 200)
    assert (first.sales, first.sold, first.undone, first.commission) == (2, 120, 70, 0)
    assert (first.paid, first.closing) == (360, 1150)
    assert (second.refilled, second.paid, second.sold, second.commission, second.closing) == (200, 200, 100, 10, 110)
    assert settle(tx, day, day + DAY, seller_id=2) == settle(tx, day, day + DAY, parent_id=1) == [second]


def test_an_undone_refill_is_paid_back_when_undone(tx):
    add_seller(tx)
    made = refill(tx, 500)
    sales.undo(tx, TERMS, OPERATOR, made.receipt.label, now=NOW + DAY)
    (first,), (second,) = settle(tx, NOW, NOW + DAY), settle(tx, NOW + DAY, NOW + 2 * DAY)
    assert (first.paid, first.closing) == (500, 500)
    assert (second.paid, second.opening, second.undone, second.closing) == (-500, 500, -500, 0)


def test_a_period_without_sellers_is_empty(tx):
    add_seller(tx)
    assert settle(tx, NOW - 2 * DAY, NOW - DAY) == []
    assert [row.closing for row in settle(tx, NOW - DAY, NOW + DAY)] == [0]


def test_vouchers_that_were_bought_leave_the_stock(tx):
    account_id = add_seller(tx, stock=500).account_id
    book = Book()
    book.load(tx, [account_id])
    book.post("vouchers:1:1-9", account_id, 1, 120, origin="vouchers", now=NOW)
    book.save(tx)
    (row,) = settle(tx, NOW, NOW + DAY)
    assert (row.refilled, row.cards, row.closing) == (500, 120, 380)
