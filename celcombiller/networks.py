"""What each radio network should know, and how far it is: the queue of provisioning, on an open transaction.

A row says of one network and one IMSI that it should have an entry with this number, or none. It is written in the
transaction of the change of the subscriber, so neither is there without the other, and it is worked from here by
whichever node claims it. A row that changes while it waits simply wants something else: what was wanted in between,
the network never needs to hear.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller import schema

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.model import Subscriber

RETRY_SECONDS_LEAST = 1.0
ERROR_CHARACTERS_MAX = 200

_network, _entry, _subscriber = schema.network, schema.network_entry, schema.subscriber
_WAITING = _entry.c.done_at.is_(None)
_REACHABLE = sa.func.replace(_subscriber.c.imsi, "0", "") != ""
_ENTITLED = sa.and_(_subscriber.c.deleted_at.is_(None), _subscriber.c.enabled, _REACHABLE)
"""Who should be on the networks. An IMSI of zeros, as the first administrator's, is no phone's."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a network knows of one IMSI: its number (empty: none) and a name, which is the subscriber's id."""

    imsi: str
    msisdn: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Due:
    """One row that was claimed: the entry there should be (``None``: none), as of this version of the row."""

    imsi: str
    entry: Entry | None
    version: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far one network is behind, for people and for metrics."""

    network: str
    kind: str
    waiting: int
    oldest_at: datetime | None
    failing: int
    entries: int
    done_total: int
    failed_total: int
    answered_at: datetime | None
    next_try_at: datetime | None
    last_error: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """A row that was tried in vain, and why."""

    network: str
    imsi: str
    wanted: bool
    attempts: int
    next_try_at: datetime | None
    error: str


# -- what should be there --------------------------------------------------------------------------------------------


def configure(tx: Connection, kinds: Mapping[str, str], now: datetime) -> None:
    """Know these networks, and want on each all who should be there: what is missing here is queued.

    A network that is in the settings no more keeps its rows, and goes on collecting: it may come back.
    """
    if tx.dialect.name == "postgresql":  # no subscriber is added on another node between the look and the commit
        tx.execute(sa.text("lock table subscriber in share mode"))
    known = {row.name: row.kind for row in tx.execute(sa.select(_network.c.name, _network.c.kind))}
    for name, kind in kinds.items():
        if name not in known:
            tx.execute(sa.insert(_network).values(name=name, kind=kind, added_at=now, last_error=""))
        elif known[name] != kind:
            tx.execute(sa.update(_network).where(_network.c.name == name).values(kind=kind))
    complete(tx, now)


def complete(tx: Connection, now: datetime) -> None:
    """Queue on every network what the subscribers' table says and no row does: after many were added at once."""
    for name in tx.execute(sa.select(_network.c.name)).scalars().all():
        _complete(tx, name, now)


def forget(tx: Connection, name: str) -> bool:
    """Drop a network that is gone for good, with its queue; tell whether it was there."""
    tx.execute(sa.delete(_entry).where(_entry.c.network == name))
    return tx.execute(sa.delete(_network).where(_network.c.name == name)).rowcount == 1


def record(tx: Connection, who: Subscriber, now: datetime, *, deleted: bool = False) -> None:
    """Want on every network what ``who`` is now: called in the transaction of each change of a subscriber.

    It looks at the subscriber's rows and not at what he was before: two nodes may change one at the same time.
    """
    names = tx.execute(sa.select(_network.c.name)).scalars().all()
    if not names:
        return
    there = who.enabled and not deleted and who.imsi.strip("0") != ""
    others = _entry.c.imsi != who.imsi if there else sa.true()
    tx.execute(
        sa.update(_entry)
        .where(_entry.c.subscriber_id == who.id, _entry.c.wanted, others)
        .values(_fresh(now, wanted=False, msisdn=""))
    )
    if there:
        wanted = Entry(who.imsi, who.clid, str(who.id))
        rows = tx.execute(sa.select(_entry).where(_entry.c.imsi == who.imsi).with_for_update())
        known = {row.network: row for row in rows}
        for name in names:
            if name not in known:
                tx.execute(sa.insert(_entry).values(_new(name, wanted, who.id, now)))
            elif _entry_of(known[name]) != wanted:
                _set(tx, name, who.imsi, _fresh(now, wanted=True, msisdn=who.clid, subscriber_id=who.id))


def _complete(tx: Connection, name: str, now: datetime) -> None:
    """Queue on one network what the subscribers say and its rows do not: all of them, when it is new."""
    have = _entry.alias()
    lacking = (
        sa.select(_subscriber.c.id, _subscriber.c.imsi, _subscriber.c.clid, have.c.imsi.label("known"))
        .outerjoin(have, sa.and_(have.c.network == name, have.c.imsi == _subscriber.c.imsi))
        .where(_ENTITLED)
        .where(
            sa.or_(
                have.c.imsi.is_(None),
                sa.not_(have.c.wanted),
                have.c.msisdn != _subscriber.c.clid,
                have.c.subscriber_id != _subscriber.c.id,
            )
        )
    )
    entitled = sa.exists().where(_ENTITLED, _subscriber.c.imsi == _entry.c.imsi)
    tx.execute(
        sa.update(_entry)
        .where(_entry.c.network == name, _entry.c.wanted, sa.not_(entitled))
        .values(_fresh(now, wanted=False, msisdn=""))
    )
    new = []
    for row in tx.execute(lacking).all():
        if row.known is None:
            new.append(_new(name, Entry(row.imsi, row.clid), row.id, now))
        else:
            _set(tx, name, row.imsi, _fresh(now, wanted=True, msisdn=row.clid, subscriber_id=row.id))
    if new:
        tx.execute(sa.insert(_entry), new)


def _new(name: str, entry: Entry, subscriber_id: int | None, now: datetime) -> dict[str, Any]:
    return {
        "network": name,
        "imsi": entry.imsi,
        "subscriber_id": subscriber_id,
        "msisdn": entry.msisdn,
        "wanted": entry.msisdn != "",
        "version": 1,
        "queued_at": now,
        "attempts": 0,
        "last_error": "",
    }


def _fresh(now: datetime, **values: Any) -> dict[str, Any]:
    """Give what makes a row wait anew. Who has it claimed keeps it; his work will be found to be of an old version."""
    return {
        "version": _entry.c.version + 1,
        "queued_at": now,
        "done_at": None,
        "attempts": 0,
        "next_try_at": None,
        "last_error": "",
        **values,
    }


def _set(tx: Connection, name: str, imsi: str, values: Mapping[str, Any]) -> bool:
    return tx.execute(sa.update(_entry).where(_is(name, imsi)).values(values)).rowcount == 1


def _is(name: str, imsi: str) -> sa.ColumnElement[bool]:
    return sa.and_(_entry.c.network == name, _entry.c.imsi == imsi)


def _entry_of(row: Any) -> Entry | None:
    return Entry(row.imsi, row.msisdn, str(row.subscriber_id)) if row.wanted else None


# -- working it ------------------------------------------------------------------------------------------------------


def is_due(tx: Connection, name: str, now: datetime) -> bool:
    """Tell whether there is anything to claim: it only reads."""
    found = sa.select(_entry.c.imsi).join(_network, _network.c.name == _entry.c.network)
    may_try = sa.or_(_network.c.next_try_at.is_(None), _network.c.next_try_at <= now)
    return tx.execute(found.where(may_try, *_ready(name, now), _rested(now)).limit(1)).first() is not None


def claim(tx: Connection, name: str, owner: str, now: datetime, *, limit: int, lease: timedelta) -> list[Due]:
    """Take the rows of a network that waited longest, for ``lease``; an old IMSI goes before its successor comes."""
    state = tx.execute(sa.select(_network.c.next_try_at).where(_network.c.name == name)).first()
    if state is None or (state.next_try_at is not None and state.next_try_at > now):
        return []
    return _claim(tx, name, [_rested(now)], owner, now, limit, lease)


def claim_these(
    tx: Connection, name: str, imsis: Collection[str], owner: str, now: datetime, *, lease: timedelta
) -> list[Due]:
    """Take those of these rows that wait, also before their time: they stand in the way of one that is claimed."""
    return _claim(tx, name, [_entry.c.imsi.in_(imsis)], owner, now, len(imsis), lease)


def _claim(
    tx: Connection,
    name: str,
    conditions: Sequence[sa.ColumnElement[bool]],
    owner: str,
    now: datetime,
    limit: int,
    lease: timedelta,
) -> list[Due]:
    rows = tx.execute(
        sa.select(_entry)
        .where(*_ready(name, now), *conditions)
        .order_by(_entry.c.queued_at, _entry.c.wanted, _entry.c.imsi)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if rows:
        taken = sa.update(_entry).where(_entry.c.network == name, _entry.c.imsi.in_([row.imsi for row in rows]))
        tx.execute(taken.values(claimed_by=owner, claimed_until=now + lease))
    return [Due(row.imsi, _entry_of(row), row.version) for row in rows]


def _ready(name: str, now: datetime) -> list[sa.ColumnElement[bool]]:
    """Give the conditions on a row that may be claimed: nobody has it, and its subscriber's old entry is gone."""
    before = _entry.alias()
    old = sa.exists().where(
        before.c.network == name,
        before.c.subscriber_id == _entry.c.subscriber_id,
        before.c.done_at.is_(None),
        sa.not_(before.c.wanted),
    )
    free = sa.or_(_entry.c.claimed_until.is_(None), _entry.c.claimed_until <= now)
    return [_entry.c.network == name, _WAITING, free, sa.or_(sa.not_(_entry.c.wanted), sa.not_(old))]


def _rested(now: datetime) -> sa.ColumnElement[bool]:
    return sa.or_(_entry.c.next_try_at.is_(None), _entry.c.next_try_at <= now)


def finish(
    tx: Connection,
    name: str,
    owner: str,
    outcomes: Mapping[tuple[str, int], str | None],
    now: datetime,
    *,
    retry_seconds_max: float,
) -> None:
    """Write what became of claimed rows: by IMSI and version, ``None`` for done or why not; free the owner's others.

    A row that wants something else by now stays waiting. One that another claimed meanwhile, because this owner took
    too long, is to be looked at again: nobody knows whose message the network heard last.
    """
    done = failed = 0
    rows = tx.execute(
        sa.select(_entry)
        .where(_entry.c.network == name, _entry.c.imsi.in_([imsi for imsi, _ in outcomes]))
        .order_by(_entry.c.imsi)
        .with_for_update()
    )
    found = {row.imsi: row for row in rows}
    for (imsi, version), error in outcomes.items():
        row = found.get(imsi)
        if row is None:
            continue
        if row.claimed_by != owner:
            _set(tx, name, imsi, _fresh(now))
        elif error is not None:
            failed += 1
            attempts = row.attempts + 1 if row.version == version else row.attempts
            again = now + retry_after(attempts, retry_seconds_max) if attempts else None
            values = {"attempts": attempts, "next_try_at": again, "last_error": _short(error)}
            _set(tx, name, imsi, values)
        elif row.version == version:
            done += 1
            _set(tx, name, imsi, {"done_at": now, "attempts": 0, "next_try_at": None, "last_error": ""})
    mine = sa.and_(_entry.c.network == name, _entry.c.claimed_by == owner)
    tx.execute(sa.update(_entry).where(mine).values(claimed_by=None, claimed_until=None))
    if done or failed:
        totals = {"done_total": _network.c.done_total + done, "failed_total": _network.c.failed_total + failed}
        tx.execute(sa.update(_network).where(_network.c.name == name).values(totals))


def answered(tx: Connection, name: str, now: datetime) -> None:
    """Write that a network answers."""
    tx.execute(
        sa.update(_network)
        .where(_network.c.name == name)
        .values(answered_at=now, failures=0, next_try_at=None, last_error="")
    )


def failed(tx: Connection, name: str, error: str, now: datetime, *, retry_seconds_max: float) -> None:
    """Write that a network does not answer; it is left alone for a while, longer each time."""
    failures = (tx.execute(sa.select(_network.c.failures).where(_network.c.name == name)).scalar() or 0) + 1
    again = now + retry_after(failures, retry_seconds_max)
    values = {"failures": failures, "next_try_at": again, "last_error": _short(error)}
    tx.execute(
        sa.update(_network).where(_network.c.name == name).values(failed_total=_network.c.failed_total + 1, **values)
    )


def retry_after(attempts: int, seconds_max: float) -> timedelta:
    """Say how long to wait after so many attempts in vain: twice as long each time, up to a limit."""
    return timedelta(seconds=min(seconds_max, RETRY_SECONDS_LEAST * 2.0 ** min(attempts - 1, 30)))


def _short(error: str) -> str:
    return error[:ERROR_CHARACTERS_MAX]


# -- looking at it ---------------------------------------------------------------------------------------------------


def backlog(tx: Connection) -> list[Backlog]:
    """Give how far each network is: what is waiting, since when, and what fails."""
    waits = (
        sa.select(
            _entry.c.network,
            sa.func.count().label("waiting"),
            sa.func.min(_entry.c.queued_at).label("oldest_at"),
            sa.func.sum(sa.case((_entry.c.attempts > 0, 1), else_=0)).label("failing"),
        )
        .where(_WAITING)
        .group_by(_entry.c.network)
        .subquery()
    )
    members = (
        sa.select(_entry.c.network, sa.func.count().label("entries"))
        .where(_entry.c.wanted)
        .group_by(_entry.c.network)
        .subquery()
    )
    rows = tx.execute(
        sa.select(_network, waits.c.waiting, waits.c.oldest_at, waits.c.failing, members.c.entries)
        .outerjoin(waits, waits.c.network == _network.c.name)
        .outerjoin(members, members.c.network == _network.c.name)
        .order_by(_network.c.name)
    )
    return [
        Backlog(
            row.name,
            row.kind,
            row.waiting or 0,
            row.oldest_at,
            int(row.failing or 0),
            row.entries or 0,
            row.done_total,
            row.failed_total,
            row.answered_at,
            row.next_try_at,
            row.last_error,
        )
        for row in rows
    ]


def troubles(tx: Connection, name: str, *, limit: int) -> list[Trouble]:
    """Give the rows of a network that were tried in vain, those that wait longest first."""
    rows = tx.execute(
        sa.select(_entry)
        .where(_entry.c.network == name, _WAITING, _entry.c.attempts > 0)
        .order_by(_entry.c.queued_at, _entry.c.imsi)
        .limit(limit)
    )
    return [Trouble(name, row.imsi, row.wanted, row.attempts, row.next_try_at, row.last_error) for row in rows]


@dataclass(frozen=True, slots=True)
class Desired:
    """All that one network should know, and which IMSIs are on their way there; ``gone``: those it should not know."""

    entries: list[Entry]
    waiting: frozenset[str]
    gone: frozenset[str]


def desired(tx: Connection, name: str) -> Desired:
    """Read all of it."""
    rows = tx.execute(sa.select(_entry).where(_entry.c.network == name).order_by(_entry.c.imsi)).all()
    return Desired(
        [entry for row in rows if (entry := _entry_of(row)) is not None],
        frozenset(row.imsi for row in rows if row.done_at is None),
        frozenset(row.imsi for row in rows if not row.wanted),
    )


def inconsistent(tx: Connection) -> list[tuple[str, str, str | None, str | None]]:
    """Give where a row is not as the subscribers are: network, IMSI, the number it should say and the one it says."""
    people = sa.select(_subscriber.c.imsi, _subscriber.c.clid, _subscriber.c.id).where(_ENTITLED).subquery()
    differs = sa.or_(
        _entry.c.imsi.is_(None),
        sa.not_(_entry.c.wanted),
        _entry.c.msisdn != people.c.clid,
        _entry.c.subscriber_id != people.c.id,
    )
    lacking = (
        sa.select(_network.c.name, people.c.imsi, people.c.clid, _entry.c.msisdn)
        .select_from(_network.join(people, sa.true()))
        .outerjoin(_entry, sa.and_(_entry.c.network == _network.c.name, _entry.c.imsi == people.c.imsi))
        .where(differs)
    )
    too_many = (
        sa.select(_entry.c.network, _entry.c.imsi, people.c.clid, _entry.c.msisdn)
        .outerjoin(people, people.c.imsi == _entry.c.imsi)
        .where(_entry.c.wanted, people.c.imsi.is_(None))
    )
    return [(row[0], row[1], row[2], row[3]) for question in (lacking, too_many) for row in tx.execute(question)]


def again(tx: Connection, name: str, imsis: Iterable[str], now: datetime) -> int:
    """Queue these anew, at once: as they are wanted, or to be gone where the biller knows nobody of them."""
    count = 0
    for imsi in imsis:
        if not _set(tx, name, imsi, _fresh(now)):
            tx.execute(sa.insert(_entry).values(_new(name, Entry(imsi, ""), None, now)))
        count += 1
    return count
