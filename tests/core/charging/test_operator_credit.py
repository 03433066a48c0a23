"""An operator who takes credit that is in use learns how much of it is."""

from datetime import timedelta

import pytest

from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.charging.operator_credit import credit
from celcombiller.core.charging.requests import Credit
from celcombiller.core.errors import InsufficientBalance
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import Kind
from tests.support.databases import NOW

ADMIN = Actor("admin", "127.0.0.1", manages=ALL_LEVELS)


def give(tx, value, number):
    return credit(tx, Credit("u1001", Kind.VOICE, value, "web", f"id:{number}"), ADMIN, NOW)


def test_a_refused_debit_names_what_is_held(engine):
    with engine.begin() as tx:
        give(tx, 50, 1)
        own, book = balances(tx, 1)[Kind.VOICE].id, Book()
        book.load(tx, [own])
        book.hold("call:1", own, 30, now=NOW, expires_at=NOW + timedelta(hours=1))
        book.save(tx)
        with pytest.raises(InsufficientBalance, match=r"40 asked for, 20 available; calls .* in progress hold 30 more"):
            give(tx, -40, 2)
        give(tx, -20, 3)
        book = Book()
        book.load(tx, [own], ["call:1"])
        book.release("call:1", now=NOW)
        book.save(tx)
        with pytest.raises(InsufficientBalance, match=r"40 asked for, 30 available$"):
            give(tx, -40, 4)
