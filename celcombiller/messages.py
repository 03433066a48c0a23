"""Text messages: give one to the biller, find them, and work what waits to be sent, on an open transaction.

Any node may work the queue: who takes rows has them claimed for a while, as `networks` does it. A row that was given
to the network and whose taker died before he recorded it is given again when the claim has lapsed: at least once, and
charged once. Parts that are recorded as taken are not given again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller import schema
from celcombiller.calls import in_words
from celcombiller.charging import State
from celcombiller.errors import BadNumber, UnknownSubscriber
from celcombiller.events import ORIGIN, Posting, Send, Told
from celcombiller.model import Kind, Message, MessageOrigin, MessageState, Route
from celcombiller.networks import retry_after
from celcombiller.postbox import message_of
from celcombiller.subscribers import subscriber_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.events import MessageTerms
    from celcombiller.model import Subscriber

NOTE_CHARACTERS_MAX = 500

REPEATED = timedelta(hours=1)
"""How long a message that a centre brings again is taken for the same: it repeats what was not answered in its time."""

_message, _part, _subscriber, _account = schema.message, schema.message_part, schema.subscriber, schema.account
_QUEUED = _message.c.state == in_words(MessageState.QUEUED)


def submit(
    tx: Connection,
    terms: MessageTerms,
    *,
    reference: str,
    to_number: str,
    text: str,
    now: datetime,
    payer: str | None = None,
    origin: MessageOrigin = MessageOrigin.NOTICE,
) -> Posting:
    """Have a message sent, once for a ``reference``; it stands in the ledger under ``sms:`` and that.

    ``payer`` is the username of who pays and in whose name it goes; ``None``: it is free and the operator's. The same
    again gives the first answer; of a notice only the reference counts, as its text says what was true at the time.

    Raises `TransferConflict`, `BadNumber`, `UnknownSubscriber`, `SubscriberDisabled`, `InvalidValue` (of the text) and
    `InsufficientBalance`.
    """
    request = Send(
        reference=reference_of(reference),
        origin=origin,
        account_code=payer or "",
        caller_number="",
        to_number=to_number,
        text=text,
        free=payer is None,
    )
    state = State.load(tx, [request], sms_from=terms.account)
    posting = state.desk.send(terms, request, now)
    state.save(tx)
    return posting


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that a message centre brings; ``key`` is the same of the same message, as far as it can be told."""

    key: str
    from_number: str
    to_number: str
    text: str


def arrive(tx: Connection, terms: MessageTerms, arrival: Arrival, now: datetime) -> Posting:
    """Queue what came from a phone elsewhere for a subscriber's, free for him. Within `REPEATED` it is the same again.

    It stands under its ``key`` and the hour. Raises `UnknownSubscriber` when the number is nobody's, `BadNumber` when
    the biller has no way to phones, and `InvalidValue` (of the text).
    """
    if terms.on_net_route is not Route.ASTERISK:
        raise BadNumber("there is no way for messages to phones ([sms] on_net_route)")
    hour = now.timestamp() // REPEATED.total_seconds()
    before, reference = (reference_of(f"smpp:{arrival.key}:{each:.0f}") for each in (hour - 1, hour))
    same = sa.select(_message).where(_message.c.reference == before, _message.c.queued_at > now - REPEATED)
    known = tx.execute(same).first()
    if known is not None:
        return Posting(message_of(known), first=False)
    request = Send(
        reference=reference,
        origin=MessageOrigin.PHONE,
        account_code="",
        caller_number=arrival.from_number,
        to_number=arrival.to_number,
        text=arrival.text,
        free=True,
    )
    state = State.load(tx, [request])
    if state.desk.directory.callee(arrival.to_number) is None:
        raise UnknownSubscriber("nobody here has the number that a message came for")
    posting = state.desk.send(terms, request, now)
    state.save(tx)
    return posting


def reference_of(reference: str) -> str:
    """Give the id under which a message stands in the ledger."""
    return f"{ORIGIN}:{reference}"


def tell(tx: Connection, told: Told, now: datetime) -> Posting:
    """Record what became of a message, in a transaction of its own; `Store.charge` does many in one."""
    state = State.load(tx, [told])
    posting = state.desk.tell(told, now)
    state.save(tx)
    return posting


# -- working the queue -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Due:
    """A message to be sent ``until`` its claim lapses: its row's number, to whom, and which of its parts are taken."""

    id: int
    message: Message
    callee: Subscriber | None
    taken: frozenset[int]
    until: datetime


def is_due(tx: Connection, route: Route, now: datetime) -> bool:
    """Tell whether there is anything to claim: it only reads."""
    return tx.execute(sa.select(_message.c.id).where(*_ready(route, now)).limit(1)).first() is not None


def claim(tx: Connection, route: Route, owner: str, now: datetime, *, limit: int, lease: timedelta) -> list[Due]:
    """Take those that waited longest, for ``lease``."""
    rows = tx.execute(
        sa.select(_message)
        .where(*_ready(route, now))
        .order_by(_message.c.queued_at, _message.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if not rows:
        return []
    taken = sa.update(_message).where(_message.c.id.in_([row.id for row in rows]))
    tx.execute(taken.values(claimed_by=owner, claimed_until=now + lease))
    parts: dict[str, set[int]] = {}
    for part in tx.execute(sa.select(_part).where(_part.c.reference.in_([row.reference for row in rows]))):
        parts.setdefault(part.reference, set()).add(part.part)
    found = tx.execute(sa.select(_subscriber).where(_subscriber.c.id.in_({row.callee_id for row in rows} - {None})))
    callees = {row.id: subscriber_of(row) for row in found}
    return [
        Due(row.id, message_of(row), callees.get(row.callee_id), frozenset(parts.get(row.reference, ())), now + lease)
        for row in rows
    ]


def _ready(route: Route, now: datetime) -> list[sa.ColumnElement[bool]]:
    free = sa.or_(_message.c.claimed_until.is_(None), _message.c.claimed_until <= now)
    rested = sa.or_(_message.c.next_try_at.is_(None), _message.c.next_try_at <= now)
    return [_QUEUED, _message.c.route == route.value, free, rested, _message.c.expires_at > now]


def put_off(
    tx: Connection, owner: str, references: Collection[str], why: str, now: datetime, *, retry_seconds_max: float
) -> None:
    """Have messages of an owner tried again later, longer each time."""
    rows = tx.execute(sa.select(_message).where(_mine(owner), _message.c.reference.in_(references))).all()
    for row in rows:
        attempts = row.attempts + 1
        again = now + retry_after(attempts, retry_seconds_max)
        values = {"attempts": attempts, "next_try_at": again, "note": why[:NOTE_CHARACTERS_MAX]}
        tx.execute(sa.update(_message).where(_message.c.id == row.id).values(**values, **_FREE))


def give_up(tx: Connection, owner: str) -> None:
    """Leave to others what an owner has claimed and not worked."""
    tx.execute(sa.update(_message).where(_mine(owner)).values(**_FREE))


_FREE: dict[str, Any] = {"claimed_by": None, "claimed_until": None}


def _mine(owner: str) -> sa.ColumnElement[bool]:
    return sa.and_(_QUEUED, _message.c.claimed_by == owner)


def took(tx: Connection, reference: str, part: int, network_id: str, now: datetime) -> None:
    """Record that the network has a part, under its own id; the first word on a part stays."""
    known = sa.select(_part.c.part).where(_part.c.reference == reference, _part.c.part == part)
    if tx.execute(known).first() is None:
        values = {"reference": reference, "part": part, "network_id": network_id, "accepted_at": now}
        tx.execute(sa.insert(_part).values(values))


def receive(tx: Connection, network_id: str, outcome: MessageState, note: str, now: datetime) -> Posting | None:
    """Take a receipt for the part of this id: ``DELIVERED`` or ``FAILED``. ``None``: no such part is known here.

    A message is delivered when all of its parts are, and has failed when one has.
    """
    row = tx.execute(
        sa.select(_part).where(_part.c.network_id == network_id).order_by(_part.c.accepted_at.desc())
    ).first()
    if row is None:
        return None
    posting = None
    if outcome is MessageState.DELIVERED:
        same = sa.and_(_part.c.reference == row.reference, _part.c.part == row.part, _part.c.delivered_at.is_(None))
        tx.execute(sa.update(_part).where(same).values(delivered_at=now))
        count = sa.select(sa.func.count()).where(_part.c.reference == row.reference, _part.c.delivered_at.is_not(None))
        parts = tx.execute(sa.select(_message.c.parts).where(_message.c.reference == row.reference)).scalar_one()
        if tx.execute(count).scalar_one() < parts:
            found = tx.execute(sa.select(_message).where(_message.c.reference == row.reference)).one()
            posting = Posting(message_of(found), first=False)
    return posting or tell(tx, Told(row.reference, outcome, note), now)


def overdue(tx: Connection, now: datetime, *, limit: int) -> list[Told]:
    """Give what is to be told of messages whose time is over: nobody said what became of them."""
    free = sa.or_(_message.c.claimed_until.is_(None), _message.c.claimed_until <= now)
    rows = tx.execute(
        sa.select(_message)
        .where(_message.c.ended_at.is_(None), _message.c.expires_at <= now, free)
        .order_by(_message.c.expires_at)
        .limit(limit)
    )
    return [Told(row.reference, MessageState.EXPIRED, _unheard(row)) for row in rows]


def _unheard(row: Any) -> str:
    if row.state == MessageState.SENDING:
        return "nobody told whether the network took it"
    if row.note:
        return f"given up after {row.attempts} attempts: {row.note}"[:NOTE_CHARACTERS_MAX]
    return "it was not sent in its time"


# -- looking at them -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recorded:
    """A message with its row's number, the username of who pays and from which account; empty: it is free."""

    id: int
    username: str
    kind: Kind | None
    message: Message
    attempts: int


def backlog(tx: Connection) -> tuple[int, datetime | None]:
    """Give how many messages wait to be sent, and since when the oldest does."""
    row = tx.execute(sa.select(sa.func.count(), sa.func.min(_message.c.queued_at)).where(_QUEUED)).one()
    return int(row[0]), row[1]


@dataclass(frozen=True, slots=True)
class Queue:
    """How far one way's queue is: what waits and since when, what of it is being sent, and what was tried in vain."""

    route: Route
    waiting: int
    oldest_at: datetime
    sending: int
    failing: int
    troubles: list[tuple[str, int]]
    """What was said of those that were tried in vain, with how many it was said of; the most said first."""


def queues(tx: Connection, now: datetime, *, troubles_max: int) -> list[Queue]:
    """Give the queues in which something waits."""
    sending = sa.func.sum(sa.case((_message.c.claimed_until > now, 1), else_=0))
    failing = sa.func.sum(sa.case((_message.c.attempts > 0, 1), else_=0))
    found = tx.execute(
        sa.select(_message.c.route, sa.func.count(), sa.func.min(_message.c.queued_at), sending, failing)
        .where(_QUEUED)
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
        .where(_QUEUED, _message.c.route == route, _message.c.attempts > 0)
        .group_by(_message.c.note)
        .order_by(count.desc(), _message.c.note)
        .limit(limit)
    )
    return [(note, number) for note, number in rows]


def find(tx: Connection, message_id: int) -> Recorded | None:
    """Give a message by its row's number."""
    row = tx.execute(_recorded().where(_message.c.id == message_id)).first()
    return None if row is None else _recorded_of(row)


def by_reference(tx: Connection, reference: str) -> Recorded | None:
    """Give a message by its reference."""
    row = tx.execute(_recorded().where(_message.c.reference == reference)).first()
    return None if row is None else _recorded_of(row)


def listed(
    tx: Connection,
    *,
    limit: int,
    subscriber_id: int | None = None,
    state: MessageState | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: tuple[datetime, int] | None = None,
) -> Sequence[Recorded]:
    """Give messages, newest first: of a subscriber, in a state, in a span of time, after a place of the list."""
    conditions = []
    if subscriber_id is not None:
        conditions.append(_message.c.subscriber_id == subscriber_id)
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
        sa.select(_message, _subscriber.c.username, _account.c.kind)
        .outerjoin(_subscriber, _subscriber.c.id == _message.c.subscriber_id)
        .outerjoin(_account, _account.c.id == _message.c.account_id)
    )


def _recorded_of(row: Any) -> Recorded:
    kind = None if row.kind is None else Kind(row.kind)
    return Recorded(row.id, row.username or "", kind, message_of(row), row.attempts)
