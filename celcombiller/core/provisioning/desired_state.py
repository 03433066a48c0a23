"""The desired state of each radio network: the rows of the provisioning queue, on an open transaction.

A row says that one network should have an entry with this number for one IMSI, or none. It is written in the
transaction that changes the subscriber, so neither is committed without the other. Whichever node claims the row works
it. When a row changes while it waits, the network only ever sees the latest desired state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.provisioning.entries import ProvisioningEntry, entry_from_row, requeued_values, update_entry
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.subscribers import Subscriber

_network = tables.network


_entry = tables.network_entry


_subscriber = tables.subscriber


_REACHABLE = sa.func.replace(_subscriber.c.imsi, "0", "") != ""


_ENTITLED = sa.and_(_subscriber.c.deleted_at.is_(None), _subscriber.c.enabled, _REACHABLE)
"""Subscribers who should be on the networks. An IMSI of zeros, as the first administrator has, is no phone's."""


def configure(tx: Connection, kinds: Mapping[str, str], now: datetime) -> None:
    """Record these networks (kind by name), and queue on each the subscribers that are missing.

    A network that is no longer in the settings keeps its rows, and new ones are added: it may come back.
    """
    if tx.dialect.name == "postgresql":  # no other node adds a subscriber between this read and the commit
        tx.execute(sa.text("lock table subscriber in share mode"))
    known = {row.name: row.kind for row in tx.execute(sa.select(_network.c.name, _network.c.kind))}
    for name, kind in kinds.items():
        if name not in known:
            tx.execute(sa.insert(_network).values(name=name, kind=kind, added_at=now, last_error=""))
        elif known[name] != kind:
            tx.execute(sa.update(_network).where(_network.c.name == name).values(kind=kind))
    enqueue_missing(tx, now)


def enqueue_missing(tx: Connection, now: datetime) -> None:
    """Queue on every network the subscribers that no row covers, for instance after a bulk import."""
    for name in tx.execute(sa.select(_network.c.name)).scalars().all():
        _enqueue_missing_on(tx, name, now)


def forget(tx: Connection, name: str) -> bool:
    """Delete a network and its queue; return whether it existed."""
    tx.execute(sa.delete(_entry).where(_entry.c.network == name))
    return tx.execute(sa.delete(_network).where(_network.c.name == name)).rowcount == 1


def sync_subscriber(tx: Connection, subscriber: Subscriber, now: datetime, *, deleted: bool = False) -> None:
    """Queue the subscriber's current state on every network, in the transaction that changes the subscriber.

    It compares with the queue's rows, not with the subscriber before the change: two nodes may change one at once.
    """
    names = tx.execute(sa.select(_network.c.name)).scalars().all()
    if not names:
        return
    entitled = subscriber.enabled and not deleted and subscriber.imsi.strip("0") != ""
    others = _entry.c.imsi != subscriber.imsi if entitled else sa.true()
    tx.execute(
        sa.update(_entry)
        .where(_entry.c.subscriber_id == subscriber.id, _entry.c.wanted, others)
        .values(requeued_values(now, wanted=False, msisdn=""))
    )
    if entitled:
        wanted = ProvisioningEntry(subscriber.imsi, subscriber.clid, str(subscriber.id))
        rows = tx.execute(sa.select(_entry).where(_entry.c.imsi == subscriber.imsi).with_for_update())
        known = {row.network: row for row in rows}
        for name in names:
            if name not in known:
                tx.execute(sa.insert(_entry).values(_new_row(name, wanted, subscriber.id, now)))
            elif entry_from_row(known[name]) != wanted:
                values = requeued_values(now, wanted=True, msisdn=wanted.msisdn, subscriber_id=subscriber.id)
                update_entry(tx, name, wanted.imsi, values)


def _enqueue_missing_on(tx: Connection, name: str, now: datetime) -> None:
    """Queue on one network what differs from the subscribers: all of them when the network is new."""
    existing = _entry.alias()
    missing = (
        sa.select(_subscriber.c.id, _subscriber.c.imsi, _subscriber.c.clid, existing.c.imsi.label("known"))
        .outerjoin(existing, sa.and_(existing.c.network == name, existing.c.imsi == _subscriber.c.imsi))
        .where(_ENTITLED)
        .where(
            sa.or_(
                existing.c.imsi.is_(None),
                sa.not_(existing.c.wanted),
                existing.c.msisdn != _subscriber.c.clid,
                existing.c.subscriber_id != _subscriber.c.id,
            )
        )
    )
    entitled = sa.exists().where(_ENTITLED, _subscriber.c.imsi == _entry.c.imsi)
    tx.execute(
        sa.update(_entry)
        .where(_entry.c.network == name, _entry.c.wanted, sa.not_(entitled))
        .values(requeued_values(now, wanted=False, msisdn=""))
    )
    new = []
    for row in tx.execute(missing).all():
        if row.known is None:
            new.append(_new_row(name, ProvisioningEntry(row.imsi, row.clid), row.id, now))
        else:
            update_entry(tx, name, row.imsi, requeued_values(now, wanted=True, msisdn=row.clid, subscriber_id=row.id))
    if new:
        tx.execute(sa.insert(_entry), new)


def _new_row(name: str, entry: ProvisioningEntry, subscriber_id: int | None, now: datetime) -> dict[str, Any]:
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


@dataclass(frozen=True, slots=True)
class Desired:
    """The entries one network should have. ``waiting``: IMSIs still queued; ``gone``: IMSIs it should not have."""

    entries: list[ProvisioningEntry]
    waiting: frozenset[str]
    gone: frozenset[str]


def desired(tx: Connection, name: str) -> Desired:
    """Return the desired state of a network."""
    rows = tx.execute(sa.select(_entry).where(_entry.c.network == name).order_by(_entry.c.imsi)).all()
    return Desired(
        [entry for row in rows if (entry := entry_from_row(row)) is not None],
        frozenset(row.imsi for row in rows if row.done_at is None),
        frozenset(row.imsi for row in rows if not row.wanted),
    )


def list_inconsistent(tx: Connection) -> list[tuple[str, str, str | None, str | None]]:
    """Return rows that contradict the subscribers: network, IMSI, expected number, number found."""
    entitled = sa.select(_subscriber.c.imsi, _subscriber.c.clid, _subscriber.c.id).where(_ENTITLED).subquery()
    differs = sa.or_(
        _entry.c.imsi.is_(None),
        sa.not_(_entry.c.wanted),
        _entry.c.msisdn != entitled.c.clid,
        _entry.c.subscriber_id != entitled.c.id,
    )
    missing = (
        sa.select(_network.c.name, entitled.c.imsi, entitled.c.clid, _entry.c.msisdn)
        .select_from(_network.join(entitled, sa.true()))
        .outerjoin(_entry, sa.and_(_entry.c.network == _network.c.name, _entry.c.imsi == entitled.c.imsi))
        .where(differs)
    )
    unwanted = (
        sa.select(_entry.c.network, _entry.c.imsi, entitled.c.clid, _entry.c.msisdn)
        .outerjoin(entitled, entitled.c.imsi == _entry.c.imsi)
        .where(_entry.c.wanted, entitled.c.imsi.is_(None))
    )
    return [(row[0], row[1], row[2], row[3]) for statement in (missing, unwanted) for row in tx.execute(statement)]


def requeue(tx: Connection, name: str, imsis: Iterable[str], now: datetime) -> int:
    """Queue these IMSIs again at once: as desired, or for removal where no subscriber has one; return how many."""
    count = 0
    for imsi in imsis:
        if not update_entry(tx, name, imsi, requeued_values(now)):
            tx.execute(sa.insert(_entry).values(_new_row(name, ProvisioningEntry(imsi, ""), None, now)))
        count += 1
    return count
