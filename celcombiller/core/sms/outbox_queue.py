"""The queue of messages to send: claim, reschedule, release, and expire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.model.messages import Message, MessageState, Route
from celcombiller.core.retry import retry_after
from celcombiller.core.schema import leases, tables
from celcombiller.core.schema.expressions import inline_literal
from celcombiller.core.sms.charging import MessageOutcome
from celcombiller.core.sms.encoding import printable
from celcombiller.core.sms.message_records import message_from_row
from celcombiller.core.subscribers.subscriber_records import subscriber_from_row

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.subscribers import Subscriber

NOTE_CHARACTERS_MAX = 500


_message = tables.message


_part = tables.message_part


_subscriber = tables.subscriber


IS_QUEUED = _message.c.state == inline_literal(MessageState.QUEUED)


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """A claimed message, to be sent ``until`` its claim lapses. ``taken``: the parts that the network has already."""

    id: int
    message: Message
    callee: Subscriber | None
    taken: frozenset[int]
    until: datetime


def is_due(tx: Connection, route: Route, now: datetime) -> bool:
    """Return whether there is a message to claim. Reads only."""
    return tx.execute(sa.select(_message.c.id).where(*_ready(route, now)).limit(1)).first() is not None


def count_due(tx: Connection, route: Route, now: datetime, *, limit: int) -> int:
    """Return how many messages there are to claim; from ``limit`` on they are not counted."""
    due = sa.select(_message.c.id).where(*_ready(route, now)).limit(limit).subquery()
    return int(tx.execute(sa.select(sa.func.count()).select_from(due)).scalar_one())


def claim(
    tx: Connection, route: Route, owner: str, now: datetime, *, limit: int, lease: timedelta
) -> list[OutboxMessage]:
    """Claim the messages that have waited longest, for the time of ``lease``."""
    ready = sa.select(_message).where(*_ready(route, now)).order_by(_message.c.queued_at, _message.c.id)
    rows = leases.lock_rows(tx, ready, limit=limit)
    if not rows:
        return []
    taken = sa.update(_message).where(_message.c.id.in_([row.id for row in rows]))
    tx.execute(taken.values(claimed_by=owner, claimed_until=now + lease))
    parts: dict[str, set[int]] = {}
    for part in tx.execute(sa.select(_part).where(_part.c.reference.in_([row.reference for row in rows]))):
        parts.setdefault(part.reference, set()).add(part.part)
    found = tx.execute(sa.select(_subscriber).where(_subscriber.c.id.in_({row.callee_id for row in rows} - {None})))
    callees = {row.id: subscriber_from_row(row) for row in found}
    return [
        OutboxMessage(
            row.id,
            message_from_row(row),
            callees.get(row.callee_id),
            frozenset(parts.get(row.reference, ())),
            now + lease,
        )
        for row in rows
    ]


def _ready(route: Route, now: datetime) -> list[sa.ColumnElement[bool]]:
    free, try_due = leases.is_free(_message, now), leases.is_try_due(_message, now)
    return [IS_QUEUED, _message.c.route == route.value, free, try_due, _message.c.expires_at > now]


def reschedule(
    tx: Connection, owner: str, references: Collection[str], why: str, now: datetime, *, retry_seconds_max: float
) -> None:
    """Set when the messages of an owner are tried again: after a longer time at each attempt."""
    rows = tx.execute(sa.select(_message).where(_is_claimed_by(owner), _message.c.reference.in_(references))).all()
    for row in rows:
        attempts = row.attempts + 1
        again = now + retry_after(attempts, retry_seconds_max)
        values = {"attempts": attempts, "next_try_at": again, "note": printable(why)[:NOTE_CHARACTERS_MAX]}
        tx.execute(sa.update(_message).where(_message.c.id == row.id).values(**values, **leases.RELEASED))


def release_claims(tx: Connection, owner: str) -> None:
    """Release the claims of an owner, for others to take."""
    tx.execute(sa.update(_message).where(_is_claimed_by(owner)).values(**leases.RELEASED))


def _is_claimed_by(owner: str) -> sa.ColumnElement[bool]:
    return sa.and_(IS_QUEUED, _message.c.claimed_by == owner)


def record_accepted_part(tx: Connection, reference: str, part: int, network_id: str, now: datetime) -> None:
    """Record that the network accepted a part, with the network's id; the first record of a part stays."""
    known = sa.select(_part.c.part).where(_part.c.reference == reference, _part.c.part == part)
    if tx.execute(known).first() is None:
        values = {"reference": reference, "part": part, "network_id": network_id, "accepted_at": now}
        tx.execute(sa.insert(_part).values(values))


def overdue(tx: Connection, now: datetime, *, limit: int) -> list[MessageOutcome]:
    """Return the outcomes of messages that have expired: none was reported in time."""
    free = leases.is_free(_message, now)
    rows = tx.execute(
        sa.select(_message)
        .where(_message.c.ended_at.is_(None), _message.c.expires_at <= now, free)
        .order_by(_message.c.expires_at)
        .limit(limit)
    )
    return [MessageOutcome(row.reference, MessageState.EXPIRED, _expiry_note(row)) for row in rows]


def _expiry_note(row: Any) -> str:
    if row.state == MessageState.SENDING:
        return "nobody told whether the network took it"
    if row.note:
        return f"given up after {row.attempts} attempts: {row.note}"[:NOTE_CHARACTERS_MAX]
    return "it was not sent in its time"
