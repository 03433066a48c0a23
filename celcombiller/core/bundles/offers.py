"""Offers: bundles that can be bought. Create, find, change and delete them, on an open transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.bundles.terms import BundleTerms, check_hours, check_terms, check_whole
from celcombiller.core.errors import AlreadyTaken, InvalidValue, NotFound
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.bundles import Offer
from celcombiller.core.schema import tables
from celcombiller.core.schema.catalogue_change import record_change

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection, Row

_offer = tables.offer

_NOT_DELETED = _offer.c.deleted_at.is_(None)

CHANGEABLE = (
    *("name", "price", "amount", "services", "destinations", "valid_hours", "priority", "renews", "enabled"),
    "call_seconds_max",
)
"""What of an offer can be changed: not the kind, as bundles that renew themselves would become others."""


def add(
    tx: Connection,
    terms: BundleTerms,
    *,
    price: int,
    valid_hours: int,
    renews: bool = False,
    enabled: bool = True,
    now: datetime,
) -> Offer:
    """Create an offer. Raises `InvalidValue`, and `AlreadyTaken` when another one has the name."""
    terms = check_terms(terms)
    _check_price(price)
    check_hours(valid_hours)
    _refuse_taken(tx, terms.name)
    values = _columns(terms) | {"price": price, "valid_hours": valid_hours, "renews": renews, "enabled": enabled}
    row = tx.execute(sa.insert(_offer).values(values | {"created_at": now}).returning(*_offer.c)).one()
    record_change(tx)
    return offer_from_row(row)


def find(tx: Connection, offer_id: int, *, deleted: bool = False) -> Offer:
    """Return an offer that is not deleted, or with ``deleted`` any. Raise `NotFound` if there is none."""
    which = [_offer.c.id == offer_id, *([] if deleted else [_NOT_DELETED])]
    row = tx.execute(sa.select(_offer).where(*which)).first()
    if row is None:
        raise NotFound(f"there is no offer {offer_id}")
    return offer_from_row(row)


def resolve(tx: Connection, word: str) -> Offer:
    """Return the offer of this name, or of this id. Raise `NotFound` if there is none."""
    if word.isdecimal() and len(word) <= len(str(AMOUNT_MAX)):
        return find(tx, int(word))
    row = tx.execute(sa.select(_offer).where(_offer.c.name == word, _NOT_DELETED)).first()
    if row is None:
        raise NotFound(f"there is no offer called {word}")
    return offer_from_row(row)


def list_all(
    tx: Connection, *, enabled: bool | None = None, after_id: int = 0, limit: int | None = None
) -> list[Offer]:
    """Return the offers, the oldest first; ``enabled``: only those that are, or are not, for sale."""
    conditions = [_NOT_DELETED, _offer.c.id > after_id]
    if enabled is not None:
        conditions.append(_offer.c.enabled if enabled else sa.not_(_offer.c.enabled))
    rows = tx.execute(sa.select(_offer).where(*conditions).order_by(_offer.c.id).limit(limit))
    return list(map(offer_from_row, rows))


def change(tx: Connection, offer_id: int, changes: dict[str, Any]) -> Offer:
    """Change fields of an offer, for the bundles that are bought from now on. Raises as `add` and `find` do."""
    for unknown in sorted(changes.keys() - set(CHANGEABLE)):
        raise InvalidValue(f"{unknown} cannot be changed", {unknown: "cannot be changed"})
    _lock(tx, offer_id)
    was = find(tx, offer_id)
    changed = replace(was, **changes)
    terms = check_terms(terms_of(changed))
    changed = replace(changed, services=terms.services, destinations=terms.destinations)
    _check_price(changed.price)
    check_hours(changed.valid_hours)
    if changed.name != was.name:
        _refuse_taken(tx, changed.name)
    if changed != was:
        others = {name: getattr(changed, name) for name in ("price", "valid_hours", "renews", "enabled")}
        tx.execute(sa.update(_offer).where(_offer.c.id == offer_id).values(_columns(terms) | others))
        record_change(tx)
    return changed


def delete(tx: Connection, offer_id: int, now: datetime) -> Offer:
    """Delete an offer; bundles of it go on, and do not renew themselves any more.

    Raises `NotFound`, and `InvalidValue` while a schedule gives it.
    """
    _lock(tx, offer_id)
    was = find(tx, offer_id)
    schedule = tables.schedule
    used = sa.select(schedule.c.id, schedule.c.name).where(
        schedule.c.offer_id == offer_id, schedule.c.deleted_at.is_(None)
    )
    given_by = tx.execute(used.order_by(schedule.c.id)).first()
    if given_by is not None:
        raise InvalidValue(
            f"schedule {given_by.id} ({given_by.name}) gives the offer {was.name}: delete that one first"
        )
    tx.execute(sa.update(_offer).where(_offer.c.id == offer_id).values(deleted_at=now))
    record_change(tx)
    return was


def terms_of(offer: Offer) -> BundleTerms:
    """Return what a bundle of this offer is made of."""
    return BundleTerms(
        offer.name,
        offer.kind,
        offer.amount,
        offer.services,
        offer.destinations,
        offer.priority,
        offer.call_seconds_max,
    )


def offer_from_row(row: Row[Any]) -> Offer:
    """Return the offer of a row."""
    return Offer(
        id=row.id,
        name=row.name,
        price=row.price,
        kind=BundleKind(row.kind),
        amount=row.amount,
        services=tuple(row.services.split()),
        destinations=tuple(row.destinations.split()),
        valid_hours=row.valid_hours,
        priority=row.priority,
        renews=row.renews,
        enabled=row.enabled,
        call_seconds_max=row.call_seconds_max,
    )


def _lock(tx: Connection, offer_id: int) -> None:
    tx.execute(sa.select(_offer.c.id).where(_offer.c.id == offer_id).with_for_update(key_share=True))


def _check_price(price: int) -> None:
    check_whole("price", price, 0, AMOUNT_MAX)


def _columns(terms: BundleTerms) -> dict[str, Any]:
    return {
        "name": terms.name,
        "kind": terms.kind,
        "amount": terms.amount,
        "services": " ".join(terms.services),
        "destinations": " ".join(terms.destinations),
        "priority": terms.priority,
        "call_seconds_max": terms.call_seconds_max,
    }


def _refuse_taken(tx: Connection, name: str) -> None:
    if tx.execute(sa.select(_offer.c.id).where(_offer.c.name == name, _NOT_DELETED)).first() is not None:
        raise AlreadyTaken(f"name {name} is taken by another offer", {"name": "is taken by another offer"})
