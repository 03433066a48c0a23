"""What each radio network should know, and how far it is: the queue of provisioning, on an open transaction.

A row says of one network and one IMSI that it should have an entry with this number, or none. It is written in the
transaction of the change of the subscriber, so neither is there without the other, and it is worked from here by
whichever node claims it. A row that changes while it waits simply wants something else: what was wanted in between,
the network never needs to hear.
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
"""Who should be on the networks. An IMSI of zeros, as the first administrator's, is no phone's."""


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
    enqueue_missing(tx, now)


def enqueue_missing(tx: Connection, now: datetime) -> None:
    """Queue on every network what the subscribers' table says and no row does: after many were added at once."""
    for name in tx.execute(sa.select(_network.c.name)).scalars().all():
        _complete(tx, name, now)


def forget(tx: Connection, name: str) -> bool:
    """Drop a network that is gone for good, with its queue; tell whether it was there."""
    tx.execute(sa.delete(_entry).where(_entry.c.network == name))
    return tx.execute(sa.delete(_network).where(_network.c.name == name)).rowcount == 1


def sync_subscriber(tx: Connection, who: Subscriber, now: datetime, *, deleted: bool = False) -> None:
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
        .values(requeued_values(now, wanted=False, msisdn=""))
    )
    if there:
        wanted = ProvisioningEntry(who.imsi, who.clid, str(who.id))
        rows = tx.execute(sa.select(_entry).where(_entry.c.imsi == who.imsi).with_for_update())
        known = {row.network: row for row in rows}
        for name in names:
            if name not in known:
                tx.execute(sa.insert(_entry).values(_new(name, wanted, who.id, now)))
            elif entry_from_row(known[name]) != wanted:
                update_entry(
                    tx, name, who.imsi, requeued_values(now, wanted=True, msisdn=who.clid, subscriber_id=who.id)
                )


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
        .values(requeued_values(now, wanted=False, msisdn=""))
    )
    new = []
    for row in tx.execute(lacking).all():
        if row.known is None:
            new.append(_new(name, ProvisioningEntry(row.imsi, row.clid), row.id, now))
        else:
            update_entry(tx, name, row.imsi, requeued_values(now, wanted=True, msisdn=row.clid, subscriber_id=row.id))
    if new:
        tx.execute(sa.insert(_entry), new)


def _new(name: str, entry: ProvisioningEntry, subscriber_id: int | None, now: datetime) -> dict[str, Any]:
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
    """All that one network should know, and which IMSIs are on their way there; ``gone``: those it should not know."""

    entries: list[ProvisioningEntry]
    waiting: frozenset[str]
    gone: frozenset[str]


def desired(tx: Connection, name: str) -> Desired:
    """Read all of it."""
    rows = tx.execute(sa.select(_entry).where(_entry.c.network == name).order_by(_entry.c.imsi)).all()
    return Desired(
        [entry for row in rows if (entry := entry_from_row(row)) is not None],
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


def requeue(tx: Connection, name: str, imsis: Iterable[str], now: datetime) -> int:
    """Queue these anew, at once: as they are wanted, or to be gone where the biller knows nobody of them."""
    count = 0
    for imsi in imsis:
        if not update_entry(tx, name, imsi, requeued_values(now)):
            tx.execute(sa.insert(_entry).values(_new(name, ProvisioningEntry(imsi, ""), None, now)))
        count += 1
    return count
