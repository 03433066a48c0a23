"""Data sessions that a NAS must end: which, since when, and how often it was asked. On an open transaction.

The request is a mark on the session's row, so it survives restarts and any node can send it. The session itself ends
as any other: when the NAS reports its end.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.data.session import DISABLED, GONE, SPENT, SUSPENDED
from celcombiller.core.data.session_records import session_from_row
from celcombiller.core.schema import leases, tables
from celcombiller.core.subscribers.subscriber_records import NOT_DELETED

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.data.session import DataSession

RETRY_MIN = timedelta(seconds=15)
RETRY_MAX = timedelta(minutes=5)
"""When a NAS that did not end a session is asked again: the delay doubles each time, within these limits."""

_table, _person = tables.data_session, tables.subscriber
_OPEN = _table.c.state == sa.literal("open", literal_execute=True)
_BARRED = sa.exists().where(
    _person.c.id == _table.c.subscriber_id,
    sa.or_(sa.not_(NOT_DELETED), sa.not_(_person.c.enabled), _person.c.suspended_at.is_not(None)),
)


def is_due(tx: Connection, now: datetime) -> bool:
    """Return whether `request_disconnects` or `claim` would find any session. Reads only."""
    new = sa.and_(_table.c.disconnect == "", _BARRED)
    due = _table.c.disconnect_at <= now
    return any(tx.execute(sa.select(_table.c.id).where(_OPEN, each).limit(1)).first() for each in (new, due))


def request_disconnects(tx: Connection, now: datetime) -> None:
    """Mark the sessions of subscribers who were disabled, suspended or deleted meanwhile."""
    gone = sa.exists().where(_person.c.id == _table.c.subscriber_id, sa.not_(NOT_DELETED))
    disabled = sa.exists().where(_person.c.id == _table.c.subscriber_id, sa.not_(_person.c.enabled))
    why = sa.case((gone, GONE), (disabled, DISABLED), else_=SUSPENDED)
    marked = sa.update(_table).where(_OPEN, _table.c.disconnect == "", _BARRED)
    tx.execute(marked.values(disconnect=why, disconnect_at=now, disconnect_tries=0, disconnect_said=""))


def withdraw_disconnects(tx: Connection, now: datetime) -> None:
    """Remove the mark from sessions whose subscriber has credit again, or may use the service again."""
    account = tables.account.c
    has_credit = sa.exists().where(account.id == _table.c.account_id, account.posted - account.held > account.floor)
    lifted = sa.or_(
        sa.and_(_table.c.disconnect == SPENT, has_credit),
        sa.and_(_table.c.disconnect.in_((DISABLED, SUSPENDED)), sa.not_(_BARRED)),
    )
    tx.execute(
        sa.update(_table)
        .where(_OPEN, _table.c.disconnect_at <= now, lifted)
        .values(disconnect="", disconnect_at=None, disconnect_tries=0, disconnect_said="")
    )


def claim(tx: Connection, now: datetime, *, limit: int) -> list[DataSession]:
    """Return sessions whose NAS is to be asked now, and set when it is asked again if it does not end them."""
    withdraw_disconnects(tx, now)
    due = sa.select(_table).where(_OPEN, _table.c.disconnect_at <= now).order_by(_table.c.disconnect_at, _table.c.id)
    rows = leases.lock_rows(tx, due, limit=limit)
    for row in rows:
        tries = row.disconnect_tries + 1
        again = min(RETRY_MIN * 2 ** min(tries - 1, 10), RETRY_MAX)
        tx.execute(
            sa.update(_table).where(_table.c.id == row.id).values(disconnect_tries=tries, disconnect_at=now + again)
        )
    return [session_from_row(row) for row in rows]


def answered(tx: Connection, reference: str, said: str, *, settled: bool) -> None:
    """Record the NAS's answer; with ``settled`` it is not asked again."""
    values: dict[str, object] = {"disconnect_said": said}
    if settled:
        values["disconnect_at"] = None
    tx.execute(sa.update(_table).where(_table.c.reference == reference, _OPEN).values(values))
