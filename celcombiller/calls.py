"""Calls: one row a billed leg, from authorization to settlement, and what each witness said of its end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller import schema, setwise
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

    @staticmethod
    def question(uniqueids: Collection[str]) -> setwise.Question:
        """Ask for the calls of these channels, and lock them (before their accounts: that order is everybody's)."""
        return _CALLS.among(uniqueids)

    @classmethod
    def of_rows(cls, rows: setwise.Rows) -> Register:
        """Make it of the answer."""
        register = cls()
        for row in rows:
            call = _call_of_columns(*row)
            known = register.last(call.server, call.uniqueid)
            if known is None or known.leg < call.leg:
                register._last[call.server, call.uniqueid] = call
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

    def changes(self) -> setwise.Writes:
        """Give all that is to be written."""
        yield _BEGIN, list(map(_columns, self._new.values()))
        yield _CHANGE, [(*_ended(call), call.reference, CallState.OPEN.value) for call in self._changed.values()]
        yield _TESTIFY, list(map(_said, self._testimonies))


def _insert_once(table: sa.Table) -> sa.TextClause:
    """Make an insert that leaves a row of the same key as it is, in the words that SQLite and PostgreSQL share."""
    names = table.c.keys()
    values = ", ".join(f":{name}" for name in names)
    words = f"insert into {table.name} ({', '.join(names)}) values ({values}) on conflict do nothing"  # noqa: S608  ours
    return sa.text(words).bindparams(*(sa.bindparam(column.name, type_=column.type) for column in table.c))


_MEET = _insert_once(schema.server)


_FACTS = (
    *("reference", "server", "uniqueid", "leg", "authorization", "channel", "subscriber_id", "account_id"),
    *("from_number", "to_number", "callee_id", "granted_seconds", "answered_early", "started_at"),
)
_RATE = ("rate_prefix", "rate_name", "connect_fee", "price", "increment_seconds")
_facts_of = attrgetter(*_FACTS, "rate.prefix", "rate.name", "rate.connect_fee", "rate.price", "rate.increment_seconds")
_CHANGING = ("state", "answered_at", "ended_at", "talk_ms", "cost", "witness", "outcome", "note")

_COLUMNS = (*_FACTS[1:], *_RATE, *_CHANGING)

_CALLS = setwise.Reading(
    setwise.names(_COLUMNS),
    "from call where uniqueid {among}",
    of=schema.call.c.uniqueid,
    lock="id",
)
_BEGIN = setwise.insert(schema.call, ("reference", *_COLUMNS))
_CHANGE = setwise.update(schema.call, _CHANGING, key="reference", unchanged=("state",))
_TESTIFY = setwise.insert(schema.testimony, schema.testimony.c.keys(), once=True)


def _columns(call: Call) -> setwise.Row:
    return (*_facts_of(call), *_ended(call))


def _ended(call: Call) -> setwise.Row:
    witness = None if call.witness is None else call.witness.value
    times = (call.answered_at, call.ended_at)
    return (call.state.value, *times, call.talk_ms, call.cost, witness, call.outcome, call.note)


def _said(testimony: Testimony) -> setwise.Row:
    reference, witness, *said = _testimony_of(testimony)
    return (reference, witness.value, *said)


_testimony_of = attrgetter(*schema.testimony.c.keys())


def call_of(row: Any) -> Call:
    """Make the value of a call row."""
    return _call_of_columns(*(getattr(row, name) for name in _COLUMNS))


def _call_of_columns(
    server: str,
    uniqueid: str,
    leg: int,
    authorization: str,
    channel: str,
    subscriber_id: int,
    account_id: int,
    from_number: str,
    to_number: str,
    callee_id: int | None,
    granted_seconds: int,
    answered_early: Any,
    started_at: Any,
    rate_prefix: str,
    rate_name: str,
    connect_fee: int,
    price: int,
    increment_seconds: int,
    state: str,
    answered_at: Any,
    ended_at: Any,
    talk_ms: int | None,
    cost: int | None,
    witness: str | None,
    outcome: str,
    note: str,
) -> Call:
    """Make a call of `_COLUMNS`, as SQLAlchemy or the driver gives them."""
    return Call(
        server=server,
        uniqueid=uniqueid,
        leg=leg,
        authorization=authorization,
        channel=channel,
        subscriber_id=subscriber_id,
        account_id=account_id,
        from_number=from_number,
        to_number=to_number,
        callee_id=callee_id,
        rate=Rate(rate_prefix, rate_name, connect_fee, price, increment_seconds),
        granted_seconds=granted_seconds,
        answered_early=bool(answered_early),
        started_at=setwise.moment(started_at),
        state=CallState(state),
        answered_at=setwise.moment(answered_at),
        ended_at=setwise.moment(ended_at),
        talk_ms=talk_ms,
        cost=cost,
        witness=None if witness is None else Witness(witness),
        outcome=outcome,
        note=note,
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
