"""Claim, finish, back off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.provisioning.entries import (
    ERROR_CHARACTERS_MAX,
    IS_WAITING,
    ProvisioningEntry,
    entry_from_row,
    requeued_values,
    update_entry,
)
from celcombiller.core.retry import retry_after
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy.engine import Connection


_network = tables.network


_entry = tables.network_entry


@dataclass(frozen=True, slots=True)
class ProvisioningTask:
    """One row that was claimed: the entry there should be (``None``: none), as of this version of the row."""

    imsi: str
    entry: ProvisioningEntry | None
    version: int


def is_due(tx: Connection, name: str, now: datetime) -> bool:
    """Tell whether there is anything to claim: it only reads."""
    found = sa.select(_entry.c.imsi).join(_network, _network.c.name == _entry.c.network)
    may_try = sa.or_(_network.c.next_try_at.is_(None), _network.c.next_try_at <= now)
    return tx.execute(found.where(may_try, *_ready(name, now), _rested(now)).limit(1)).first() is not None


def claim(
    tx: Connection, name: str, owner: str, now: datetime, *, limit: int, lease: timedelta
) -> list[ProvisioningTask]:
    """Take the rows of a network that waited longest, for ``lease``; an old IMSI goes before its successor comes."""
    state = tx.execute(sa.select(_network.c.next_try_at).where(_network.c.name == name)).first()
    if state is None or (state.next_try_at is not None and state.next_try_at > now):
        return []
    return _claim(tx, name, [_rested(now)], owner, now, limit, lease)


def claim_these(
    tx: Connection, name: str, imsis: Collection[str], owner: str, now: datetime, *, lease: timedelta
) -> list[ProvisioningTask]:
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
) -> list[ProvisioningTask]:
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
    return [ProvisioningTask(row.imsi, entry_from_row(row), row.version) for row in rows]


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
    return [_entry.c.network == name, IS_WAITING, free, sa.or_(sa.not_(_entry.c.wanted), sa.not_(old))]


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
            update_entry(tx, name, imsi, requeued_values(now))
        elif error is not None:
            failed += 1
            attempts = row.attempts + 1 if row.version == version else row.attempts
            again = now + retry_after(attempts, retry_seconds_max) if attempts else None
            values = {"attempts": attempts, "next_try_at": again, "last_error": _short(error)}
            update_entry(tx, name, imsi, values)
        elif row.version == version:
            done += 1
            update_entry(tx, name, imsi, {"done_at": now, "attempts": 0, "next_try_at": None, "last_error": ""})
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


def _short(error: str) -> str:
    return error[:ERROR_CHARACTERS_MAX]
