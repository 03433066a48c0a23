"""Changes of trunks and routes by an author, who must be allowed to, with their rows of the audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celcombiller.core.access import audit_trail
from celcombiller.core.routing import route_records, trunk_records

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.model.routing import CallRoute, Trunk


def add_trunk(tx: Connection, actor: Actor, *, now: datetime, **fields: Any) -> Trunk:
    """Create a trunk. Raises as `trunk_records.add` does, and `Forbidden`."""
    actor.check_administers()
    made = trunk_records.add(tx, now=now, **fields)
    audit_trail.record(tx, actor, "add", f"trunk:{made.id}", after=made, now=now)
    return made


def change_trunk(tx: Connection, actor: Actor, trunk_id: int, changes: Mapping[str, Any], now: datetime) -> Trunk:
    """Change fields of a trunk. Raises as `trunk_records.change` does, and `Forbidden`."""
    actor.check_administers()
    was = trunk_records.find_by_id(tx, trunk_id)
    is_ = trunk_records.change(tx, trunk_id, changes)
    audit_trail.record(tx, actor, "change", f"trunk:{was.id}", before=was, after=is_, now=now)
    return is_


def delete_trunk(tx: Connection, actor: Actor, trunk_id: int, now: datetime) -> Trunk:
    """Delete a trunk. Raises as `trunk_records.delete` does, and `Forbidden`."""
    actor.check_administers()
    was = trunk_records.delete(tx, trunk_id, now)
    audit_trail.record(tx, actor, "delete", f"trunk:{was.id}", before=was, now=now)
    return was


def add_route(tx: Connection, actor: Actor, *, now: datetime, **fields: Any) -> CallRoute:
    """Create a route. Raises as `route_records.add` does, and `Forbidden`."""
    actor.check_administers()
    made = route_records.add(tx, now=now, **fields)
    audit_trail.record(tx, actor, "add", f"route:{made.id}", after=made, now=now)
    return made


def change_route(tx: Connection, actor: Actor, route_id: int, changes: Mapping[str, Any], now: datetime) -> CallRoute:
    """Change fields of a route. Raises as `route_records.change` does, and `Forbidden`."""
    actor.check_administers()
    was = route_records.find_by_id(tx, route_id)
    is_ = route_records.change(tx, route_id, changes)
    audit_trail.record(tx, actor, "change", f"route:{was.id}", before=was, after=is_, now=now)
    return is_


def delete_route(tx: Connection, actor: Actor, route_id: int, now: datetime) -> CallRoute:
    """Delete a route. Raises as `route_records.delete` does, and `Forbidden`."""
    actor.check_administers()
    was = route_records.delete(tx, route_id, now)
    audit_trail.record(tx, actor, "delete", f"route:{was.id}", before=was, now=now)
    return was
