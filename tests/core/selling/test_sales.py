"""Sales, undone sales and refills: each once, with a receipt, and credit exists once."""

from dataclasses import replace
from datetime import UTC, timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.access.actor import Actor
from celcombiller.core.audit.report import audit
from celcombiller.core.charging.operator_credit import set_credit_limit
from celcombiller.core.errors import (
    BillerError,
    DayLimitReached,
    Forbidden,
    InsufficientBalance,
    InvalidValue,
    NotFound,
    SaleTooLarge,
    SellerDisabled,
    SubscriberDisabled,
    TransferConflict,
    UndoTooLate,
    UnknownSeller,
    UnknownSubscriber,
)
from celcombiller.core.ledger import reversals
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.messages import Route
from celcombiller.core.model.selling import Commission, ReceiptKind
from celcombiller.core.schema import tables
from celcombiller.core.selling import receipts, sales, sellers
from celcombiller.core.sms.charging import MessagePolicy
from celcombiller.core.subscribers import subscriber_records
from tests.support.databases import NOW
from tests.support.selling.sellers import (
    OPERATOR,
    TERMS,
    actor_of,
    add_seller,
    numbers_of,
    refill,
    sell,
    stock_of,
    voice_of,
)

MINUTE = timedelta(minutes=1)


@pytest.fixture
def tx(engine):
    with engine.begin() as opened:
        yield opened
        report = audit(opened)
        assert report.ok, report.differences


def undo(tx, label="S1-000001", actor=None, now=NOW, terms=TERMS):
    return sales.undo(tx, terms, actor or actor_of(1), label, now=now)


def rows_of(tx):
    """Return all rows of what selling writes, to see that a refusal writes nothing."""
    names = ("transfer", "account", "receipt", "receipt_series", "trail", "message", "seller")
    return {name: tx.execute(sa.select(tables.metadata.tables[name])).all() for name in names}


def test_a_sale_moves_credit_from_stock_to_balance(tx):
    add_seller(tx, stock=1000)
    sold = sell(tx, 300)
    assert (stock_of(tx), voice_of(tx, 2)) == (700, 300)
    assert (sold.stock, sold.balance, sold.is_new) == (700, 300, True)
    assert (sold.receipt.label, sold.receipt.kind, sold.receipt.origin) == ("S1-000001", ReceiptKind.SALE, "sms")
    assert (sold.receipt.giver_id, sold.receipt.taker_id, sold.receipt.to_number) == (1, 2, "1002")


def test_the_same_sale_again_sells_once(tx):
    add_seller(tx, stock=1000)
    first = sell(tx, 300)
    again = sell(tx, 300, now=NOW + timedelta(days=1))
    assert (again.receipt, again.is_new, again.stock, again.balance) == (first.receipt, False, 700, 300)
    for amount, number in ((301, "1002"), (300, "1003")):
        with pytest.raises(TransferConflict):
            sell(tx, amount, number)
    sell(tx, 300, key="2")
    assert numbers_of(tx, "S1") == [1, 2]


def test_a_repeat_is_answered_by_empty_stock(tx):
    add_seller(tx, stock=300)
    sell(tx, 300)
    sellers.change(tx, OPERATOR, "u1001", {"enabled": False}, zone=UTC, now=NOW)
    assert not sell(tx, 300).is_new


def test_a_bonus_is_made_by_the_operator(tx):
    add_seller(tx, stock=1000, commission=Commission.BONUS, commission_rate=525)
    sold = sell(tx, 390)
    assert sold.receipt.commission == 20
    assert (stock_of(tx), voice_of(tx, 2)) == (630, 390)


def test_a_discount_lowers_what_is_paid(tx):
    add_seller(tx, commission=Commission.DISCOUNT, commission_rate=525)
    assert refill(tx, 1000).receipt.paid == 948
    assert refill(tx, 1000, key="r2", paid=500).receipt.paid == 500
    assert stock_of(tx) == 2000


@pytest.mark.parametrize(
    ("amount", "number", "error"),
    [
        (301, "1002", SaleTooLarge),
        (0, "1002", InvalidValue),
        (-5, "1002", InvalidValue),
        (2**53, "1002", InvalidValue),
        (10, "999", UnknownSubscriber),
        (10, "", UnknownSubscriber),
        (10, "1003", SubscriberDisabled),
        (251, "1002", InsufficientBalance),
    ],
)
def test_a_refused_sale_writes_nothing(tx, amount, number, error):
    add_seller(tx, stock=250, sale_max=300)
    subscriber_records.enable(tx, "u1003", NOW, enabled=False)
    before = rows_of(tx)
    for ask in (lambda: sell(tx, amount, number), lambda: sales.plan_sale(tx, TERMS, 1, number, amount, now=NOW)):
        with pytest.raises(error):
            ask()
        assert rows_of(tx) == before


def test_a_plan_says_what_the_sale_does(tx):
    add_seller(tx, stock=1000, commission=Commission.BONUS, commission_rate=1000)
    before = rows_of(tx)
    plan = sales.plan_sale(tx, TERMS, 1, "+1002", 300, now=NOW)
    assert rows_of(tx) == before
    sold = sell(tx, 300, "+1002")
    assert (plan.stock, plan.balance, plan.bonus, plan.buyer.id) == (sold.stock, sold.balance, 30, 2)


def test_a_credit_line_is_sold_too(tx):
    add_seller(tx, stock=100, credit_line=50)
    sell(tx, 150)
    assert stock_of(tx) == -50
    with pytest.raises(InsufficientBalance):
        sell(tx, 1, key="2")


def test_the_limit_of_a_day_is_kept(tx):
    add_seller(tx, stock=1000, day_limit=300)
    sell(tx, 200)
    with pytest.raises(DayLimitReached):
        sell(tx, 101, key="2")
    sell(tx, 100, key="3")
    sell(tx, 300, key="4", now=NOW + timedelta(days=1))


def test_an_undone_sale_leaves_nothing_behind(tx):
    add_seller(tx, stock=1000, day_limit=300, commission=Commission.BONUS, commission_rate=1000)
    before = rows_of(tx)["account"]
    sold = sell(tx, 300)
    undone = undo(tx, now=NOW + 9 * MINUTE)
    assert (undone.is_new, undone.receipt.label) == (True, sold.receipt.label)
    accounts = {row.id: (row.posted, row.held, row.spent_day, row.spent_month) for row in before}
    assert {
        row.id: (row.posted, row.held, row.spent_day, row.spent_month) for row in rows_of(tx)["account"]
    } == accounts
    again = undo(tx, now=NOW + timedelta(days=9))
    assert (again.is_new, again.receipt) == (False, undone.receipt)
    assert sell(tx, 300, key="2").receipt.label == "S1-000002"


def test_undo_after_midnight_leaves_new_day_alone(tx):
    late = NOW.replace(hour=23, minute=58)
    add_seller(tx, stock=1000, day_limit=300, now=late)
    sell(tx, 300, now=late)
    sell(tx, 200, key="2", now=late + 3 * MINUTE)
    undo(tx, now=late + 4 * MINUTE)
    with pytest.raises(DayLimitReached):
        sell(tx, 101, key="3", now=late + 5 * MINUTE)
    sell(tx, 100, key="3", now=late + 5 * MINUTE)


def test_a_sale_cannot_be_undone_late(tx):
    add_seller(tx, stock=1000)
    sell(tx, 300)
    with pytest.raises(UndoTooLate, match="10 minutes"):
        undo(tx, now=NOW + 11 * MINUTE)
    assert undo(tx, actor=OPERATOR, now=NOW + timedelta(days=1)).is_new


def test_spent_or_held_credit_is_not_undone(tx):
    add_seller(tx, stock=1000)
    sell(tx, 300)
    set_credit_limit(tx, "u1002", Kind.VOICE, 5000, OPERATOR, NOW)
    account = balances(tx, 2)[Kind.VOICE]
    book = Book()
    book.load(tx, [account.id])
    book.hold("call:1", account.id, 1, now=NOW, expires_at=NOW + MINUTE)
    book.save(tx)
    before = rows_of(tx)
    for author in (actor_of(1), OPERATOR):
        with pytest.raises(InsufficientBalance, match="299 is still there"):
            undo(tx, actor=author)
    assert rows_of(tx) == before


def test_others_may_not_sell_refill_or_undo(tx):
    add_seller(tx, stock=1000)
    add_seller(tx, "u1002", parent_id=1)
    sell(tx, 300, "1003")
    narrow = Actor("u1001 (token 3)", "192.0.2.1")
    for author in (actor_of(2), actor_of(3), narrow):
        with pytest.raises(Forbidden):
            undo(tx, actor=author)
        with pytest.raises(Forbidden):
            sell(tx, 10, actor=author, key="2")
        with pytest.raises(Forbidden):
            refill(tx, 10, "u1002", actor=author)
        with pytest.raises(Forbidden):
            refill(tx, 10, "u1002", actor=author, from_parent=True)
        with pytest.raises(Forbidden):
            sellers.change(tx, author, "u1001", {"credit_line": 10**6}, zone=UTC, now=NOW)


def test_a_subscriber_who_is_no_seller_sells_nothing(tx):
    with pytest.raises(UnknownSeller):
        sell(tx, 10)
    with pytest.raises(NotFound):
        undo(tx)


def test_a_disabled_seller_sells_and_undoes_nothing(tx):
    add_seller(tx, stock=1000)
    sell(tx, 300)
    for disable in (
        lambda: sellers.change(tx, OPERATOR, "u1001", {"enabled": False}, zone=UTC, now=NOW),
        lambda: subscriber_records.enable(tx, "u1001", NOW, enabled=False),
    ):
        disable()
        with pytest.raises(SellerDisabled):
            sell(tx, 10, key="2")
        with pytest.raises(SellerDisabled):
            undo(tx)
        sellers.change(tx, OPERATOR, "u1001", {"enabled": True}, zone=UTC, now=NOW)


def test_a_parent_refills_from_their_own_stock(tx):
    add_seller(tx, stock=1000)
    add_seller(tx, "u1002", parent_id=1)
    made = refill(tx, 400, "u1002", actor=actor_of(1), from_parent=True)
    assert (stock_of(tx, 1), stock_of(tx, 2)) == (600, 400)
    assert (made.receipt.series, made.receipt.giver_id, made.stock, made.balance) == ("S1", 1, 600, 400)
    assert not refill(tx, 400, "u1002", actor=actor_of(1), from_parent=True).is_new
    with pytest.raises(InsufficientBalance):
        refill(tx, 601, "u1002", actor=actor_of(1), from_parent=True, key="r2")
    with pytest.raises(InvalidValue):
        refill(tx, -1, "u1002", actor=actor_of(1), from_parent=True, key="r3")
    undo(tx, made.receipt.label)
    assert (stock_of(tx, 1), stock_of(tx, 2)) == (1000, 0)


def test_a_parent_gets_no_lent_credit_back(tx):
    add_seller(tx, stock=1000)
    add_seller(tx, "u1002", parent_id=1, credit_line=1000)
    made = refill(tx, 400, "u1002", actor=actor_of(1), from_parent=True)
    sell(tx, 1, "1003", seller_id=2)
    with pytest.raises(InsufficientBalance):
        undo(tx, made.receipt.label)


def test_the_operator_takes_stock_back(tx):
    add_seller(tx, stock=1000)
    made = refill(tx, -400)
    assert (made.receipt.kind, made.receipt.amount, stock_of(tx)) == (ReceiptKind.RETURN, 400, 600)
    with pytest.raises(InsufficientBalance):
        refill(tx, -601, key="r2")
    undo(tx, made.receipt.label, actor=OPERATOR)
    assert stock_of(tx) == 1000


def test_an_undone_refill_goes_back_to_the_operator(tx):
    add_seller(tx, stock=1000, credit_line=100)
    sell(tx, 50)
    undo(tx, "office-000001", actor=OPERATOR)
    assert stock_of(tx) == -50


def test_a_tree_of_sellers_has_no_circle(tx):
    add_seller(tx)
    add_seller(tx, "u1002", parent_id=1)
    add_seller(tx, "u1003", parent_id=2)
    for parent in (1, 2, 3):
        with pytest.raises(InvalidValue, match="parent"):
            sellers.change(tx, OPERATOR, "u1001", {"parent_id": parent}, zone=UTC, now=NOW)
    sellers.change(tx, OPERATOR, "u1003", {"parent_id": None}, zone=UTC, now=NOW)
    sellers.change(tx, OPERATOR, "u1001", {"parent_id": 3}, zone=UTC, now=NOW)


@pytest.mark.parametrize(
    "terms",
    [
        {"commission": Commission.BONUS},
        {"commission_rate": 5},
        {"commission": Commission.BONUS, "commission_rate": 10001},
        {"commission": Commission.BONUS, "commission_rate": -1},
        {"sale_max": 0},
        {"day_limit": -1},
        {"credit_line": -1},
        {"credit_line": 2**53},
        {"seller_class": "A b"},
        {"parent_id": 1},
        {"parent_id": 99},
        {"posted": 5},
    ],
)
def test_terms_that_no_seller_has_are_refused(tx, terms):
    before = rows_of(tx)
    with pytest.raises(BillerError):
        add_seller(tx, **terms)
    assert rows_of(tx) == before


def test_a_sale_is_not_reversed_behind_its_receipt(tx):
    add_seller(tx, stock=1000, commission=Commission.BONUS, commission_rate=1000)
    reference = sell(tx, 300).receipt.reference
    undo(tx)
    for each in (reference, f"commission:{reference}", f"undo:{reference}", f"undo:commission:{reference}"):
        with pytest.raises(TransferConflict, match="S1-000001"):
            reversals.reverse(tx, each, note="mistake", now=NOW)


def test_a_deleted_subscriber_sells_and_buys_nothing(tx):
    add_seller(tx, stock=1000)
    sell(tx, 300)
    subscriber_records.delete(tx, "u1002", NOW)
    with pytest.raises(UnknownSubscriber):
        sell(tx, 10, key="2")
    subscriber_records.delete(tx, "u1001", NOW)
    with pytest.raises(UnknownSubscriber):
        sell(tx, 10, "1003", key="3")
    assert undo(tx, actor=OPERATOR).is_new


def test_both_sides_get_messages_as_set(tx):
    policy = MessagePolicy(on_net_route=Route.ASTERISK)
    terms = replace(
        TERMS,
        sold_text="Sold {amount} to {number}, stock {balance}, {receipt}",
        bought_text="Got {amount} of {name}, balance {balance}",
        undone_text="Undone {receipt}, stock {balance}",
        taken_back_text="{amount} was taken back, balance {balance}",
        refilled_text="Refilled {amount}, stock {balance}",
        messages=policy,
    )
    add_seller(tx)
    refill(tx, 600, terms=terms)
    sell(tx, 60, terms=terms)
    sell(tx, 60, terms=terms)
    undo(tx, terms=terms)
    undo(tx, terms=terms)
    rows = tx.execute(sa.select(tables.message.c.to_number, tables.message.c.text).order_by(tables.message.c.id)).all()
    assert [tuple(row) for row in rows] == [
        ("1001", "Refilled 10 min, stock 10 min"),
        ("1001", "Sold 1 min to 1002, stock 9 min, S1-000001"),
        ("1002", "Got 1 min of N, balance 1 min"),
        ("1001", "Undone S1-000001, stock 10 min"),
        ("1002", "1 min was taken back, balance 0 s"),
    ]


def test_a_sale_goes_on_without_way_for_messages(tx):
    terms = replace(TERMS, sold_text="Sold {amount}", bought_text="Got {amount}")
    add_seller(tx, stock=1000)
    assert sell(tx, 60, terms=terms).is_new


def test_recent_sales_are_found_until_undone(tx):
    add_seller(tx, stock=1000)
    made = sell(tx, 60).receipt
    soon = NOW + timedelta(seconds=59)
    assert receipts.find_recent_sale(tx, 1, "1002", 60, within=MINUTE, now=soon) == made
    assert receipts.find_recent_sale(tx, 1, "1002", 61, within=MINUTE, now=soon) is None
    assert receipts.find_recent_sale(tx, 1, "1002", 60, within=MINUTE, now=NOW + MINUTE) is None
    assert receipts.find_last_sale(tx, 1) == receipts.find_last_sale(tx, 1, "1002") == made
    undo(tx)
    assert receipts.find_recent_sale(tx, 1, "1002", 60, within=MINUTE, now=soon) is None
    assert receipts.find_last_sale(tx, 1) is None
