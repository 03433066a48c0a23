"""Limits of spending set on an account: they begin with what was spent, and the audit proves what is counted."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from celcombiller.core.audit.report import audit
from celcombiller.core.errors import InsufficientBalance, InvalidValue
from celcombiller.core.ledger import accounts
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schema import tables

ZONE = ZoneInfo("America/Sao_Paulo")
NOW = datetime(2026, 11, 28, 15, tzinfo=UTC)
TODAY = NOW.date()


def spend(tx, amount, at, reference, origin="call", today=None):
    account = accounts.balances(tx, 1)[Kind.VOICE]
    book = Book(today=today)
    book.load(tx, [account.id])
    book.post(reference, account.id, 1, amount, origin=origin, now=at)
    book.save(tx)


@pytest.fixture
def tx(engine):
    with engine.begin() as opened:
        account = accounts.balances(opened, 1)[Kind.VOICE]
        book = Book()
        book.load(opened, [account.id])
        book.post("id:c", 1, account.id, 10_000, origin="web", now=NOW - timedelta(days=60))
        book.save(opened)
        yield opened


def limit(tx, day, month):
    account = accounts.balances(tx, 1)[Kind.VOICE]
    return accounts.set_spending_limits(tx, account.id, day, month, zone=ZONE, now=NOW)


def laws(tx):
    return {each.law for each in audit(tx).differences if "spent" in each.law}


def test_a_limit_begins_with_what_was_spent(tx):
    for number, (amount, at) in enumerate(
        (
            (1, datetime(2026, 11, 1, 2, 59, tzinfo=UTC)),  # still October in São Paulo
            (10, datetime(2026, 11, 1, 3, 0, tzinfo=UTC)),
            (100, datetime(2026, 11, 28, 2, 59, tzinfo=UTC)),  # yesterday there
            (1000, NOW),
        )
    ):
        spend(tx, amount, at, f"use:{number}")
    spend(tx, 5, NOW, "id:taken", origin="web")
    made = limit(tx, 2000, 3000)
    assert (made.spent_day, made.spent_month) == (1000, 1110)
    assert accounts.spendings(tx, 1, TODAY)[Kind.VOICE] == made
    assert laws(tx) == set()
    with pytest.raises(InsufficientBalance):
        spend(tx, 1001, NOW, "use:more", today=TODAY)
    spend(tx, 1000, NOW, "use:last", today=TODAY)
    assert accounts.spendings(tx, 1, TODAY)[Kind.VOICE].spent_day == 2000
    assert accounts.spendings(tx, 1, TODAY + timedelta(days=3))[Kind.VOICE].spent_month == 0
    assert laws(tx) == set()


def test_a_limit_can_be_taken_away(tx):
    limit(tx, 0, 0)
    with pytest.raises(InsufficientBalance):
        spend(tx, 1, NOW, "use:1", today=TODAY)
    limit(tx, None, None)
    spend(tx, 1, NOW, "use:1", today=TODAY)
    for wrong in (-1, 2**53):
        with pytest.raises(InvalidValue):
            limit(tx, wrong, None)


@pytest.mark.parametrize("name", ["day", "month"])
@pytest.mark.parametrize("found", [0, 1001])
def test_the_audit_finds_wrong_spending(tx, name, found):
    spend(tx, 1000, NOW, "use:1")
    limit(tx, 2000, 3000)
    assert laws(tx) == set()
    tx.execute(sa.update(tables.account).where(tables.account.c.day_limit == 2000).values({f"spent_{name}": found}))
    assert laws(tx) == {f"what was spent in a {name} is its charges"}
