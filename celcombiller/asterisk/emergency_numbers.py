"""The numbers that are always allowed, and whether a call to them can be dialled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.subscribers.directory import Directory

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.config.tables import Calls


def list_numbers_without_way(tx: Connection, calls: Calls) -> list[str]:
    """Return the numbers of ``calls.always_allowed`` that nothing can dial: no dial string, and no subscriber."""
    if calls.always_allowed_dial or calls.external_dial:
        return []
    directory = Directory.load(tx, list(calls.always_allowed))
    return [number for number in calls.always_allowed if directory.find_callee(number) is None]
