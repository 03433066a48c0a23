"""Who asks: sessions of browsers, tokens of programs, and how often a login may fail. On an open transaction.

A session's cookie and a token are random words that the database knows by their SHA-256 only (they have 256 bits of
their own, so a slow hash would add nothing); a password is known by Argon2id only and never comes here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller import schema, setwise
from celcombiller.errors import NotFound, TooManyAttempts
from celcombiller.model import Level
from celcombiller.subscribers import LIVING

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.engine import Connection

FAILURES_FREE = {"account": 5, "address": 20}
"""Logins that may fail in a row before each further one must wait, twice as long as the one before."""

WAIT_SECONDS_MAX = 900

FORGET = timedelta(hours=24)
"""Failures so old are forgotten."""


class Scope(StrEnum):
    """What a token may be used for; ``write`` and ``admin`` hold ``read`` too."""

    READ = "read"
    WRITE = "write"
    AGI = "agi"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. ``scopes`` is ``None`` for a session, which may do all that its level may."""

    subscriber_id: int
    username: str
    level: Level
    scopes: frozenset[Scope] | None = None
    token_id: int | None = None

    @property
    def is_staff(self) -> bool:
        """Whether others than himself are his business."""
        return self.level is not Level.SUBSCRIBER

    @property
    def shown(self) -> str:
        """Name him in the trail."""
        return self.username if self.token_id is None else f"{self.username} (token {self.token_id})"


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is listed: all of it but the secret, which nobody can show again."""

    id: int
    name: str
    username: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def hash_of(secret: str) -> str:
    """Give the name under which the database knows a cookie or a token."""
    return hashlib.sha256(secret.encode()).hexdigest()


# -- sessions --------------------------------------------------------------------------------------------------------


def open_session(
    tx: Connection, secret: str, subscriber_id: int, *, address: str, now: datetime, lifetime: timedelta
) -> None:
    """Log a browser in, and forget the sessions that are over."""
    table = schema.session
    tx.execute(sa.delete(table).where(table.c.expires_at <= now))
    tx.execute(
        sa.insert(table).values(
            secret_hash=hash_of(secret),
            subscriber_id=subscriber_id,
            address=address,
            created_at=now,
            expires_at=now + lifetime,
        )
    )


def close_session(tx: Connection, secret: str) -> None:
    """Log out; a session that is over already is no error."""
    tx.execute(sa.delete(schema.session).where(schema.session.c.secret_hash == hash_of(secret)))


def close_sessions(tx: Connection, subscriber_id: int, *, but: str | None = None) -> None:
    """End all sessions of a subscriber, but the one of the secret ``but``."""
    table = schema.session
    others = sa.true() if but is None else table.c.secret_hash != hash_of(but)
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
    table = schema.session
    conditions = [table.c.subscriber_id == subscriber_id, table.c.expires_at > now]
    if after is not None:
        place = sa.tuple_(sa.literal(after[0], schema.Instant), sa.literal(after[1]))
        conditions.append(sa.tuple_(table.c.created_at, table.c.secret_hash) < place)
    order = (table.c.created_at.desc(), table.c.secret_hash.desc())
    return list(map(_session_of, tx.execute(_SESSIONS.where(*conditions).order_by(*order).limit(limit))))


def session(tx: Connection, session_id: str) -> Session:
    """Give one session, or raise `NotFound`."""
    row = tx.execute(_SESSIONS.where(schema.session.c.secret_hash == session_id)).first()
    if row is None:
        raise NotFound("there is no such session")
    return _session_of(row)


def revoke_session(tx: Connection, session_id: str) -> None:
    """End one session."""
    tx.execute(sa.delete(schema.session).where(schema.session.c.secret_hash == session_id))


def _session_of(row: Any) -> Session:
    return Session(row.secret_hash, row.subscriber_id, row.username, row.address, row.created_at, row.expires_at)


def by_session(tx: Connection, secret: str, now: datetime) -> Principal | None:
    """Give who is logged in with this cookie."""
    for number, username, level in _BY_SESSION.rows(tx, secret_hash=hash_of(secret), now=now):
        return Principal(number, username, Level(level))
    return None


# -- tokens ----------------------------------------------------------------------------------------------------------


def make_token(
    tx: Connection,
    secret: str,
    owner_id: int,
    *,
    name: str,
    scopes: Collection[Scope],
    expires_at: datetime | None,
    now: datetime,
) -> Token:
    """Make a token of a subscriber."""
    table = schema.token
    made = tx.execute(
        sa.insert(table)
        .values(
            name=name,
            secret_hash=hash_of(secret),
            subscriber_id=owner_id,
            scopes=" ".join(sorted(set(scopes))),
            created_at=now,
            expires_at=expires_at,
        )
        .returning(table.c.id)
    )
    return token(tx, made.scalar_one())


def by_token(tx: Connection, secret: str, now: datetime) -> Principal | None:
    """Give whose token this is, while it holds and its owner may use the service."""
    for number, username, level, scopes, token_id in _BY_TOKEN.rows(tx, secret_hash=hash_of(secret), now=now):
        return Principal(number, username, Level(level), frozenset(map(Scope, scopes.split())), token_id)
    return None


def token(tx: Connection, token_id: int) -> Token:
    """Give one token, or raise `NotFound`."""
    row = tx.execute(_TOKENS.where(schema.token.c.id == token_id)).first()
    if row is None:
        raise NotFound(f"there is no token {token_id}")
    return _token_of(row)


def tokens(tx: Connection) -> list[Token]:
    """Give all tokens, the revoked ones too, oldest first."""
    return list(map(_token_of, tx.execute(_TOKENS.order_by(schema.token.c.id))))


def revoke_token(tx: Connection, token_id: int, now: datetime) -> Token:
    """Make a token worthless from now on; once revoked it stays so. Raises `NotFound`."""
    table = schema.token
    tx.execute(sa.update(table).where(table.c.id == token_id, table.c.revoked_at.is_(None)).values(revoked_at=now))
    return token(tx, token_id)


def _token_of(row: Any) -> Token:
    scopes = tuple(map(Scope, row.scopes.split()))
    return Token(row.id, row.name, row.username, scopes, row.created_at, row.expires_at, row.revoked_at)


# -- logins that fail ------------------------------------------------------------------------------------------------


def admit_attempt(tx: Connection, username: str, address: str, now: datetime) -> None:
    """Count a login before its password is looked at, so that a hundred at once are a hundred.

    Raises `TooManyAttempts` while the account or the address must wait; that attempt is not counted.
    """
    table = schema.login_attempt
    tx.execute(sa.delete(table).where(table.c.last_at < now - FORGET))
    for who in _whose(username, address):
        row = tx.execute(sa.select(table).where(table.c.who == who).with_for_update()).first()
        beyond = 0 if row is None else row.failures - FAILURES_FREE[who.partition(":")[0]]
        if row is not None and beyond >= 0:
            wait_seconds = min(2**beyond, WAIT_SECONDS_MAX) if beyond < 16 else WAIT_SECONDS_MAX  # noqa: PLR2004
            left_seconds = wait_seconds - (now - row.last_at).total_seconds()
            if left_seconds > 0:
                raise TooManyAttempts("too many logins failed", int(left_seconds) + 1)
    for who in _whose(username, address):
        counted = sa.update(table).where(table.c.who == who).values(failures=table.c.failures + 1, last_at=now)
        if tx.execute(counted).rowcount == 0:
            tx.execute(sa.insert(table).values(who=who, failures=1, last_at=now))


def forgive(tx: Connection, username: str, address: str) -> None:
    """Take a login that succeeded off the count: the account's failures are over, the address has one less."""
    table = schema.login_attempt
    account, from_address = _whose(username, address)
    tx.execute(sa.delete(table).where(table.c.who == account))
    tx.execute(sa.update(table).where(table.c.who == from_address).values(failures=table.c.failures - 1))


def _whose(username: str, address: str) -> tuple[str, str]:
    return f"account:{username}", f"address:{address}"


_PERSON = (schema.subscriber.c.id, schema.subscriber.c.username, schema.subscriber.c.level)
_USABLE = sa.and_(LIVING, schema.subscriber.c.enabled)
_BY_SESSION = setwise.Lookup(
    sa.select(*_PERSON)
    .join(schema.session, schema.session.c.subscriber_id == schema.subscriber.c.id)
    .where(
        schema.session.c.secret_hash == sa.bindparam("secret_hash"),
        schema.session.c.expires_at > sa.bindparam("now"),
        _USABLE,
    )
)
_BY_TOKEN = setwise.Lookup(
    sa.select(*_PERSON, schema.token.c.scopes, schema.token.c.id.label("token_id"))
    .join(schema.token, schema.token.c.subscriber_id == schema.subscriber.c.id)
    .where(
        schema.token.c.secret_hash == sa.bindparam("secret_hash"),
        schema.token.c.revoked_at.is_(None),
        sa.or_(schema.token.c.expires_at.is_(None), schema.token.c.expires_at > sa.bindparam("now")),
        _USABLE,
    )
)
_TOKENS = sa.select(schema.token, schema.subscriber.c.username).join(
    schema.subscriber, schema.subscriber.c.id == schema.token.c.subscriber_id
)
_SESSIONS = sa.select(schema.session, schema.subscriber.c.username).join(
    schema.subscriber, schema.subscriber.c.id == schema.session.c.subscriber_id
)
