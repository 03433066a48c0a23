"""Rows of the queue: what one network should know of one IMSI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection


ERROR_CHARACTERS_MAX = 200


_entry = tables.network_entry


IS_WAITING = _entry.c.done_at.is_(None)


@dataclass(frozen=True, slots=True)
class ProvisioningEntry:
    """What a network knows of one IMSI: its number (empty: none) and a name, which is the subscriber's id."""

    imsi: str
    msisdn: str
    name: str = ""


def requeued_values(now: datetime, **values: Any) -> dict[str, Any]:
    """Return the values that queue a row again. A claim stays; its work will turn out to be of an old version."""
    return {
        "version": _entry.c.version + 1,
        "queued_at": now,
        "done_at": None,
        "attempts": 0,
        "next_try_at": None,
        "last_error": "",
        **values,
    }


def update_entry(tx: Connection, name: str, imsi: str, values: Mapping[str, Any]) -> bool:
    """Update one entry; return whether it is there."""
    return tx.execute(sa.update(_entry).where(is_entry(name, imsi)).values(values)).rowcount == 1


def is_entry(name: str, imsi: str) -> sa.ColumnElement[bool]:
    """Return the condition that selects one entry."""
    return sa.and_(_entry.c.network == name, _entry.c.imsi == imsi)


def entry_from_row(row: Any) -> ProvisioningEntry | None:
    """Return what the network should know, or None where it should know nothing."""
    return ProvisioningEntry(row.imsi, row.msisdn, str(row.subscriber_id)) if row.wanted else None
