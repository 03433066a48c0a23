"""Browser sessions, on an open transaction.

The database stores only the SHA-256 of a session's cookie, as of a token: both are random with 256 bits of entropy, so
a slow hash would add nothing. A password is stored as Argon2id and is never handled here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  `value_from_row` reads the types of the fields
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.access import audit_trail
from celcombiller.core.access.principal import MAY_LOG_IN, PRINCIPAL_COLUMNS, Principal, hash_secret
from celcombiller.core.errors import NotFound
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import driver, tables
from celcombiller.core.schema.rows import value_from_row

if TYPE_CHECKING:
    from datetime import timedelta

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor


def open_session(
    tx: Connection,
    secret: str,
    subscriber_id: int,
    *,
    address: str,
    now: datetime,
    lifetime: timedelta,
    awaits_code: bool = False,
    by_password: bool = True,
) -> None:
    """Record a login, and delete all expired sessions. ``awaits_code``: it opens nothing until `complete`."""
    table = tables.session
    tx.execute(sa.delete(table).where(table.c.expires_at <= now))
    tx.execute(
        sa.insert(table).values(
            secret_hash=hash_secret(secret),
            subscriber_id=subscriber_id,
            address=address,
            created_at=now,
            expires_at=now + lifetime,
            awaits_code=awaits_code,
            password_at=now if by_password else None,
        )
    )


def find_waiting(tx: Connection, secret: str, now: datetime) -> tuple[int, str] | None:
    """Return id and username of whose session this is, while it waits for a code; else None."""
    table = tables.session
    row = tx.execute(
        sa.select(tables.subscriber.c.id, tables.subscriber.c.username)
        .join(table, table.c.subscriber_id == tables.subscriber.c.id)
        .where(table.c.secret_hash == hash_secret(secret), table.c.expires_at > now, table.c.awaits_code, MAY_LOG_IN)
    ).first()
    return None if row is None else (row.id, row.username)


def complete(tx: Connection, secret: str, new_secret: str, expires_at: datetime) -> None:
    """Open a session whose code came, under a new secret."""
    table = tables.session
    values = {"secret_hash": hash_secret(new_secret), "awaits_code": False, "expires_at": expires_at}
    tx.execute(sa.update(table).where(table.c.secret_hash == hash_secret(secret), table.c.awaits_code).values(values))


def note_password(tx: Connection, secret: str, now: datetime) -> None:
    """Record that the person of a session has given their password again."""
    table = tables.session
    tx.execute(sa.update(table).where(table.c.secret_hash == hash_secret(secret)).values(password_at=now))


def close_session(tx: Connection, *secrets: str) -> None:
    """Delete the sessions with these secrets; one that is already gone is no error."""
    tx.execute(sa.delete(tables.session).where(tables.session.c.secret_hash.in_(map(hash_secret, secrets))))


def close_sessions(tx: Connection, subscriber_id: int, *, but: str | None = None) -> None:
    """Delete all sessions of a subscriber except the one whose secret is ``but``."""
    table = tables.session
    others = sa.true() if but is None else table.c.secret_hash != hash_secret(but)
    tx.execute(sa.delete(table).where(table.c.subscriber_id == subscriber_id, others))


@dataclass(frozen=True, slots=True)
class Session:
    """A logged-in browser. ``id`` is the hash of its cookie, which cannot be used to log in."""

    id: str
    subscriber_id: int
    username: str
    name: str
    address: str
    created_at: datetime
    expires_at: datetime


def sessions(
    tx: Connection, subscriber_id: int, now: datetime, *, limit: int, after: tuple[datetime, str] | None = None
) -> list[Session]:
    """Return the last ``limit`` sessions of a subscriber, newest first; with ``after``, only those older than it."""
    table = tables.session
    conditions = [table.c.subscriber_id == subscriber_id, table.c.expires_at > now]
    if after is not None:
        position = sa.tuple_(sa.literal(after[0], tables.Instant), sa.literal(after[1]))
        conditions.append(sa.tuple_(table.c.created_at, table.c.secret_hash) < position)
    order = (table.c.created_at.desc(), table.c.secret_hash.desc())
    return [
        value_from_row(row, Session) for row in tx.execute(_SESSIONS.where(*conditions).order_by(*order).limit(limit))
    ]


def session(tx: Connection, session_id: str) -> Session:
    """Return one session. Raise `NotFound` if there is none."""
    row = tx.execute(_SESSIONS.where(tables.session.c.secret_hash == session_id)).first()
    if row is None:
        raise NotFound("there is no such session")
    return value_from_row(row, Session)


def revoke_session(tx: Connection, actor: Actor, session_id: str, now: datetime) -> None:
    """End one session by its id: the author's own, or any as an administrator. Raises `NotFound` and `Forbidden`."""
    found = session(tx, session_id)
    if found.subscriber_id != actor.subscriber_id:
        actor.check_administers()
    tx.execute(sa.delete(tables.session).where(tables.session.c.secret_hash == session_id))
    audit_trail.record(tx, actor, "end session", f"subscriber:{found.username}", before=found, now=now)


def by_session(tx: Connection, secret: str, now: datetime) -> Principal | None:
    """Return the principal who is logged in with this cookie, or None."""
    for subscriber_id, username, level, language, name, seller_id, password_at in _BY_SESSION.rows(
        tx, secret_hash=hash_secret(secret), now=now
    ):
        return Principal(
            subscriber_id,
            username,
            Level(level),
            language=language,
            name=name,
            sells=seller_id is not None,
            password_at=driver.parse_timestamp(password_at),
        )
    return None


_BY_SESSION = driver.PreparedQuery(
    sa.select(
        *PRINCIPAL_COLUMNS,
        tables.subscriber.c.language,
        tables.subscriber.c.name,
        tables.seller.c.subscriber_id,
        tables.session.c.password_at,
    )
    .join(tables.session, tables.session.c.subscriber_id == tables.subscriber.c.id)
    .outerjoin(tables.seller, tables.seller.c.subscriber_id == tables.subscriber.c.id)
    .where(
        tables.session.c.secret_hash == sa.bindparam("secret_hash"),
        tables.session.c.expires_at > sa.bindparam("now"),
        sa.not_(tables.session.c.awaits_code),
        MAY_LOG_IN,
    )
)


_SESSIONS = (
    sa.select(
        tables.session.c.secret_hash.label("id"), tables.session, tables.subscriber.c.username, tables.subscriber.c.name
    )
    .join(tables.subscriber, tables.subscriber.c.id == tables.session.c.subscriber_id)
    .where(sa.not_(tables.session.c.awaits_code))
)
