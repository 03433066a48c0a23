"""When each Asterisk server was last heard, and when an event of a call last came from it.

These are rows of the same table. All but the first have a key with a space, which no name of a server in the settings
has.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.model.calls import Witness
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

SET_BACK_LEAST = timedelta(minutes=1)
"""A time so much before the one recorded is a clock that was set back. Less is another biller's record, or drift."""

CALLS_LOOKED_AT = 100
"""The last calls of a server that show whether AMI reports them."""


def _insert_once(table: sa.Table) -> sa.TextClause:
    """Return an insert that leaves a row of the same key as it is, in SQL that SQLite and PostgreSQL share."""
    names = table.c.keys()
    values = ", ".join(f":{name}" for name in names)
    text = f"insert into {table.name} ({', '.join(names)}) values ({values}) on conflict do nothing"  # noqa: S608  ours
    return sa.text(text).bindparams(*(sa.bindparam(column.name, type_=column.type) for column in table.c))


_INSERT_SERVER = _insert_once(tables.server)


def server_seen(tx: Connection, name: str, at: datetime) -> None:
    """Record that an Asterisk server was heard at ``at``, by its clock: a call found gone was alive until then."""
    table = tables.server
    is_other = sa.or_(table.c.seen_at < at, table.c.seen_at > at + SET_BACK_LEAST)
    statement = sa.update(table).where(table.c.name == name, is_other).values(seen_at=at)
    if tx.execute(statement).rowcount == 0:
        tx.execute(_INSERT_SERVER, {"name": name, "seen_at": at})


def server_not_seen_beyond(tx: Connection, name: str, at: datetime) -> None:
    """Replace a time at which an Asterisk server was heard that is later than ``at``, which is now by its clock.

    Where it is that of a clock that was set back, it is kept: for a call that was answered before that, too.
    """
    table, seen_at = tables.server, server_last_seen(tx, name)
    if seen_at is None or seen_at <= at:
        return
    tx.execute(sa.update(table).where(table.c.name == name, table.c.seen_at > at).values(seen_at=at))
    if seen_at > at + SET_BACK_LEAST:
        server_seen(tx, _before_key(name), seen_at)


def server_seen_before_step(tx: Connection, name: str) -> datetime | None:
    """Return when an Asterisk server was last heard before its clock was set back; ``None``: that is not known."""
    return server_last_seen(tx, _before_key(name))


def server_last_seen(tx: Connection, name: str) -> datetime | None:
    """Return when a biller last heard an Asterisk server; ``None``: never."""
    return tx.execute(sa.select(tables.server.c.seen_at).where(tables.server.c.name == name)).scalar_one_or_none()


def servers_seen(tx: Connection, after: datetime) -> frozenset[str]:
    """Return the Asterisk servers that a biller has heard since then."""
    table = tables.server
    return frozenset(tx.execute(sa.select(table.c.name).where(table.c.seen_at > after)).scalars())


def record_call_event(tx: Connection, name: str, at: datetime) -> None:
    """Record that an event of a call came from an Asterisk server: its link is not deaf to answers."""
    server_seen(tx, _events_key(name), at)


def last_call_event(tx: Connection, name: str) -> datetime | None:
    """Return when an event of a call last came from an Asterisk server; ``None``: none ever came, or none can.

    Of a server that billers of an earlier version knew, its last calls tell: whether AMI reported one as answered.
    """
    known = server_last_seen(tx, _events_key(name))
    if known is not None:
        return known
    call, report = tables.call, tables.testimony
    last = (
        sa.select(call.c.reference)
        .where(call.c.server == name)
        .order_by(call.c.started_at.desc(), call.c.id.desc())
        .limit(CALLS_LOOKED_AT)
        .subquery()
    )
    statement = (
        sa.select(report.c.at)
        .join(last, last.c.reference == report.c.reference)
        .where(report.c.witness == Witness.AMI.value, report.c.answered)
    )
    return max(tx.execute(statement).scalars(), default=None)


def forget_call_events(tx: Connection, name: str) -> None:
    """Record that the answers of an Asterisk server's calls are not heard."""
    tx.execute(sa.delete(tables.server).where(tables.server.c.name == _events_key(name)))


def _events_key(name: str) -> str:
    return f"{name} call-events"


def _before_key(name: str) -> str:
    return f"{name} before-step"
