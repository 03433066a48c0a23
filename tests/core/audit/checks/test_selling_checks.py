"""The audit finds what no sale, refill or undo does."""

import pytest
import sqlalchemy as sa

from celcombiller.core.audit.report import audit
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.selling import Commission
from celcombiller.core.schema import tables
from celcombiller.core.selling import sales, sellers
from tests.support.databases import NOW
from tests.support.selling.sellers import OPERATOR, TERMS, add_seller, refill, sell

RECEIPT, SERIES, TRANSFER = tables.receipt, tables.receipt_series, tables.transfer


@pytest.fixture
def tx(engine):
    with engine.begin() as opened:
        add_seller(opened, stock=1000, commission=Commission.BONUS, commission_rate=1000)
        refill(opened, -10)
        sell(opened, 100)
        sell(opened, 50, key="2")
        sales.undo(opened, TERMS, OPERATOR, "S1-000002", now=NOW)
        assert audit(opened).ok
        yield opened


def laws(tx):
    return {each.law for each in audit(tx).differences}


def change(tx, label, **values):
    series, _, number = label.rpartition("-")
    which = (RECEIPT.c.series == series, RECEIPT.c.number == int(number))
    tx.execute(sa.update(RECEIPT).where(*which).values(values))


def test_a_gap_of_receipts_is_found(tx):
    tx.execute(sa.update(SERIES).where(SERIES.c.name == "S1").values(last_number=3))
    assert laws(tx) == {"receipts have no gaps"}
    change(tx, "S1-000002", number=3)
    assert laws(tx) == {"receipts have no gaps"}


def test_a_lost_receipt_is_found(tx):
    tx.execute(sa.delete(RECEIPT).where(RECEIPT.c.series == "S1", RECEIPT.c.number == 1))
    assert {"receipts have no gaps", "a sale has its receipt", "a stock is refills less sales, with bonuses"} == laws(
        tx
    )


@pytest.mark.parametrize(
    "values", [{"amount": 99}, {"taker_id": 3}, {"giver_id": None}, {"kind": "refill"}, {"reference": "sale:1:x"}]
)
def test_a_receipt_of_another_transfer_is_found(tx, values):
    change(tx, "S1-000001", **values)
    assert "a receipt is for its transfer" in laws(tx)


def test_a_wrong_bonus_is_found(tx):
    change(tx, "S1-000001", commission=11)
    assert "a sale has its bonus" in laws(tx)


@pytest.mark.parametrize(("label", "voided_at"), [("S1-000001", NOW), ("S1-000002", None)])
def test_a_void_without_its_undo_is_found(tx, label, voided_at):
    change(tx, label, voided_at=voided_at)
    assert "a void receipt's credit went back" in laws(tx)


def test_credit_beside_the_receipts_is_found(tx):
    account_id = sellers.find(tx, 1).account_id
    book = Book()
    book.load(tx, [account_id])
    book.post("odd", 1, account_id, 5, origin="web", now=NOW)
    book.save(tx)
    assert laws(tx) == {"a stock is refills less sales, with bonuses"}


def test_a_sale_beside_the_receipts_is_found(tx):
    account_id = sellers.find(tx, 1).account_id
    book = Book()
    book.load(tx, [account_id])
    book.post("refill:odd", 1, account_id, 5, origin="refill", now=NOW)
    book.save(tx)
    assert "a sale has its receipt" in laws(tx)
