"""Who asks: sessions of browsers, tokens of programs, and how often a login may fail. On an open transaction.

A session's cookie and a token are random words that the database knows by their SHA-256 only (they have 256 bits of
their own, so a slow hash would add nothing); a password is known by Argon2id only and never comes here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.access.principal import MAY_LOG_IN, PRINCIPAL_COLUMNS, Principal, hash_secret
from celcombiller.core.errors import NotFound
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import driver, tables

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy.engine import Connection


def open_session(
    tx: Connection, secret: str, subscriber_id: int, *, address: str, now: datetime, lifetime: timedelta
) -> None:
    """Log a browser in, and forget the sessions that are over."""
    table = tables.session
    tx.execute(sa.delete(table).where(table.c.expires_at <= now))
    tx.execute(
        sa.insert(table).values(
            secret_hash=hash_secret(secret),
            subscriber_id=subscriber_id,
            address=address,
            created_at=now,
            expires_at=now + lifetime,
        )
    )


def close_session(tx: Connection, secret: str) -> None:
    """Log out; a session that is over already is no error."""
    tx.execute(sa.delete(tables.session).where(tables.session.c.secret_hash == hash_secret(secret)))


def close_sessions(tx: Connection, subscriber_id: int, *, but: str | None = None) -> None:
    """End all sessions of a subscriber, but the one of the secret ``but``."""
    table = tables.session
    others = sa.true() if but is None else table.c.secret_hash != hash_secret(but)
    tx.execute(sa.delete(table).where(table.c.subscriber_id == subscriber_id, others))


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is logged in, named by the hash of its cookie, which opens nothing."""

    id: str
    subscriber_id: int
    username: str
    address: str
    created_at: datetime
    expires_at: datetime


def sessions(
    tx: Connection, subscriber_id: int, now: datetime, *, limit: int, after: tuple[datetime, str] | None = None
) -> list[Session]:
    """Give the last ``limit`` sessions of a subscriber, newest first, or those that come ``after`` a place."""
    table = tables.session
    conditions = [table.c.subscriber_id == subscriber_id, table.c.expires_at > now]
    if after is not None:
        place = sa.tuple_(sa.literal(after[0], tables.Instant), sa.literal(after[1]))
        conditions.append(sa.tuple_(table.c.created_at, table.c.secret_hash) < place)
    order = (table.c.created_at.desc(), table.c.secret_hash.desc())
    return list(map(_session_of, tx.execute(_SESSIONS.where(*conditions).order_by(*order).limit(limit))))


def session(tx: Connection, session_id: str) -> Session:
    """Give one session, or raise `NotFound`."""
    row = tx.execute(_SESSIONS.where(tables.session.c.secret_hash == session_id)).first()
    if row is None:
        raise NotFound("there is no such session")
    return _session_of(row)


def revoke_session(tx: Connection, session_id: str) -> None:
    """End one session."""
    tx.execute(sa.delete(tables.session).where(tables.session.c.secret_hash == session_id))


def _session_of(row: Any) -> Session:
    return Session(row.secret_hash, row.subscriber_id, row.username, row.address, row.created_at, row.expires_at)


def by_session(tx: Connection, secret: str, now: datetime) -> Principal | None:
    """Give who is logged in with this cookie."""
    for number, username, level in _BY_SESSION.rows(tx, secret_hash=hash_secret(secret), now=now):
        return Principal(number, username, Level(level))
    return None


_BY_SESSION = driver.PreparedQuery(
    sa.select(*PRINCIPAL_COLUMNS)
    .join(tables.session, tables.session.c.subscriber_id == tables.subscriber.c.id)
    .where(
        tables.session.c.secret_hash == sa.bindparam("secret_hash"),
        tables.session.c.expires_at > sa.bindparam("now"),
        MAY_LOG_IN,
    )
)


_SESSIONS = sa.select(tables.session, tables.subscriber.c.username).join(
    tables.subscriber, tables.subscriber.c.id == tables.session.c.subscriber_id
)
