"""Rows of the queue: what one network should know of one IMSI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection


ERROR_CHARACTERS_MAX = 200


ROW_MAX = 100
"""Characters of a row that are shown."""


_entry = tables.network_entry


IS_WAITING = _entry.c.done_at.is_(None)


@dataclass(frozen=True, slots=True)
class ProvisioningEntry:
    """What a network knows of one IMSI: its number (empty: none) and a name, which is the subscriber's id."""

    imsi: str
    msisdn: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row of a network's list that is not as it should be: its text, shortened; and its IMSI, empty if none."""

    text: str
    imsi: str = ""


def show_row(text: str) -> str:
    """Return the text of a row as it is shown: printable, on one line, and not long."""
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text[:ROW_MAX])
    return shown if len(text) <= ROW_MAX else f"{shown}…"


def describe_unreadable(rows: Sequence[UnreadableRow]) -> str:
    """Return one sentence on the rows that could not be read; empty if there are none."""
    if not rows:
        return ""
    return f"rows of its list that cannot be read: {len(rows)}, such as {rows[0].text}"


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
