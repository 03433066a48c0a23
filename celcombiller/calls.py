"""Calls: one row a billed leg, from authorization to settlement, and what each witness said of its end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller import schema
from celcombiller.ledger import guarded_update
from celcombiller.model import Call, CallState, Ending, Rate, Witness

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime
    from enum import StrEnum

    from sqlalchemy.engine import Connection

DISCREPANCY_MS = 1000
"""Two witnesses of one call that differ by more than this are recorded as a discrepancy."""


def talk_ms(call: Call, ending: Ending) -> int:
    """Milliseconds from the callee's answer to the end of the talk, by the best evidence there is.

    ANSWEREDTIME_MS is exact when the caller's channel was not up before the Dial; else it holds the ringing too
    (it counts from the answer of the caller's channel), and after a transfer it is empty. Then our own stamp of the
    callee's answer counts, else the one that AMI gave; and what Asterisk said is the most that it can have been.
    """
    if not ending.answered:
        return 0
    if ending.talk_ms is not None and not call.answered_early:
        return ending.talk_ms
    answered_at = ending.answered_at or call.answered_at
    if answered_at is None:
        since_start = milliseconds(call.started_at, ending.at)
        return since_start if ending.talk_ms is None else ending.talk_ms
    stamped = milliseconds(answered_at, ending.at)
    return stamped if ending.talk_ms is None else min(stamped, ending.talk_ms)


def unwitnessed(call: Call, answered_at: datetime | None, alive_until: datetime) -> Ending:
    """Say how a call ended that nobody told of: it talked as long as it was known to be alive, at most its grant."""
    note = f"nobody told of its end; it was alive until {alive_until:%Y-%m-%d %H:%M:%S} UTC"
    if answered_at is None:
        return Ending(answered=False, at=alive_until, outcome="gone", note=note)
    cut_at = answered_at + timedelta(seconds=call.granted_seconds)
    at = min(max(alive_until, answered_at), cut_at)
    return Ending(answered=True, at=at, answered_at=answered_at, outcome="gone", note=note)


def milliseconds(start: datetime, end: datetime) -> int:
    """Whole milliseconds from start to end; 0 when a clock step put the end first."""
    elapsed = end - start
    return max(0, elapsed.days * 86_400_000 + elapsed.seconds * 1000 + elapsed.microseconds // 1000)


@dataclass(frozen=True, slots=True)
class Testimony:
    """What a witness said of a call, kept as it was said."""

    reference: str
    witness: Witness
    at: datetime
    answered: bool
    talk_ms: int | None
    outcome: str
    difference_ms: int | None
    discrepancy: bool
    note: str


@dataclass(slots=True)
class Register:
    """The calls that one transaction works on: the last leg of each channel it names, and what changes."""

    _last: dict[tuple[str, str], Call] = field(default_factory=dict)
    _new: dict[str, Call] = field(default_factory=dict)
    _changed: dict[str, Call] = field(default_factory=dict)
    _testimonies: list[Testimony] = field(default_factory=list)

    @classmethod
    def load(cls, tx: Connection, uniqueids: Collection[str]) -> Register:
        """Read and lock the calls of these channels (before their accounts: that order is everybody's)."""
        register = cls()
        if uniqueids:
            table = schema.call
            rows = tx.execute(
                sa.select(table).where(table.c.uniqueid.in_(uniqueids)).order_by(table.c.id).with_for_update()
            )
            for row in rows:
                register._last[row.server, row.uniqueid] = call_of(row)
        return register

    def __iter__(self) -> Iterator[Call]:
        return iter(self._last.values())

    def last(self, server: str, uniqueid: str) -> Call | None:
        """Give the last leg of a channel."""
        return self._last.get((server, uniqueid))

    def add(self, call: Call) -> Call:
        """Begin a new leg."""
        self._last[call.server, call.uniqueid] = self._new[call.reference] = call
        return call

    def change(self, call: Call, **facts: Any) -> Call:
        """Put facts on an open leg."""
        changed = replace(call, **facts)
        self._last[call.server, call.uniqueid] = changed
        (self._new if call.reference in self._new else self._changed)[call.reference] = changed
        return changed

    def testify(self, testimony: Testimony) -> None:
        """Keep what a witness said; the first word of each witness stays."""
        self._testimonies.append(testimony)

    def save(self, tx: Connection) -> None:
        """Write all of it, set-wise."""
        table = schema.call
        if self._new:
            tx.execute(sa.insert(table), [_columns(call) for call in self._new.values()])
        guarded_update(
            tx,
            _CHANGE,
            [
                {"key": call.reference} | {name: getattr(call, name) for name in _CHANGING}
                for call in self._changed.values()
            ],
        )
        if self._testimonies:
            tx.execute(_TESTIFY, [asdict(each) for each in self._testimonies])


_CHANGING = ("state", "answered_at", "ended_at", "talk_ms", "cost", "witness", "outcome", "note")
_CHANGE = (
    sa.update(schema.call)
    .where(schema.call.c.reference == sa.bindparam("key"), schema.call.c.state == CallState.OPEN)
    .values({name: sa.bindparam(name) for name in _CHANGING})
)
"""Change an open call; made once, as it is on the path of every call."""


def _insert_once(table: sa.Table) -> sa.TextClause:
    """Make an insert that leaves a row of the same key as it is, in the words that SQLite and PostgreSQL share."""
    names = table.c.keys()
    values = ", ".join(f":{name}" for name in names)
    words = f"insert into {table.name} ({', '.join(names)}) values ({values}) on conflict do nothing"  # noqa: S608  ours
    return sa.text(words).bindparams(*(sa.bindparam(column.name, type_=column.type) for column in table.c))


_TESTIFY = _insert_once(schema.testimony)
_MEET = _insert_once(schema.server)


_FACTS = (
    *("reference", "server", "uniqueid", "leg", "authorization", "channel", "subscriber_id", "account_id"),
    *("from_number", "to_number", "callee_id", "granted_seconds", "answered_early", "started_at", "state"),
    *("answered_at", "ended_at", "talk_ms", "cost", "witness", "outcome", "note"),
)


def _columns(call: Call) -> dict[str, Any]:
    rate = call.rate
    return {name: getattr(call, name) for name in _FACTS} | {
        "rate_prefix": rate.prefix,
        "rate_name": rate.name,
        "connect_fee": rate.connect_fee,
        "price": rate.price,
        "increment_seconds": rate.increment_seconds,
    }


def call_of(row: Any) -> Call:
    """Make the value of a call row."""
    return Call(
        server=row.server,
        uniqueid=row.uniqueid,
        leg=row.leg,
        authorization=row.authorization,
        channel=row.channel,
        subscriber_id=row.subscriber_id,
        account_id=row.account_id,
        from_number=row.from_number,
        to_number=row.to_number,
        callee_id=row.callee_id,
        rate=Rate(row.rate_prefix, row.rate_name, row.connect_fee, row.price, row.increment_seconds),
        granted_seconds=row.granted_seconds,
        answered_early=row.answered_early,
        started_at=row.started_at,
        state=CallState(row.state),
        answered_at=row.answered_at,
        ended_at=row.ended_at,
        talk_ms=row.talk_ms,
        cost=row.cost,
        witness=None if row.witness is None else Witness(row.witness),
        outcome=row.outcome,
        note=row.note,
    )


def in_words(state: StrEnum) -> sa.BindParameter[str]:
    """Write a state into the statement itself: the index of the few rows in it serves only where it is seen."""
    return sa.literal(state.value, sa.Text, literal_execute=True)


def one_by_one(column: sa.Column[str]) -> sa.ColumnElement[str]:
    """Look at a text row by row, not by its index: an index of fewer rows shall serve, and SQLite cannot count."""
    return column + ""


def open_calls(tx: Connection, server: str) -> list[Call]:
    """Give the calls of an Asterisk server that nobody has closed, oldest first."""
    table = schema.call
    rows = tx.execute(
        sa.select(table)
        .where(one_by_one(table.c.server) == server, table.c.state == in_words(CallState.OPEN))
        .order_by(table.c.started_at, table.c.id)
    )
    return list(map(call_of, rows))


def still_open(tx: Connection, references: Collection[str]) -> list[Call]:
    """Give those of these calls that nobody has closed."""
    table = schema.call
    rows = tx.execute(sa.select(table).where(table.c.reference.in_(references), table.c.state == CallState.OPEN))
    return list(map(call_of, rows))


def overdue_calls(tx: Connection, now: datetime, *, limit: int) -> list[Call]:
    """Give open calls whose hold has run out: no limit of Asterisk can have let them live so long."""
    table, hold = schema.call, schema.hold
    rows = tx.execute(
        sa.select(table)
        .join(hold, hold.c.reference == table.c.reference)
        .where(table.c.state == in_words(CallState.OPEN), hold.c.expires_at < now)
        .order_by(table.c.started_at, table.c.id)
        .limit(limit)
    )
    return list(map(call_of, rows))


def recent(tx: Connection, *, limit: int) -> list[tuple[str, Call]]:
    """Give the last ``limit`` calls, newest first, each with the username of who pays."""
    table, subscriber = schema.call, schema.subscriber
    rows = tx.execute(
        sa.select(table, subscriber.c.username)
        .join(subscriber, subscriber.c.id == table.c.subscriber_id)
        .order_by(table.c.id.desc())
        .limit(limit)
    )
    return [(row.username, call_of(row)) for row in rows]


def discrepancies(tx: Connection) -> int:
    """Count the testimonies that differ by more than a second from what was charged."""
    table = schema.testimony
    return int(tx.execute(sa.select(sa.func.count()).where(table.c.discrepancy)).scalar_one())


def server_seen(tx: Connection, name: str, at: datetime) -> None:
    """Record that an Asterisk server was heard at ``at``: a call found gone later was alive until then."""
    table = schema.server
    statement = sa.update(table).where(table.c.name == name, table.c.seen_at < at).values(seen_at=at)
    if tx.execute(statement).rowcount == 0:
        tx.execute(_MEET, {"name": name, "seen_at": at})


def server_last_seen(tx: Connection, name: str) -> datetime | None:
    """Give when a biller last heard an Asterisk server."""
    return tx.execute(sa.select(schema.server.c.seen_at).where(schema.server.c.name == name)).scalar_one_or_none()
