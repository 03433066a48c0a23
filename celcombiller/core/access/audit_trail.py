"""The audit trail: who changed what, from where, with the value before and after. On an open transaction.

A row is written in the transaction of the change itself, so neither is committed without the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  `value_from_row` reads the types of the fields
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from celcombiller.core.schema import tables
from celcombiller.core.schema.rows import value_from_row

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor


def record(
    tx: Connection,
    actor: Actor,
    action: str,
    subject: str,
    *,
    before: object = None,
    after: object = None,
    now: datetime,
) -> None:
    """Record that ``actor`` did ``action`` to ``subject`` (``subscriber:ana``, ``token:3``).

    ``before`` and ``after`` are values of the model; none of them contains a password or a secret.
    """
    tx.execute(
        sa.insert(tables.trail).values(
            at=now,
            actor=actor.name,
            address=actor.address,
            action=action,
            subject=subject,
            before=_encode_json(before),
            after=_encode_json(after),
        )
    )


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row of the trail; ``before`` and ``after`` are JSON texts."""

    id: int
    at: datetime
    actor: str
    address: str
    action: str
    subject: str
    before: str | None
    after: str | None


def entries(
    tx: Connection,
    *,
    limit: int,
    before_id: int | None = None,
    actor: str | None = None,
    subject: str | None = None,
) -> list[AuditEntry]:
    """Return the last ``limit`` rows, newest first, filtered by row id, actor and subject where these are set."""
    table = tables.trail
    conditions = [] if before_id is None else [table.c.id < before_id]
    if actor is not None:
        conditions.append(table.c.actor == actor)
    if subject is not None:
        conditions.append(table.c.subject == subject)
    rows = tx.execute(sa.select(table).where(*conditions).order_by(table.c.id.desc()).limit(limit))
    return [value_from_row(row, AuditEntry) for row in rows]


def _encode_json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
