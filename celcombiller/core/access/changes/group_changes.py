"""Changes of groups by an author, who must be allowed to, with their rows of the audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celcombiller.core.access import audit_trail
from celcombiller.core.subscribers import group_records

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.model.subscribers import Group


def add(tx: Connection, actor: Actor, *, now: datetime, **fields: Any) -> Group:
    """Create a group. Raises as `group_records.add` does, and `Forbidden`."""
    actor.check_administers()
    made = group_records.add(tx, now=now, **fields)
    audit_trail.record(tx, actor, "add", _subject(made), after=made, now=now)
    return made


def change(tx: Connection, actor: Actor, group_id: int, changes: Mapping[str, Any], now: datetime) -> Group:
    """Change fields of a group. Raises as `group_records.change` does, and `Forbidden`."""
    actor.check_administers()
    was = group_records.find_by_id(tx, group_id)
    is_ = group_records.change(tx, group_id, changes, now)
    audit_trail.record(tx, actor, "change", _subject(was), before=was, after=is_, now=now)
    return is_


def delete(tx: Connection, actor: Actor, group_id: int, now: datetime) -> Group:
    """Delete a group. Raises as `group_records.delete` does, and `Forbidden`."""
    actor.check_administers()
    was = group_records.delete(tx, group_id, now)
    audit_trail.record(tx, actor, "delete", _subject(was), before=was, now=now)
    return was


def _subject(group: Group) -> str:
    return f"group:{group.id}"
