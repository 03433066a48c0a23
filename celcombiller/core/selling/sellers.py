"""Sellers on an open transaction: made, changed and found by the operator; each has an account of the kind seller."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.access import audit_trail
from celcombiller.core.errors import AlreadyTaken, InvalidValue, SellerDisabled, UnknownSeller
from celcombiller.core.ledger import accounts
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import SellerKind
from celcombiller.core.model.selling import RATE_WHOLE, Commission, Seller
from celcombiller.core.schema import tables
from celcombiller.core.schema.rows import value_from_row
from celcombiller.core.selling.receipts import lock_series, series_of_seller
from celcombiller.core.subscribers import subscriber_records

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, tzinfo

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.model.subscribers import Subscriber

GENERATIONS_MAX = 8
"""How deep a tree of sellers may be."""

_CLASS = re.compile(r"[a-z0-9_]{0,32}", re.ASCII)
_seller, _account, _subscriber = tables.seller, tables.account, tables.subscriber

_COLUMNS = {"parent_id", "seller_class", "commission", "commission_rate", "sale_max", "enabled"}
FIELDS = _COLUMNS | {"credit_line", "day_limit"}
"""What of a seller can be set."""


def add(
    tx: Connection, actor: Actor, username: str, *, terms: Mapping[str, Any], zone: tzinfo, now: datetime
) -> Seller:
    """Make a subscriber a seller, with an empty account. ``terms`` are `FIELDS`; what is not named has no limit.

    Raises `UnknownSubscriber`, `AlreadyTaken`, `UnknownSeller` (the parent), `InvalidValue` and `Forbidden`.
    """
    actor.check_administers()
    who = subscriber_records.find(tx, username)
    subscriber_records.lock_password(tx, who.id)  # the subscriber's row: of two at once the second finds the seller
    if tx.execute(sa.select(_seller.c.subscriber_id).where(_seller.c.subscriber_id == who.id)).first():
        raise AlreadyTaken(f"{who.username} is a seller already", {"username": "is a seller already"})
    facts: dict[str, Any] = {"commission": Commission.NONE, "commission_rate": 0, "enabled": True} | dict(terms)
    _check(tx, who.id, facts)
    account: dict[str, Any] = {"subscriber_id": who.id, "kind": SellerKind.SELLER.value, "posted": 0, "held": 0}
    account_id: int = tx.execute(sa.insert(_account).values(account).returning(_account.c.id)).scalar_one()
    columns = {name: value for name, value in facts.items() if name in _COLUMNS}
    tx.execute(sa.insert(_seller).values(subscriber_id=who.id, account_id=account_id, created_at=now, **columns))
    lock_series(tx, series_of_seller(who.id), who.id)
    _set_limits(tx, account_id, facts, zone, now)
    made = find(tx, who.id)
    audit_trail.record(tx, actor, "add seller", f"subscriber:{who.username}", after=made, now=now)
    return made


def change(
    tx: Connection, actor: Actor, username: str, changes: Mapping[str, Any], *, zone: tzinfo, now: datetime
) -> Seller:
    """Change `FIELDS` of a seller. Raises as `add` does."""
    actor.check_administers()
    was = lock(tx, find_by_name(tx, username).subscriber_id)
    if "parent_id" in changes:  # of two changes at once that would close a circle, the second sees the first
        tx.execute(sa.select(_seller.c.subscriber_id).order_by(_seller.c.subscriber_id).with_for_update(key_share=True))
    facts = {"commission": was.commission, "commission_rate": was.commission_rate} | dict(changes)
    _check(tx, was.subscriber_id, facts)
    columns = {name: value for name, value in facts.items() if name in _COLUMNS}
    tx.execute(sa.update(_seller).where(_seller.c.subscriber_id == was.subscriber_id).values(columns))
    _set_limits(tx, was.account_id, changes, zone, now)
    is_ = find(tx, was.subscriber_id)
    if is_ != was:
        audit_trail.record(tx, actor, "change seller", f"subscriber:{was.username}", before=was, after=is_, now=now)
    return is_


def _set_limits(tx: Connection, account_id: int, facts: Mapping[str, Any], zone: tzinfo, now: datetime) -> None:
    if facts.get("credit_line") is not None:
        accounts.set_credit_limit(tx, account_id, -facts["credit_line"], now)
    if "day_limit" in facts:
        accounts.set_spending_limits(tx, account_id, facts["day_limit"], None, zone=zone, now=now)


def _check(tx: Connection, seller_id: int, facts: dict[str, Any]) -> None:
    """Raise `InvalidValue` for a value that a seller cannot have, `UnknownSeller` for a parent who is none."""
    unknown = facts.keys() - FIELDS
    if unknown:
        raise InvalidValue(f"a seller has no {', '.join(sorted(unknown))}")
    rate, earns = facts["commission_rate"], Commission(facts["commission"])
    bounds = {"commission_rate": (0, RATE_WHOLE), "sale_max": (1, AMOUNT_MAX), "day_limit": (0, AMOUNT_MAX)}
    bounds["credit_line"] = (0, AMOUNT_MAX)
    for name, (least, most) in bounds.items():
        value = facts.get(name)
        if value is not None and not least <= value <= most:
            what = f"must be a whole number from {least} to {most}"
            raise InvalidValue(f"{name} {what}", {name: what})
    if (earns is Commission.NONE) != (rate == 0):
        what = "must be 0 without a commission, and more than 0 with one"
        raise InvalidValue(f"commission_rate {what}", {"commission_rate": what})
    if not _CLASS.fullmatch(facts.get("seller_class", "")):
        what = "must be up to 32 small letters, digits and _"
        raise InvalidValue(f"seller_class {what}", {"seller_class": what})
    if facts.get("parent_id") is not None:
        _check_parent(tx, seller_id, facts["parent_id"])


def _check_parent(tx: Connection, seller_id: int, parent_id: int) -> None:
    """Raise `InvalidValue` where the parent is the seller, or below them, or where the tree is too deep."""
    above: int | None = parent_id
    generations = 0
    while above is not None:
        generations += 1
        if above == seller_id or generations > GENERATIONS_MAX:
            what = "must not be the seller, or below them" if above == seller_id else "has too many sellers above it"
            raise InvalidValue(f"the parent {what}", {"parent": what})
        above = find(tx, above).parent_id


_SELLERS = (
    sa.select(
        _seller,
        *(_subscriber.c[name] for name in ("username", "name", "clid")),
        *(_account.c[name] for name in ("posted", "held", "floor", "day_limit")),
    )
    .join(_subscriber, _subscriber.c.id == _seller.c.subscriber_id)
    .join(_account, _account.c.id == _seller.c.account_id)
)


def find(tx: Connection, seller_id: int) -> Seller:
    """Return the seller of a subscriber's id, deleted ones too. Raise `UnknownSeller` if there is none."""
    row = tx.execute(_SELLERS.where(_seller.c.subscriber_id == seller_id)).first()
    if row is None:
        raise UnknownSeller("this subscriber is no seller")
    return value_from_row(row, Seller)


def find_by_name(tx: Connection, username: str) -> Seller:
    """Return the seller of a username. Raises `UnknownSubscriber` and `UnknownSeller`."""
    who = subscriber_records.find(tx, username)
    row = tx.execute(_SELLERS.where(_seller.c.subscriber_id == who.id)).first()
    if row is None:
        raise UnknownSeller(f"{username} is no seller")
    return value_from_row(row, Seller)


def lock(tx: Connection, seller_id: int) -> Seller:
    """Lock a seller, by the series of their receipts, and return them as they then are. Raises `UnknownSeller`."""
    lock_series(tx, series_of_seller(find(tx, seller_id).subscriber_id), seller_id)
    return find(tx, seller_id)


def check_sells(tx: Connection, seller: Seller) -> Subscriber:
    """Return who the seller is. Raise `SellerDisabled` unless they may sell now."""
    who = subscriber_records.find_by_id(tx, seller.subscriber_id)
    if not (seller.enabled and who.enabled):
        raise SellerDisabled(f"{seller.username} may not sell now")
    return who


def list_sellers(
    tx: Connection, *, parent_id: int | None = None, after: str | None = None, limit: int | None = None
) -> list[Seller]:
    """Return the sellers who are not deleted, by username: those below a parent where one is given."""
    conditions: list[sa.ColumnElement[bool]] = [_subscriber.c.deleted_at.is_(None)]
    if parent_id is not None:
        conditions.append(_seller.c.parent_id == parent_id)
    if after is not None:
        conditions.append(_subscriber.c.username > after)
    query = _SELLERS.where(*conditions).order_by(_subscriber.c.username).limit(limit)
    return [value_from_row(row, Seller) for row in tx.execute(query)]
