"""Find silent sessions, and the credit standing of who logs in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.bundles.pots import load_pots
from celcombiller.core.data.accounting_reports import StaleSession
from celcombiller.core.data.octet_charges import find_data_rate
from celcombiller.core.data.session import find_payer
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.tariffs import Service
from celcombiller.core.rating.pricing import affordable, affordable_octets
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.catalogue.catalogue import Catalogue
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.model.tariffs import Rate
    from celcombiller.core.subscribers.directory import Directory

_TABLE = tables.data_session


def silent_sessions(tx: Connection, heard_before: datetime, *, limit: int) -> list[StaleSession]:
    """Return open sessions without a report since ``heard_before``."""
    rows = tx.execute(
        sa.select(_TABLE.c.key, _TABLE.c.reference)
        .where(_TABLE.c.state == sa.literal("open", literal_execute=True), _TABLE.c.heard_at < heard_before)
        .order_by(_TABLE.c.heard_at)
        .limit(limit)
    )
    return [StaleSession(row.key, row.reference, heard_before) for row in rows]


@dataclass(frozen=True, slots=True)
class CreditStanding:
    """What decides whether a subscriber may begin a session."""

    subscriber: Subscriber
    password_hash: str | None
    available: int
    bundled_octets: int = 0
    rate: Rate | None = None

    def octets(self, octets_per_credit: int, at: datetime) -> int:
        """Return the octets that bundles and the credit pay for, by the rate of the tariff if it has one."""
        available = max(self.available, 0)
        if self.rate is None:
            return self.bundled_octets + affordable_octets(available, octets_per_credit)
        return self.bundled_octets + affordable(self.rate, available, at, AMOUNT_MAX)


def find_credit_standing(
    tx: Connection, directory: Directory, identities: Collection[str], catalogue: Catalogue, now: datetime
) -> CreditStanding | None:
    """Return the standing of the subscriber of these names; ``None``: no subscriber has one."""
    who = find_payer(directory, identities)
    if who is None:
        return None
    account, person = tables.account, tables.subscriber
    row = tx.execute(
        sa.select(person.c.password_hash, (account.c.posted - account.c.held - account.c.floor).label("available"))
        .join(account, account.c.subscriber_id == person.c.id)
        .where(person.c.id == who.id, account.c.kind == Kind.DATA)
    ).one()
    rate, _ = find_data_rate(catalogue, who, now)
    return CreditStanding(who, row.password_hash, row.available, _bundled_octets(tx, directory, who, now), rate)


def _bundled_octets(tx: Connection, directory: Directory, who: Subscriber, now: datetime) -> int:
    """Return what is left of the bundles of octets that are good now."""
    if who.id not in directory.with_bundles:
        return 0
    pots = [each for each in load_pots(tx, [who.id])[who.id] if each.is_for(Service.DATA, "", on_net=False, at=now)]
    left = sa.select(sa.func.coalesce(sa.func.sum(tables.account.c.posted - tables.account.c.held), 0))
    return int(tx.execute(left.where(tables.account.c.id.in_([each.account_id for each in pots]))).scalar_one())
