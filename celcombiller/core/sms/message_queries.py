"""Find, count and list messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.messages import Message, MessageState, Route
from celcombiller.core.schema import tables
from celcombiller.core.sms.message_records import message_from_row
from celcombiller.core.sms.outbox_queue import IS_QUEUED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection


_message = tables.message


_subscriber = tables.subscriber


_account = tables.account


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """A message with its row's id, the payer's username and name, and the kind of the account that pays, if any."""

    id: int
    username: str
    name: str
    kind: Kind | None
    message: Message
    attempts: int


def count_backlog(tx: Connection) -> tuple[int, datetime | None]:
    """Return how many messages wait to be sent, and since when the oldest waits."""
    row = tx.execute(sa.select(sa.func.count(), sa.func.min(_message.c.queued_at)).where(IS_QUEUED)).one()
    return int(row[0]), row[1]


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue of one route: what waits and since when, how many are being sent, and how many have failed before."""

    route: Route
    waiting: int
    oldest_at: datetime
    sending: int
    failing: int
    troubles: list[tuple[str, int]]
    """The errors of the failed attempts, each with its count; the most frequent first."""


def list_queues(tx: Connection, now: datetime, *, troubles_max: int) -> list[Queue]:
    """Return the queues that are not empty."""
    sending = sa.func.sum(sa.case((_message.c.claimed_until > now, 1), else_=0))
    failing = sa.func.sum(sa.case((_message.c.attempts > 0, 1), else_=0))
    found = tx.execute(
        sa.select(_message.c.route, sa.func.count(), sa.func.min(_message.c.queued_at), sending, failing)
        .where(IS_QUEUED)
        .group_by(_message.c.route)
        .order_by(_message.c.route)
    ).all()
    return [
        Queue(Route(route), waiting, oldest_at, sending, failing, _troubles(tx, route, troubles_max))
        for route, waiting, oldest_at, sending, failing in found
    ]


def _troubles(tx: Connection, route: str, limit: int) -> list[tuple[str, int]]:
    count = sa.func.count()
    rows = tx.execute(
        sa.select(_message.c.note, count)
        .where(IS_QUEUED, _message.c.route == route, _message.c.attempts > 0)
        .group_by(_message.c.note)
        .order_by(count.desc(), _message.c.note)
        .limit(limit)
    )
    return [(note, number) for note, number in rows]


def find(tx: Connection, message_id: int) -> RecordedMessage | None:
    """Return a message by its row's id."""
    row = tx.execute(_recorded().where(_message.c.id == message_id)).first()
    return None if row is None else _recorded_of(row)


def by_reference(tx: Connection, reference: str) -> RecordedMessage | None:
    """Return a message by its reference."""
    row = tx.execute(_recorded().where(_message.c.reference == reference)).first()
    return None if row is None else _recorded_of(row)


def list_messages(
    tx: Connection,
    *,
    limit: int,
    subscriber_id: int | None = None,
    broadcast_id: int | None = None,
    state: MessageState | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: tuple[datetime, int] | None = None,
) -> Sequence[RecordedMessage]:
    """Return messages, newest first.

    Those of a subscriber, of a broadcast, in a state, in a span of time, after a place of the list.
    """
    conditions = []
    if subscriber_id is not None:
        conditions.append(_message.c.subscriber_id == subscriber_id)
    if broadcast_id is not None:
        conditions.append(_message.c.broadcast_id == broadcast_id)
    if state is not None:
        conditions.append(_message.c.state == state.value)
    if since is not None:
        conditions.append(_message.c.queued_at >= since)
    if until is not None:
        conditions.append(_message.c.queued_at < until)
    if after is not None:
        conditions.append(sa.tuple_(_message.c.queued_at, _message.c.id) < sa.tuple_(*map(sa.literal, after)))
    newest = (_message.c.queued_at.desc(), _message.c.id.desc())
    return list(map(_recorded_of, tx.execute(_recorded().where(*conditions).order_by(*newest).limit(limit))))


def _recorded() -> sa.Select[Any]:
    return (
        sa.select(_message, _subscriber.c.username, _subscriber.c.name, _account.c.kind)
        .outerjoin(_subscriber, _subscriber.c.id == _message.c.subscriber_id)
        .outerjoin(_account, _account.c.id == _message.c.account_id)
    )


def _recorded_of(row: Any) -> RecordedMessage:
    kind = None if row.kind is None else Kind(row.kind)
    return RecordedMessage(row.id, row.username or "", row.name or "", kind, message_from_row(row), row.attempts)
