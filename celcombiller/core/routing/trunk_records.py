"""Trunks: create, find, change and delete them, on an open transaction."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.errors import AlreadyTaken, InUse, InvalidValue, UnknownTrunk
from celcombiller.core.model.routing import Trunk
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.routing.trunk_dial import check_caller_id, check_dial, check_number_part
from celcombiller.core.schema import tables
from celcombiller.core.schema.catalogue_change import record_change
from celcombiller.core.schema.rows import value_from_row
from celcombiller.core.tariffs import tariff_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

CALLS_MAX = 1_000_000
"""The highest limit of simultaneous calls."""

_NAME = re.compile(rf"[^{UNPRINTABLE}\s]{{1,64}}")

_trunk = tables.trunk
_NOT_DELETED = _trunk.c.deleted_at.is_(None)


def add(tx: Connection, *, name: str, dial: str, now: datetime, **fields: Any) -> Trunk:
    """Create a trunk, enabled; no route has it yet. Raises `InvalidValue`, `AlreadyTaken` and `UnknownTariff`."""
    values = {"enabled": True, "name": name, "dial": dial, **fields}
    _check(tx, values)
    made = tx.execute(sa.insert(_trunk).values(**values, created_at=now).returning(_trunk)).one()
    record_change(tx)
    return value_from_row(made, Trunk)


def find(tx: Connection, name: str) -> Trunk:
    """Return the trunk of this name. Raise `UnknownTrunk` if there is none."""
    return _find_one(tx, _trunk.c.name == name, f"no trunk is called {name}")


def find_by_id(tx: Connection, trunk_id: int, *, lock: bool = False) -> Trunk:
    """Return the trunk of this id. Raise `UnknownTrunk` if there is none.

    With ``lock``, it comes into no route until this transaction ends.
    """
    return _find_one(tx, _trunk.c.id == trunk_id, f"no trunk has the id {trunk_id}", lock=lock)


def _find_one(tx: Connection, which: sa.ColumnElement[bool], otherwise: str, *, lock: bool = False) -> Trunk:
    statement = sa.select(_trunk).where(which, _NOT_DELETED)
    row = tx.execute(statement.with_for_update(key_share=True) if lock else statement).first()
    if row is None:
        raise UnknownTrunk(otherwise)
    return value_from_row(row, Trunk)


def list_all(tx: Connection, *, after_id: int = 0, limit: int | None = None) -> list[Trunk]:
    """Return the trunks in the order in which they were made."""
    rows = tx.execute(sa.select(_trunk).where(_NOT_DELETED, _trunk.c.id > after_id).order_by(_trunk.c.id).limit(limit))
    return [value_from_row(row, Trunk) for row in rows]


def count_open_calls(tx: Connection, trunk_ids: Iterable[int]) -> dict[int, int]:
    """Return how many calls go by each trunk now; a trunk without any is left out."""
    column = tables.call.c.trunk_id
    is_open = tables.call.c.state == sa.literal_column("'open'")
    counts = sa.select(column, sa.func.count()).where(column.in_([*trunk_ids]), is_open).group_by(column)
    return {row[0]: row[1] for row in tx.execute(counts)}


def change(tx: Connection, trunk_id: int, changes: Mapping[str, Any]) -> Trunk:
    """Change fields of a trunk, from the next call on. Raises as `add` does, and `UnknownTrunk`."""
    find_by_id(tx, trunk_id, lock=True)
    _check(tx, changes, but=trunk_id)
    if changes:
        tx.execute(sa.update(_trunk).where(_trunk.c.id == trunk_id).values(dict(changes)))
        record_change(tx)
    return find_by_id(tx, trunk_id)


def delete(tx: Connection, trunk_id: int, now: datetime) -> Trunk:
    """Mark a trunk as deleted; calls that go by it go on. Raises `UnknownTrunk`, and `InUse` while a route has it."""
    was = find_by_id(tx, trunk_id, lock=True)
    route, place = tables.route, tables.route_trunk
    users = sa.select(route.c.prefix).join(place, place.c.route_id == route.c.id)
    user = tx.execute(users.where(place.c.trunk_id == trunk_id, route.c.deleted_at.is_(None))).first()
    if user is not None:
        raise InUse(f"the route {user[0]!r} has the trunk {was.name}: take it out first, or disable the trunk")
    tx.execute(sa.update(_trunk).where(_trunk.c.id == trunk_id).values(deleted_at=now))
    record_change(tx)
    return was


def _check(tx: Connection, values: Mapping[str, Any], *, but: int = 0) -> None:
    """Raise `InvalidValue`, `AlreadyTaken` or `UnknownTariff` unless these fields may be so."""
    if "name" in values:
        name = values["name"]
        if not _NAME.fullmatch(name):
            raise _wrong("name", "must be 1 to 64 characters without spaces")
        taken = sa.select(_trunk.c.id).where(_trunk.c.name == name, _NOT_DELETED, _trunk.c.id != but)
        if tx.execute(taken).first() is not None:
            raise AlreadyTaken(f"another trunk is called {name}", {"name": "another trunk has it"})
    if "dial" in values:
        check_dial(values["dial"])
    for field in ("strip", "prepend"):
        if field in values:
            check_number_part(values[field], field)
    if "caller_id" in values:
        check_caller_id(values["caller_id"])
    calls_max = values.get("calls_max")
    if calls_max is not None and not 0 <= calls_max <= CALLS_MAX:
        raise _wrong("calls_max", f"must be from 0 to {CALLS_MAX}, or null for no limit")
    if values.get("tariff_id") is not None:
        tariff_records.find_by_id(tx, values["tariff_id"])


def _wrong(field: str, what: str) -> InvalidValue:
    return InvalidValue(f"{field} {what}", {field: what})
