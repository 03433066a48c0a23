"""The provisioning queue: claim rows, finish them, back off."""

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
from celcombiller.core.schema import leases, tables

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy.engine import Connection


_network = tables.network


_entry = tables.network_entry


@dataclass(frozen=True, slots=True)
class ProvisioningTask:
    """A claimed row: the entry the network should have (None: no entry), and the version of the row."""

    imsi: str
    entry: ProvisioningEntry | None
    version: int


def is_due(tx: Connection, name: str, now: datetime) -> bool:
    """Return whether there is anything to claim. It only reads."""
    found = sa.select(_entry.c.imsi).join(_network, _network.c.name == _entry.c.network)
    may_try = leases.is_try_due(_network, now)
    found = found.where(may_try, *_ready(name, now), leases.is_try_due(_entry, now))
    return tx.execute(found.limit(1)).first() is not None


def claim(
    tx: Connection, name: str, owner: str, now: datetime, *, limit: int, lease: timedelta
) -> list[ProvisioningTask]:
    """Claim the longest waiting rows of a network for ``lease``; a subscriber's old IMSI goes before the new one."""
    state = tx.execute(sa.select(_network.c.next_try_at).where(_network.c.name == name)).first()
    if state is None or (state.next_try_at is not None and state.next_try_at > now):
        return []
    return _claim(tx, name, [leases.is_try_due(_entry, now)], owner, now, limit, lease)


def claim_these(
    tx: Connection, name: str, imsis: Collection[str], owner: str, now: datetime, *, lease: timedelta
) -> list[ProvisioningTask]:
    """Claim these rows if they wait, even before their next try: they block a row that is claimed."""
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
    ready = sa.select(_entry).where(*_ready(name, now), *conditions)
    rows = leases.lock_rows(tx, ready.order_by(_entry.c.queued_at, _entry.c.wanted, _entry.c.imsi), limit=limit)
    if rows:
        taken = sa.update(_entry).where(_entry.c.network == name, _entry.c.imsi.in_([row.imsi for row in rows]))
        tx.execute(taken.values(claimed_by=owner, claimed_until=now + lease))
    return [ProvisioningTask(row.imsi, entry_from_row(row), row.version) for row in rows]


def _ready(name: str, now: datetime) -> list[sa.ColumnElement[bool]]:
    """Return the conditions on a claimable row: not claimed, and the subscriber's old entry is gone."""
    before = _entry.alias()
    old = sa.exists().where(
        before.c.network == name,
        before.c.subscriber_id == _entry.c.subscriber_id,
        before.c.done_at.is_(None),
        sa.not_(before.c.wanted),
    )
    is_free = leases.is_free(_entry, now)
    return [_entry.c.network == name, IS_WAITING, is_free, sa.or_(sa.not_(_entry.c.wanted), sa.not_(old))]


def finish(
    tx: Connection,
    name: str,
    owner: str,
    outcomes: Mapping[tuple[str, int], str | None],
    now: datetime,
    *,
    retry_seconds_max: float,
) -> None:
    """Record the outcome of claimed rows by IMSI and version, None or the error; release the owner's other claims.

    A row that has changed meanwhile stays queued. A row that another node claimed because this owner took too long is
    queued again: it is not known which request reached the network last.
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
            next_try_at = now + retry_after(attempts, retry_seconds_max) if attempts else None
            values = {"attempts": attempts, "next_try_at": next_try_at, "last_error": _shorten(error)}
            update_entry(tx, name, imsi, values)
        elif row.version == version:
            done += 1
            update_entry(tx, name, imsi, {"done_at": now, "attempts": 0, "next_try_at": None, "last_error": ""})
    owned = sa.and_(_entry.c.network == name, _entry.c.claimed_by == owner)
    tx.execute(sa.update(_entry).where(owned).values(**leases.RELEASED))
    if done or failed:
        totals = {"done_total": _network.c.done_total + done, "failed_total": _network.c.failed_total + failed}
        tx.execute(sa.update(_network).where(_network.c.name == name).values(totals))


def record_answer(tx: Connection, name: str, now: datetime, warning: str | None = "") -> None:
    """Record that a network answers, and what is wrong with its list; ``None``: that is not known."""
    values = {"answered_at": now, "failures": 0, "next_try_at": None}
    if warning is not None:
        values["last_error"] = _shorten(warning)
    else:  # of a network that did not answer before, it is the reason of that
        values["last_error"] = sa.case((_network.c.next_try_at.is_(None), _network.c.last_error), else_="")
    tx.execute(sa.update(_network).where(_network.c.name == name).values(values))


def record_failure(tx: Connection, name: str, error: str, now: datetime, *, retry_seconds_max: float) -> None:
    """Record that a network does not answer; it is tried again later, after a longer wait each time."""
    failures = (tx.execute(sa.select(_network.c.failures).where(_network.c.name == name)).scalar() or 0) + 1
    next_try_at = now + retry_after(failures, retry_seconds_max)
    values = {"failures": failures, "next_try_at": next_try_at, "last_error": _shorten(error)}
    tx.execute(
        sa.update(_network).where(_network.c.name == name).values(failed_total=_network.c.failed_total + 1, **values)
    )


def _shorten(error: str) -> str:
    return error[:ERROR_CHARACTERS_MAX]
