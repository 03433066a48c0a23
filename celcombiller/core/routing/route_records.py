"""Routes: create, find, change and delete them, on an open transaction."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.errors import AlreadyTaken, InvalidValue, UnknownRoute
from celcombiller.core.model.routing import CallRoute, RouteTrunk, TrunkChoice
from celcombiller.core.routing import trunk_records
from celcombiller.core.routing.prefixes import check_prefix
from celcombiller.core.schema import tables
from celcombiller.core.schema.catalogue_change import record_change

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection, Row

TRUNKS_MAX = 20
"""The trunks of one route: a call that tries more has its caller wait too long."""

WEIGHT_MAX = 1000

_route = tables.route
_place = tables.route_trunk
_NOT_DELETED = _route.c.deleted_at.is_(None)


def add(tx: Connection, *, prefix: str, choose: TrunkChoice, trunks: Sequence[RouteTrunk], now: datetime) -> CallRoute:
    """Create a route. An empty prefix is of all numbers. Raises `InvalidValue`, `AlreadyTaken` and `UnknownTrunk`."""
    prefix = _check_prefix(tx, prefix)
    _check_trunks(tx, trunks)
    made = sa.insert(_route).values(prefix=prefix, choose=choose.value, created_at=now).returning(_route.c.id)
    route = CallRoute(tx.execute(made).scalar_one(), prefix, choose, tuple(trunks))
    _write_trunks(tx, route)
    record_change(tx)
    return route


def find(tx: Connection, prefix: str) -> CallRoute:
    """Return the route of this prefix. Raise `UnknownRoute` if there is none."""
    prefix = prefix.removeprefix("+")
    return _find_one(tx, _route.c.prefix == prefix, f"no route has the prefix {prefix!r}")


def find_by_id(tx: Connection, route_id: int, *, lock: bool = False) -> CallRoute:
    """Return the route of this id. Raise `UnknownRoute` if there is none. With ``lock``, only we change it."""
    return _find_one(tx, _route.c.id == route_id, f"no route has the id {route_id}", lock=lock)


def _find_one(tx: Connection, which: sa.ColumnElement[bool], otherwise: str, *, lock: bool = False) -> CallRoute:
    statement = sa.select(_route).where(which, _NOT_DELETED)
    row = tx.execute(statement.with_for_update(key_share=True) if lock else statement).first()
    if row is None:
        raise UnknownRoute(otherwise)
    return _with_trunks(tx, [row])[0]


def list_all(tx: Connection, *, after_id: int = 0, limit: int | None = None) -> list[CallRoute]:
    """Return the routes in the order in which they were made."""
    rows = tx.execute(sa.select(_route).where(_NOT_DELETED, _route.c.id > after_id).order_by(_route.c.id).limit(limit))
    return _with_trunks(tx, rows.all())


def change(tx: Connection, route_id: int, changes: Mapping[str, Any]) -> CallRoute:
    """Change the prefix, the choice or the trunks of a route, from the next call on.

    Raises as `add` does, and `UnknownRoute`.
    """
    was = find_by_id(tx, route_id, lock=True)
    is_ = replace(was, **changes)
    if "prefix" in changes:
        is_ = replace(is_, prefix=_check_prefix(tx, is_.prefix, but=route_id))
    if is_ == was:
        return was
    tx.execute(sa.update(_route).where(_route.c.id == route_id).values(prefix=is_.prefix, choose=is_.choose.value))
    if is_.trunks != was.trunks:
        _check_trunks(tx, is_.trunks)
        tx.execute(sa.delete(_place).where(_place.c.route_id == route_id))
        _write_trunks(tx, is_)
    record_change(tx)
    return is_


def delete(tx: Connection, route_id: int, now: datetime) -> CallRoute:
    """Mark a route as deleted: its numbers then have the route of a shorter prefix, if any. Raises `UnknownRoute`."""
    was = find_by_id(tx, route_id, lock=True)
    tx.execute(sa.update(_route).where(_route.c.id == route_id).values(deleted_at=now))
    record_change(tx)
    return was


def _with_trunks(tx: Connection, rows: Sequence[Row[Any]]) -> list[CallRoute]:
    """Return the routes of rows, with their trunks."""
    places: defaultdict[int, list[RouteTrunk]] = defaultdict(list)
    found = sa.select(_place).where(_place.c.route_id.in_([row.id for row in rows]))
    for row in tx.execute(found.order_by(_place.c.route_id, _place.c.position)):
        places[row.route_id].append(RouteTrunk(row.trunk_id, row.weight))
    return [CallRoute(row.id, row.prefix, TrunkChoice(row.choose), tuple(places[row.id])) for row in rows]


def _write_trunks(tx: Connection, route: CallRoute) -> None:
    rows = [
        {"route_id": route.id, "position": position, "trunk_id": each.trunk_id, "weight": each.weight}
        for position, each in enumerate(route.trunks, 1)
    ]
    tx.execute(sa.insert(_place), rows)


def _check_prefix(tx: Connection, prefix: str, *, but: int = 0) -> str:
    prefix = check_prefix(prefix)
    taken = sa.select(_route.c.id).where(_route.c.prefix == prefix, _NOT_DELETED, _route.c.id != but)
    if tx.execute(taken).first() is not None:
        raise AlreadyTaken(f"another route has the prefix {prefix!r}", {"prefix": "another route has it"})
    return prefix


def _check_trunks(tx: Connection, trunks: Sequence[RouteTrunk]) -> None:
    """Raise `InvalidValue` or `UnknownTrunk`; lock the trunks, in the order of their ids, so that none is deleted."""
    ids = [each.trunk_id for each in trunks]
    if not 1 <= len(ids) <= TRUNKS_MAX or len(set(ids)) < len(ids):
        raise _wrong("trunks", f"must be 1 to {TRUNKS_MAX} trunks, each once")
    if not all(1 <= each.weight <= WEIGHT_MAX for each in trunks):
        raise _wrong("trunks", f"have weights from 1 to {WEIGHT_MAX}")
    for trunk_id in sorted(ids):
        trunk_records.find_by_id(tx, trunk_id, lock=True)


def _wrong(field: str, what: str) -> InvalidValue:
    return InvalidValue(f"{field} {what}", {field: what})
