"""Backlog and failures of the networks, read only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.provisioning.entries import IS_WAITING
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection


_network = tables.network


_entry = tables.network_entry


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far one network is behind, for operators and metrics."""

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
    """Why it does not answer; empty: it does."""
    warning: str
    """What is wrong with the list of a network that answers."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A row whose last attempt failed, and why."""

    network: str
    imsi: str
    wanted: bool
    attempts: int
    next_try_at: datetime | None
    error: str


def backlog(tx: Connection) -> list[Backlog]:
    """Return the backlog of each network: what is waiting, since when, and what fails."""
    waits = (
        sa.select(
            _entry.c.network,
            sa.func.count().label("waiting"),
            sa.func.min(_entry.c.queued_at).label("oldest_at"),
            sa.func.sum(sa.case((_entry.c.attempts > 0, 1), else_=0)).label("failing"),
        )
        .where(IS_WAITING)
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
            "" if row.next_try_at is None else row.last_error,
            row.last_error if row.next_try_at is None else "",
        )
        for row in rows
    ]


def troubles(tx: Connection, name: str, *, limit: int) -> list[Trouble]:
    """Return the rows of a network whose last attempt failed, longest waiting first."""
    rows = tx.execute(
        sa.select(_entry)
        .where(_entry.c.network == name, IS_WAITING, _entry.c.attempts > 0)
        .order_by(_entry.c.queued_at, _entry.c.imsi)
        .limit(limit)
    )
    return [Trouble(name, row.imsi, row.wanted, row.attempts, row.next_try_at, row.last_error) for row in rows]
