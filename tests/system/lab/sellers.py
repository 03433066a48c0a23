"""Sellers in the ledger of a biller that does not run yet, each with a PIN and a stock."""

import re
from datetime import UTC, datetime

from celcombiller.core.access.credentials import pins
from celcombiller.core.selling import sales, sellers
from celcombiller.core.selling.selling_terms import SellingTerms
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from celcombiller.runtime.credentials.password_hash import hash_password
from tests.support.selling.sellers import OPERATOR

PIN = "2580"
STOCK = 1000


def shows_pin(text, pin=PIN):
    """Return whether the PIN stands in a text: not as a part of a number or of an id in hexadecimal digits."""
    return bool(re.search(rf"(?<![0-9a-f]){pin}(?![0-9a-f])", text))


def add_seller(biller, number, *, pin=PIN, stock=STOCK):
    """Make the subscriber of a number a seller, as the operator's commands do."""
    username, now = f"user{number}", datetime.now(UTC)
    engine = _open(biller)

    def work(tx):
        sellers.add(tx, OPERATOR, username, terms={}, zone=UTC, now=now)
        sales.refill(tx, SellingTerms(), OPERATOR, username, stock, key="stock", origin="command", now=now)
        pins.set_pin(tx, OPERATOR, username, pins.NewPin(pin, hash_password(pin)), now)

    transact(engine, work)
    engine.dispose()


def stock_of(biller, number):
    """Return what a seller has to sell."""
    engine = _open(biller)
    stock = transact(engine, lambda tx: sellers.find_by_name(tx, f"user{number}").posted)
    engine.dispose()
    return stock


def _open(biller):
    url = biller.url if biller.url.startswith("postgresql") else f"sqlite:///{biller.folder / 'celcombiller.sqlite'}"
    return open_engine(url, lock_seconds=5)
