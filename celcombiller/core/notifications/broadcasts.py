"""Broadcasts: the operator sends one text to all members of a group. Each member gets it once.

The messages are queued slice by slice, each in a transaction of its own, in the order of the members' ids. The
transaction that queues a slice also records how far the broadcast is. So a crash between two slices loses nothing, and
two nodes do not queue the same. A new slice waits while `WAITING_MAX` messages are due on its way: then a message of
somebody else, such as a code for a login, waits for no more than these; and none expires before its turn comes.

Subscribers pay nothing for it, as for notices. The operator pays the carrier for each part.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  `value_from_row` reads the types of the fields
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.access import audit_trail
from celcombiller.core.charging import messages
from celcombiller.core.charging.request_keys import identity_of
from celcombiller.core.errors import InvalidValue, NotFound, NotOffered, TransferConflict
from celcombiller.core.model.messages import MessageState, Route
from celcombiller.core.model.subscribers import Group, Level
from celcombiller.core.schema import leases, tables
from celcombiller.core.schema.rows import value_from_row
from celcombiller.core.sms.charging import MessageOutcome
from celcombiller.core.sms.outbox_queue import IS_QUEUED, count_due
from celcombiller.core.subscribers import group_records
from celcombiller.core.subscribers.subscriber_records import NOT_DELETED

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.sms.charging import MessagePolicy
    from celcombiller.core.sms.encoding import Encoding

SLICE = 25
"""Most messages that one transaction writes, so that a call request waits for no more."""

WAITING_MAX = 200
"""How many messages may be due on a way before a broadcast queues no more of its own."""

CANCELLED = "the broadcast was cancelled"
"""The note of a message that was queued and is not sent."""

_broadcast, _group = tables.broadcast, tables.subscriber_group
_message, _subscriber = tables.message, tables.subscriber


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A text to the members of a group. ``recipients`` were to get it when it was made.

    So far ``queued`` members got a message and ``left_out`` none. It is completed when all were looked at, or, where it
    is cancelled, when none of its messages waits.
    """

    id: int
    group_id: int
    group: str
    text: str
    parts: int
    recipients: int
    author: str
    made_at: datetime
    last_subscriber_id: int
    queued: int
    left_out: int
    cancelled_at: datetime | None
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class BroadcastPlan:
    """Who would get a text: ``recipients`` members of the group, without those who are disabled; and in what form."""

    group: Group
    recipients: int
    disabled: int
    encoding: Encoding
    parts: int


def plan(tx: Connection, policy: MessagePolicy, group_id: int, text: str) -> BroadcastPlan:
    """Return what a broadcast would send. Raises `UnknownGroup`, `NotOffered` and `InvalidValue`."""
    group = group_records.find_by_id(tx, group_id)
    if policy.on_net_route is Route.NONE:
        raise NotOffered("there is no way for messages to subscribers ([sms] on_net_route)")
    made = policy.split(text, policy.on_net_route)
    # without a "group by", which takes three times as long on SQLite: 30 ms for 100,000 members
    count, enabled = sa.func.count(), sa.func.sum(sa.case((_subscriber.c.enabled, 1), else_=0))
    row = tx.execute(sa.select(count, enabled).where(_subscriber.c.group_id == group.id, NOT_DELETED)).one()
    members, recipients = int(row[0]), int(row[1] or 0)
    return BroadcastPlan(group, recipients, members - recipients, made.encoding, len(made.parts))


def add(
    tx: Connection, actor: Actor, policy: MessagePolicy, group_id: int, text: str, *, key: str, now: datetime
) -> Broadcast:
    """Have a text sent to all members of a group, once for each ``key`` of the author.

    Raises what `plan` raises, `InvalidValue` if no member would get it, `TransferConflict` and `Forbidden`.
    """
    actor.check_manages(Level.SUBSCRIBER)
    reference = f"{identity_of(actor)}:{key}"
    known = tx.execute(_select().where(_broadcast.c.reference == reference)).first()
    if known is not None:
        if (known.group_id, known.text) != (group_id, text):
            raise TransferConflict(f"a broadcast with the key {key} exists and says something else")
        return value_from_row(known, Broadcast)
    planned = plan(tx, policy, group_id, text)
    if planned.recipients == 0:
        what = "has no member who would get it"
        raise InvalidValue(f"{planned.group.name} {what}", {"group_id": what})
    values = {
        "reference": reference,
        "group_id": group_id,
        "text": text,
        "parts": planned.parts,
        "recipients": planned.recipients,
        "author": actor.name,
        "made_at": now,
    }
    made = find(tx, tx.execute(sa.insert(_broadcast).values(values).returning(_broadcast.c.id)).scalar_one())
    audit_trail.record(tx, actor, "send", f"broadcast:{made.id}", after=made, now=now)
    return made


def cancel(tx: Connection, actor: Actor, broadcast_id: int, now: datetime) -> Broadcast:
    """Have what is not sent yet of a broadcast never sent. Where nothing waits, or the same again, nothing changes.

    Raises `NotFound` and `Forbidden`.
    """
    actor.check_manages(Level.SUBSCRIBER)
    was = find(tx, broadcast_id, lock=True)
    if was.cancelled_at is not None or (was.completed_at is not None and not _is_waiting(tx, broadcast_id)):
        return was
    _record(tx, broadcast_id, cancelled_at=now, completed_at=None)
    is_ = find(tx, broadcast_id)
    audit_trail.record(tx, actor, "cancel", f"broadcast:{was.id}", before=was, after=is_, now=now)
    return is_


# -- queueing --------------------------------------------------------------------------------------------------------


def list_open(tx: Connection) -> list[int]:
    """Return the ids of the broadcasts that are not completed. Reads only."""
    return list(tx.execute(sa.select(_broadcast.c.id).where(_IS_OPEN).order_by(_broadcast.c.id)).scalars())


def advance(tx: Connection, broadcast_id: int, policy: MessagePolicy, now: datetime) -> bool:
    """Queue the next messages of a broadcast, or withdraw those of one that is cancelled.

    Return whether more may follow at once.
    """
    broadcast = find(tx, broadcast_id, lock=True)
    if broadcast.completed_at is not None:
        return False
    if broadcast.cancelled_at is not None:
        return _withdraw(tx, broadcast_id, now)
    route = policy.on_net_route
    if route is Route.NONE or count_due(tx, route, now, limit=WAITING_MAX) == WAITING_MAX:
        return False
    rows = tx.execute(members_statement(broadcast.group_id, broadcast.last_subscriber_id)).all()
    numbers = {f"broadcast:{broadcast_id}:{row.id}": row.clid for row in rows if row.enabled}
    queued = messages.submit_broadcast(tx, policy, broadcast_id, numbers, broadcast.text, now)
    values: dict[str, Any] = {"queued": broadcast.queued + queued, "left_out": broadcast.left_out + len(rows) - queued}
    if rows:
        values["last_subscriber_id"] = rows[-1].id
    is_last = len(rows) < SLICE
    _record(tx, broadcast_id, **values, completed_at=now if is_last else None)
    return not is_last


def members_statement(group_id: int, after_id: int) -> sa.Select[Any]:
    """Return the query for the next members of a group after an id, in the order of ids."""
    return (
        sa.select(_subscriber.c.id, _subscriber.c.clid, _subscriber.c.enabled)
        .where(_subscriber.c.group_id == group_id, _subscriber.c.id > after_id, NOT_DELETED)
        .order_by(_subscriber.c.group_id, _subscriber.c.id)
        .limit(SLICE)
    )


def _withdraw(tx: Connection, broadcast_id: int, now: datetime) -> bool:
    """Refuse some messages that wait; those that are being sent now are looked at again. Return whether more follow."""
    waiting = sa.select(_message.c.reference).where(_message.c.broadcast_id == broadcast_id, IS_QUEUED)
    free = waiting.where(leases.is_free(_message, now)).order_by(_message.c.id)
    rows = leases.lock_rows(tx, free, limit=SLICE)
    for row in rows:
        messages.record_outcome(tx, MessageOutcome(row.reference, MessageState.REFUSED, CANCELLED), now)
    if not rows and not _is_waiting(tx, broadcast_id):
        _record(tx, broadcast_id, completed_at=now)
    return bool(rows)


def _is_waiting(tx: Connection, broadcast_id: int) -> bool:
    waiting = sa.select(_message.c.id).where(_message.c.broadcast_id == broadcast_id, IS_QUEUED).limit(1)
    return tx.execute(waiting).first() is not None


def _record(tx: Connection, broadcast_id: int, **values: Any) -> None:
    tx.execute(sa.update(_broadcast).where(_broadcast.c.id == broadcast_id).values(values))


# -- reading ---------------------------------------------------------------------------------------------------------


def find(tx: Connection, broadcast_id: int, *, lock: bool = False) -> Broadcast:
    """Return a broadcast. Raises `NotFound`. With ``lock``, no other transaction goes on with it until this ends."""
    statement = _select().where(_broadcast.c.id == broadcast_id)
    row = tx.execute(statement.with_for_update(of=_broadcast) if lock else statement).first()
    if row is None:
        raise NotFound(f"there is no broadcast {broadcast_id}")
    return value_from_row(row, Broadcast)


def list_all(tx: Connection, *, before_id: int | None = None, limit: int) -> list[Broadcast]:
    """Return the last broadcasts, newest first, ``before_id`` where it is set."""
    statement = _select().order_by(_broadcast.c.id.desc()).limit(limit)
    if before_id is not None:
        statement = statement.where(_broadcast.c.id < before_id)
    return [value_from_row(row, Broadcast) for row in tx.execute(statement)]


def count_messages(tx: Connection, broadcast_id: int) -> dict[MessageState, int]:
    """Return how many messages of a broadcast are in each state."""
    state = _message.c.state
    counts = sa.select(state, sa.func.count()).where(_message.c.broadcast_id == broadcast_id).group_by(state)
    return dict.fromkeys(MessageState, 0) | {MessageState(each): number for each, number in tx.execute(counts)}


_IS_OPEN = _broadcast.c.completed_at.is_(None)


def _select() -> sa.Select[Any]:
    return sa.select(_broadcast, _group.c.name.label("group")).join(_group, _group.c.id == _broadcast.c.group_id)
