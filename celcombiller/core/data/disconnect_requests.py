"""Data sessions that a NAS is to end: which, since when, and how often it was asked. On an open transaction.

It is a mark on the session's row, so it survives restarts and any node can ask; the session itself ends as any other,
when the NAS tells that it did.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.data.session import DISABLED, GONE, SPENT
from celcombiller.core.data.session_records import session_from_row
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.subscriber_records import NOT_DELETED

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.data.session import DataSession

AGAIN_LEAST = timedelta(seconds=15)
AGAIN_MOST = timedelta(minutes=5)
"""A NAS that does not end a session is asked again after so long, twice as long each time, up to the most."""

_table, _person = tables.data_session, tables.subscriber
_OPEN = _table.c.state == sa.literal("open", literal_execute=True)
_UNWELCOME = sa.exists().where(
    _person.c.id == _table.c.subscriber_id, sa.or_(sa.not_(NOT_DELETED), sa.not_(_person.c.enabled))
)


def is_due(tx: Connection, now: datetime) -> bool:
    """Tell whether `request_disconnects` or `claim` would find any: it only reads."""
    new = sa.and_(_table.c.disconnect == "", _UNWELCOME)
    due = _table.c.disconnect_at <= now
    return any(tx.execute(sa.select(_table.c.id).where(_OPEN, each).limit(1)).first() for each in (new, due))


def request_disconnects(tx: Connection, now: datetime) -> None:
    """Want the end of the sessions of subscribers who were disabled or deleted meanwhile."""
    gone = sa.exists().where(_person.c.id == _table.c.subscriber_id, sa.not_(NOT_DELETED))
    why = sa.case((gone, GONE), else_=DISABLED)
    marked = sa.update(_table).where(_OPEN, _table.c.disconnect == "", _UNWELCOME)
    tx.execute(marked.values(disconnect=why, disconnect_at=now, disconnect_tries=0, disconnect_said=""))


def withdraw_disconnects(tx: Connection, now: datetime) -> None:
    """Want it no more of who has credit again, or may use the service again."""
    account = tables.account.c
    has_credit = sa.exists().where(account.id == _table.c.account_id, account.posted - account.held > account.floor)
    forgiven = sa.or_(
        sa.and_(_table.c.disconnect == SPENT, has_credit), sa.and_(_table.c.disconnect == DISABLED, sa.not_(_UNWELCOME))
    )
    tx.execute(
        sa.update(_table)
        .where(_OPEN, _table.c.disconnect_at <= now, forgiven)
        .values(disconnect="", disconnect_at=None, disconnect_tries=0, disconnect_said="")
    )


def claim(tx: Connection, now: datetime, *, limit: int) -> list[DataSession]:
    """Take sessions whose NAS is to be asked now; it is asked again later if that does not end them."""
    withdraw_disconnects(tx, now)
    rows = tx.execute(
        sa.select(_table)
        .where(_OPEN, _table.c.disconnect_at <= now)
        .order_by(_table.c.disconnect_at, _table.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        tries = row.disconnect_tries + 1
        again = min(AGAIN_LEAST * 2 ** min(tries - 1, 10), AGAIN_MOST)
        tx.execute(
            sa.update(_table).where(_table.c.id == row.id).values(disconnect_tries=tries, disconnect_at=now + again)
        )
    return [session_from_row(row) for row in rows]


def answered(tx: Connection, reference: str, said: str, *, settled: bool) -> None:
    """Note what the NAS said; with ``settled`` there is no more to ask."""
    values: dict[str, object] = {"disconnect_said": said}
    if settled:
        values["disconnect_at"] = None
    tx.execute(sa.update(_table).where(_table.c.reference == reference, _OPEN).values(values))
