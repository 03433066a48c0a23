"""Sellers for tests: an operator, and subscribers of `databases.three_subscribers` made sellers."""

from datetime import UTC

import sqlalchemy as sa

from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schema import tables
from celcombiller.core.selling import sales, sellers
from celcombiller.core.selling.selling_terms import SellingTerms
from tests.support.databases import NOW

OPERATOR = Actor("command", "root", manages=ALL_LEVELS)
TERMS = SellingTerms()


def actor_of(subscriber_id):
    """Return a subscriber as the author of a request from their phone."""
    return Actor(f"u100{subscriber_id}", "phone", subscriber_id=subscriber_id)


def add_seller(tx, username="u1001", *, stock=0, now=NOW, **terms):
    """Make a subscriber a seller, with some stock from the operator."""
    made = sellers.add(tx, OPERATOR, username, terms=terms, zone=UTC, now=now)
    if stock:
        sales.refill(tx, TERMS, OPERATOR, username, stock, key="stock", origin="command", now=now)
    return sellers.find(tx, made.subscriber_id)


def sell(tx, amount=100, to_number="1002", *, seller_id=1, key="1", actor=None, terms=TERMS, now=NOW):
    """Sell as the seller themselves, by text message."""
    author = actor or actor_of(seller_id)
    return sales.sell(tx, terms, author, seller_id, to_number, amount, key=key, origin="sms", now=now)


def refill(tx, amount, username="u1001", *, key="r1", actor=OPERATOR, now=NOW, terms=TERMS, **more):
    """Refill a seller."""
    return sales.refill(tx, terms, actor, username, amount, key=key, origin="command", now=now, **more)


def voice_of(tx, subscriber_id):
    """Return the voice balance of a subscriber."""
    return balances(tx, subscriber_id)[Kind.VOICE].posted


def stock_of(tx, seller_id=1):
    """Return what a seller has to sell."""
    return sellers.find(tx, seller_id).posted


def numbers_of(tx, series):
    """Return the numbers of a series' receipts, in order."""
    table = tables.receipt
    rows = tx.execute(sa.select(table.c.number).where(table.c.series == series).order_by(table.c.number))
    return list(rows.scalars())
