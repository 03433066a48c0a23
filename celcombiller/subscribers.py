"""Subscribers: make, find and change them, on an open transaction."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller import schema
from celcombiller.errors import AlreadyTaken, InvalidValue, UnknownSubscriber
from celcombiller.model import Kind, Level, Subscriber

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy.engine import Connection

_SHAPES = {
    "username": (re.compile(r"[^\s/\x00-\x1f\x7f]{1,64}"), "1 to 64 characters without spaces or slashes"),
    "clid": (re.compile(r"[0-9]{1,15}"), "1 to 15 digits (E.164 has at most 15)"),
    "imsi": (re.compile(r"[0-9]{6,15}"), "6 to 15 digits (3GPP TS 23.003, 2.2)"),
    "cpf": (re.compile(r"[0-9]{1,14}"), "1 to 14 digits"),
    "name": (re.compile(r"[^\x00-\x1f\x7f]{1,200}"), "1 to 200 characters"),
    "address": (re.compile(r"[^\x00-\x08\x0b-\x1f\x7f]{0,500}"), "up to 500 characters"),
}

LIVING = schema.subscriber.c.deleted_at.is_(None)
"""Not deleted: the condition of every look for a subscriber by who he is, and of the indexes that serve it."""


def check(field: str, value: str) -> str:
    """Give ``value`` back if it is one for this field, or raise `InvalidValue` saying what is allowed."""
    shape, allowed = _SHAPES[field]
    if not shape.fullmatch(value):
        raise InvalidValue(f"{field} must be {allowed}")
    return value


def add(
    tx: Connection,
    *,
    username: str,
    name: str,
    clid: str,
    imsi: str,
    cpf: str | None,
    address: str,
    level: Level,
    password_hash: str | None,
    now: datetime,
) -> Subscriber:
    """Make a subscriber with an empty account of each kind.

    Raises `InvalidValue` for a field of the wrong shape, `AlreadyTaken` when another has one of the identities.
    """
    values: dict[str, Any] = {
        "username": check("username", username),
        "name": check("name", name),
        "clid": check("clid", clid),
        "imsi": check("imsi", imsi),
        "cpf": None if cpf is None else check("cpf", cpf),
        "address": check("address", address),
        "level": level,
        "enabled": True,
    }
    table = schema.subscriber
    for field in ("username", "clid", "imsi", "cpf"):
        taken = sa.select(table.c.id).where(table.c[field] == values[field], LIVING)
        if values[field] is not None and tx.execute(taken).first() is not None:
            raise AlreadyTaken(f"another subscriber has the {field} {values[field]}")
    made = tx.execute(
        sa.insert(table).values(**values, password_hash=password_hash, created_at=now).returning(table.c.id)
    )
    subscriber_id = made.scalar_one()
    tx.execute(
        sa.insert(schema.account),
        [{"subscriber_id": subscriber_id, "kind": kind, "posted": 0, "held": 0} for kind in Kind],
    )
    return Subscriber(id=subscriber_id, **values)


def find(tx: Connection, username: str) -> Subscriber:
    """Give the subscriber of this username, or raise `UnknownSubscriber`."""
    row = tx.execute(sa.select(schema.subscriber).where(schema.subscriber.c.username == username, LIVING)).first()
    if row is None:
        raise UnknownSubscriber(f"no subscriber is called {username}")
    return subscriber_of(row)


def everyone(tx: Connection) -> Iterable[Subscriber]:
    """Give all subscribers, by username."""
    rows = tx.execute(sa.select(schema.subscriber).where(LIVING).order_by(schema.subscriber.c.username))
    return map(subscriber_of, rows)


def enable(tx: Connection, username: str, *, enabled: bool) -> Subscriber:
    """Let the subscriber use the service or not, from the next call on. Raises `UnknownSubscriber`."""
    table = schema.subscriber
    tx.execute(sa.update(table).where(table.c.username == username, LIVING).values(enabled=enabled))
    return find(tx, username)


def any_administrator(tx: Connection) -> str | None:
    """Give the username of the first administrator, or ``None`` when there is none yet."""
    table = schema.subscriber
    row = tx.execute(
        sa.select(table.c.username).where(table.c.level == Level.ADMINISTRATOR, LIVING).order_by(table.c.id).limit(1)
    ).first()
    return None if row is None else str(row.username)


def subscriber_of(row: Any) -> Subscriber:
    """Make the value of a subscriber row."""
    return Subscriber(
        row.id, row.username, row.name, row.clid, row.imsi, row.cpf, row.address, Level(row.level), row.enabled
    )


class Directory:
    """Subscribers in memory for one transaction, found by what a call says of them."""

    def __init__(self, subscribers: Iterable[Subscriber]) -> None:
        self._by_username: dict[str, Subscriber] = {}
        self._by_clid: dict[str, Subscriber] = {}
        self._by_imsi: dict[str, Subscriber] = {}
        for each in subscribers:
            self._by_username[each.username] = each
            self._by_clid[each.clid] = each
            self._by_imsi[each.imsi] = each

    @classmethod
    def load(cls, tx: Connection, identities: Iterable[str]) -> Directory:
        """Read the subscribers whom any of ``identities`` may name: a username, a number, or IMSI and digits."""
        words = {word for word in identities if word}
        if not words:
            return cls(())
        return cls(map(subscriber_of, tx.execute(sa.select(schema.subscriber).where(cls.named(words)))))

    @staticmethod
    def named(words: Iterable[str]) -> sa.ColumnElement[bool]:
        """Give the condition on subscribers that any of ``words`` names."""
        columns = schema.subscriber.c
        words = set(words)
        # The condition in each branch: SQLite takes a branch's index only for what the branch itself says.
        return sa.or_(
            sa.and_(columns.username.in_(words), LIVING),
            sa.and_(columns.clid.in_({number_of(word) for word in words}), LIVING),
            sa.and_(columns.imsi.in_({_imsi_of(word) for word in words}), LIVING),
        )

    def caller(self, account_code: str, caller_number: str) -> Subscriber | None:
        """Find who pays: by account code (username or number), else caller number, else ``IMSI…`` in either."""
        return (
            (self._by_username.get(account_code) or self._by_clid.get(number_of(account_code)))
            or self._by_clid.get(number_of(caller_number))
            or self._by_imsi.get(_imsi_of(account_code))
            or self._by_imsi.get(_imsi_of(caller_number))
        )

    def callee(self, number: str) -> Subscriber | None:
        """Find who has the called number."""
        return self._by_clid.get(number_of(number)) or self._by_imsi.get(_imsi_of(number))


def number_of(word: str) -> str:
    """Give a number as it is stored: no ``+`` in front (E.164 digits)."""
    return word.removeprefix("+")


def _imsi_of(word: str) -> str:
    return word[4:] if word[:4].upper() == "IMSI" else ""
