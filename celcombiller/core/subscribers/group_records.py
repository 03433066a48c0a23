"""Groups of subscribers: create, find, change and delete them, on an open transaction."""

from __future__ import annotations

import re
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.errors import AlreadyTaken, InUse, InvalidValue, UnknownGroup
from celcombiller.core.model.subscribers import Group
from celcombiller.core.model.text import UNPRINTABLE, format_count
from celcombiller.core.schema import tables
from celcombiller.core.schema.catalogue_change import record_change
from celcombiller.core.schema.live_change import record_live_change
from celcombiller.core.subscribers.fields import check_limit, check_prefixes
from celcombiller.core.tariffs import tariff_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

_NAME = re.compile(rf"[^{UNPRINTABLE}]{{1,200}}")
_PREFIX_LISTS = ("barred", "allowed")
_LIMITS = ("calls_max", "subscriber_calls_max", "call_seconds_max", "call_cost_max")

_may_call = attrgetter(*_LIMITS, *_PREFIX_LISTS)
"""What of a group decides whether the open calls of its members may go on."""

_group = tables.subscriber_group
_NOT_DELETED = _group.c.deleted_at.is_(None)


def add(tx: Connection, *, name: str, now: datetime, **fields: Any) -> Group:
    """Create a group without members. Raises `InvalidValue`, `AlreadyTaken` and `UnknownTariff`."""
    values = _checked(tx, {"name": name, **fields})
    made = tx.execute(sa.insert(_group).values(**values, created_at=now).returning(_group)).one()
    record_change(tx)
    return group_from_row(made)


def find(tx: Connection, name: str) -> Group:
    """Return the group of this name. Raise `UnknownGroup` if there is none."""
    return _find_one(tx, _group.c.name == name, f"no group is called {name}")


def find_by_id(tx: Connection, group_id: int, *, lock: bool = False) -> Group:
    """Return the group of this id. Raise `UnknownGroup` if there is none.

    With ``lock``, no subscriber joins it until this transaction ends.
    """
    return _find_one(tx, _group.c.id == group_id, f"no group has the id {group_id}", lock=lock)


def _find_one(tx: Connection, which: sa.ColumnElement[bool], otherwise: str, *, lock: bool = False) -> Group:
    statement = sa.select(_group).where(which, _NOT_DELETED)
    row = tx.execute(statement.with_for_update() if lock else statement).first()
    if row is None:
        raise UnknownGroup(otherwise)
    return group_from_row(row)


def list_all(tx: Connection, *, after_id: int = 0, limit: int | None = None) -> list[Group]:
    """Return the groups in the order in which they were made."""
    rows = tx.execute(sa.select(_group).where(_NOT_DELETED, _group.c.id > after_id).order_by(_group.c.id).limit(limit))
    return [*map(group_from_row, rows)]


def count_members(tx: Connection, group_ids: Iterable[int]) -> dict[int, int]:
    """Return how many subscribers each group has; a group without any is left out."""
    column = tables.subscriber.c.group_id
    living = tables.subscriber.c.deleted_at.is_(None)
    counts = sa.select(column, sa.func.count()).where(column.in_([*group_ids]), living).group_by(column)
    return {row[0]: row[1] for row in tx.execute(counts)}


def change(tx: Connection, group_id: int, changes: Mapping[str, Any], now: datetime) -> Group:
    """Change fields of a group. Raises as `add` does, and `UnknownGroup`."""
    was = find_by_id(tx, group_id, lock=True)
    values = _checked(tx, changes, but=group_id)
    if values:
        tx.execute(sa.update(_group).where(_group.c.id == group_id).values(values))
    is_ = find_by_id(tx, group_id)
    if _may_call(was) != _may_call(is_):
        record_live_change(tx, None, now)
    if values:
        record_change(tx)
    return is_


def delete(tx: Connection, group_id: int, now: datetime) -> Group:
    """Mark a group as deleted. Raises `UnknownGroup`, and `InUse` while it has members."""
    was = find_by_id(tx, group_id, lock=True)
    members = count_members(tx, [group_id]).get(group_id, 0)
    if members:
        raise InUse(f"{was.name} has {format_count(members, 'member')}: give them another group first")
    tx.execute(sa.update(_group).where(_group.c.id == group_id).values(deleted_at=now))
    record_change(tx)
    return was


def group_from_row(row: Any) -> Group:
    """Return the group of a row."""
    return Group(
        row.id,
        row.name,
        row.tariff_id,
        row.calls_max,
        row.subscriber_calls_max,
        tuple(row.barred.split()),
        tuple(row.allowed.split()),
        row.call_seconds_max,
        row.call_cost_max,
    )


def _checked(tx: Connection, values: Mapping[str, Any], *, but: int = 0) -> dict[str, Any]:
    """Return fields as the columns have them. Raises `InvalidValue`, `AlreadyTaken` and `UnknownTariff`."""
    checked = dict(values)
    if "name" in checked:
        name = checked["name"]
        if not _NAME.fullmatch(name) or name != name.strip():
            what = "must be 1 to 200 characters on one line"
            raise InvalidValue(f"name {what}", {"name": what})
        taken = sa.select(_group.c.id).where(_group.c.name == name, _NOT_DELETED, _group.c.id != but)
        if tx.execute(taken).first() is not None:
            raise AlreadyTaken(f"another group is called {name}", {"name": "another group has it"})
    if checked.get("tariff_id") is not None:
        tariff_records.find_by_id(tx, checked["tariff_id"])
    for field in _LIMITS:
        if field in checked:
            check_limit(field, checked[field])
    for field in _PREFIX_LISTS:
        if field in checked:
            checked[field] = " ".join(check_prefixes(field, checked[field]))
    return checked
