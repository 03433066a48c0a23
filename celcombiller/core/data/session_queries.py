"""Find silent sessions, and the credit standing of who logs in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.data.accounting_reports import StaleSession
from celcombiller.core.data.session import find_payer
from celcombiller.core.model.accounts import Kind
from celcombiller.core.rating.pricing import affordable_octets
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.subscribers import Subscriber
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

    def octets(self, octets_per_credit: int) -> int:
        """Return the octets that the credit pays for."""
        return affordable_octets(max(self.available, 0), octets_per_credit)


def find_credit_standing(tx: Connection, directory: Directory, identities: Collection[str]) -> CreditStanding | None:
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
    return CreditStanding(who, row.password_hash, row.available)
