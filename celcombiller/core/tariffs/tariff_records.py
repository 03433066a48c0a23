"""Tariffs: create, find, change and delete them, on an open transaction. Their prices are in versions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  `value_from_row` reads the types of the fields
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from celcombiller.core.errors import AlreadyTaken, InUse, InvalidValue, UnknownTariff
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.schema import tables
from celcombiller.core.schema.catalogue_change import record_change
from celcombiller.core.schema.rows import value_from_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

SETTINGS_NAME = "settings"
"""The name under which the rates of the settings are shown; no tariff of the ledger has it."""

CREDITS_PER_UNIT_MAX = 10**12
CURRENCY_CHARACTERS_MAX = 16

_NAME = re.compile(rf"[^{UNPRINTABLE}]{{1,200}}")
_CURRENCY = re.compile(rf"[^{UNPRINTABLE}0-9.,+-]{{0,{CURRENCY_CHARACTERS_MAX}}}")

_tariff = tables.tariff
NOT_DELETED = _tariff.c.deleted_at.is_(None)


@dataclass(frozen=True, slots=True)
class TariffRecord:
    """A price list without its prices. ``credits_per_unit``: the credits of one unit of ``currency``."""

    id: int
    name: str
    currency: str
    credits_per_unit: int
    time_zone: str
    is_default: bool
    created_at: datetime


def add(
    tx: Connection, *, name: str, currency: str = "", credits_per_unit: int = 1, time_zone: str, now: datetime
) -> TariffRecord:
    """Create a tariff without a version, which prices nothing yet. Raises `InvalidValue` and `AlreadyTaken`."""
    values = {"name": name, "currency": currency, "credits_per_unit": credits_per_unit, "time_zone": time_zone}
    _check(tx, values)
    inserted = sa.insert(_tariff).values(**values, is_default=False, created_at=now).returning(_tariff)
    made = value_from_row(tx.execute(inserted).one(), TariffRecord)
    record_change(tx)
    return made


def find(tx: Connection, name: str) -> TariffRecord:
    """Return the tariff of this name. Raise `UnknownTariff` if there is none."""
    return _find_one(tx, _tariff.c.name == name, f"no tariff is called {name}")


def find_by_id(tx: Connection, tariff_id: int, *, lock: bool = False) -> TariffRecord:
    """Return the tariff of this id. Raise `UnknownTariff` if there is none.

    With ``lock``, no version of it is written by others until this transaction ends.
    """
    return _find_one(tx, _tariff.c.id == tariff_id, f"no tariff has the id {tariff_id}", lock=lock)


def _find_one(tx: Connection, which: sa.ColumnElement[bool], otherwise: str, *, lock: bool = False) -> TariffRecord:
    statement = sa.select(_tariff).where(which, NOT_DELETED)
    row = tx.execute(statement.with_for_update(key_share=True) if lock else statement).first()
    if row is None:
        raise UnknownTariff(otherwise)
    return value_from_row(row, TariffRecord)


def list_all(tx: Connection, *, after_id: int = 0, limit: int | None = None) -> list[TariffRecord]:
    """Return the tariffs in the order in which they were made."""
    rows = tx.execute(
        sa.select(_tariff).where(NOT_DELETED, _tariff.c.id > after_id).order_by(_tariff.c.id).limit(limit)
    )
    return [value_from_row(row, TariffRecord) for row in rows]


def change(tx: Connection, tariff_id: int, changes: Mapping[str, Any]) -> TariffRecord:
    """Change name, currency, credits per unit or time zone.

    The zone belongs to the prices, so it stays as it is once a version has been given its moment. Raises
    `UnknownTariff`, `InvalidValue`, `AlreadyTaken`, `InUse`.
    """
    was = find_by_id(tx, tariff_id, lock=True)
    _check(tx, changes, but=tariff_id)
    if changes.get("time_zone", was.time_zone) != was.time_zone and _has_version(tx, tariff_id):
        raise InUse(f"{was.name} has versions: their times of the week are in {was.time_zone}; make another tariff")
    if changes:
        tx.execute(sa.update(_tariff).where(_tariff.c.id == tariff_id).values(dict(changes)))
        record_change(tx)
    return find_by_id(tx, tariff_id)


def set_default(tx: Connection, tariff_id: int | None) -> None:
    """Make a tariff the default, or none: then the settings' rates are. Raises `UnknownTariff`."""
    if tariff_id is not None:
        find_by_id(tx, tariff_id, lock=True)
    tx.execute(sa.update(_tariff).where(_tariff.c.is_default, NOT_DELETED).values(is_default=False))
    if tariff_id is not None:
        tx.execute(sa.update(_tariff).where(_tariff.c.id == tariff_id).values(is_default=True))
    record_change(tx)


def delete(tx: Connection, tariff_id: int, now: datetime) -> TariffRecord:
    """Mark a tariff as deleted. What was charged by it still names its versions, which stay.

    Raises `UnknownTariff`, and `InUse` for the default, and where a subscriber, a group or a trunk has it.
    """
    was = find_by_id(tx, tariff_id, lock=True)
    if was.is_default:
        raise InUse(f"{was.name} is the default tariff: make another one the default first")
    for table, what in ((tables.subscriber, "subscriber"), (tables.subscriber_group, "group"), (tables.trunk, "trunk")):
        name = table.c.username if table is tables.subscriber else table.c.name
        user = tx.execute(sa.select(name).where(table.c.tariff_id == tariff_id, table.c.deleted_at.is_(None))).first()
        if user is not None:
            raise InUse(f"the {what} {user[0]} has the tariff {was.name}: give it another one first")
    tx.execute(sa.update(_tariff).where(_tariff.c.id == tariff_id).values(deleted_at=now))
    record_change(tx)
    return was


def _has_version(tx: Connection, tariff_id: int) -> bool:
    version = tables.tariff_version
    found = sa.select(version.c.id).where(version.c.tariff_id == tariff_id, version.c.effective_at.is_not(None))
    return tx.execute(found.limit(1)).first() is not None


def _check(tx: Connection, values: Mapping[str, Any], *, but: int = 0) -> None:
    """Raise `InvalidValue` or `AlreadyTaken` unless these columns can have these values."""
    if "name" in values:
        name = values["name"]
        if not _NAME.fullmatch(name) or name != name.strip() or name == SETTINGS_NAME:
            raise _wrong("name", f"must be 1 to 200 characters on one line, and not {SETTINGS_NAME}")
        taken = sa.select(_tariff.c.id).where(_tariff.c.name == name, NOT_DELETED, _tariff.c.id != but)
        if tx.execute(taken).first() is not None:
            raise AlreadyTaken(f"another tariff is called {name}", {"name": "another tariff has it"})
    if not _CURRENCY.fullmatch(values.get("currency", "")):
        raise _wrong(
            "currency", f"must be at most {CURRENCY_CHARACTERS_MAX} characters without digits, such as R$ or EUR"
        )
    if not 1 <= values.get("credits_per_unit", 1) <= CREDITS_PER_UNIT_MAX:
        raise _wrong("credits_per_unit", f"must be a whole number from 1 to {CREDITS_PER_UNIT_MAX}")
    if "time_zone" in values:
        try:
            ZoneInfo(values["time_zone"])
        except (KeyError, ValueError, OSError):
            raise _wrong("time_zone", "must be a name of the IANA list, such as America/Sao_Paulo") from None


def _wrong(field: str, what: str) -> InvalidValue:
    return InvalidValue(f"{field} {what}", {field: what})
