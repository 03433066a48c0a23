"""API tokens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from celcombiller.core.access import audit_trail
from celcombiller.core.access.principal import MAY_LOG_IN, PRINCIPAL_COLUMNS, Principal, Scope, hash_secret
from celcombiller.core.errors import NotFound
from celcombiller.core.model.subscribers import Level
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.schema import driver, tables
from celcombiller.core.subscribers.fields import Username

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor


class NewToken(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A token to make."""

    name: Annotated[
        str, Meta(pattern=rf"^[^{UNPRINTABLE}]{{1,64}}$(?!\n)", description="1 to 64 characters: what it is for")
    ]
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=4, description="what it may be used for")]
    username: Annotated[Username, Meta(description="whose it is; default: the asker's")] | None = None
    expires_at: Annotated[datetime, Meta(tz=True, description="a time to come (RFC 3339, with its zone)")] | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is listed, without its secret, which is not stored."""

    id: int
    name: str
    username: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def make_token(
    tx: Connection,
    actor: Actor,
    secret: str,
    owner_id: int,
    *,
    name: str,
    scopes: Collection[Scope],
    expires_at: datetime | None,
    now: datetime,
) -> Token:
    """Record a token of a subscriber and return it. Raises `Forbidden` unless the author manages every level."""
    actor.check_administers()
    table = tables.token
    inserted = tx.execute(
        sa.insert(table)
        .values(
            name=name,
            secret_hash=hash_secret(secret),
            subscriber_id=owner_id,
            scopes=" ".join(sorted(set(scopes))),
            created_at=now,
            expires_at=expires_at,
        )
        .returning(table.c.id)
    )
    made = token(tx, inserted.scalar_one())
    audit_trail.record(tx, actor, "add", f"token:{made.id}", after=made, now=now)
    return made


def by_token(tx: Connection, secret: str, now: datetime) -> Principal | None:
    """Return the principal of a token that is valid and whose owner may use the service, or None."""
    for owner_id, username, level, scopes, token_id in _BY_TOKEN.rows(tx, secret_hash=hash_secret(secret), now=now):
        return Principal(owner_id, username, Level(level), frozenset(map(Scope, scopes.split())), token_id)
    return None


def token(tx: Connection, token_id: int) -> Token:
    """Return one token. Raise `NotFound` if there is none."""
    row = tx.execute(_TOKENS.where(tables.token.c.id == token_id)).first()
    if row is None:
        raise NotFound(f"there is no token {token_id}")
    return _token_from_row(row)


def tokens(tx: Connection) -> list[Token]:
    """Return all tokens, including revoked ones, oldest first."""
    return list(map(_token_from_row, tx.execute(_TOKENS.order_by(tables.token.c.id))))


def revoke_token(tx: Connection, actor: Actor, token_id: int, now: datetime) -> Token:
    """Revoke a token for good. Raises `NotFound`, and `Forbidden` unless the author manages every level."""
    actor.check_administers()
    before = token(tx, token_id)
    _revoke(tx, tables.token.c.id == token_id, now)
    after = token(tx, token_id)
    audit_trail.record(tx, actor, "revoke", f"token:{token_id}", before=before, after=after, now=now)
    return after


def revoke_tokens(tx: Connection, owner_id: int, now: datetime) -> None:
    """Revoke all tokens of a subscriber, with a change of their password."""
    _revoke(tx, tables.token.c.subscriber_id == owner_id, now)


def _revoke(tx: Connection, which: sa.ColumnElement[bool], now: datetime) -> None:
    table = tables.token
    tx.execute(sa.update(table).where(which, table.c.revoked_at.is_(None)).values(revoked_at=now))


def _token_from_row(row: Any) -> Token:
    scopes = tuple(map(Scope, row.scopes.split()))
    return Token(row.id, row.name, row.username, scopes, row.created_at, row.expires_at, row.revoked_at)


_BY_TOKEN = driver.PreparedQuery(
    sa.select(*PRINCIPAL_COLUMNS, tables.token.c.scopes, tables.token.c.id.label("token_id"))
    .join(tables.token, tables.token.c.subscriber_id == tables.subscriber.c.id)
    .where(
        tables.token.c.secret_hash == sa.bindparam("secret_hash"),
        tables.token.c.revoked_at.is_(None),
        sa.or_(tables.token.c.expires_at.is_(None), tables.token.c.expires_at > sa.bindparam("now")),
        MAY_LOG_IN,
    )
)


_TOKENS = sa.select(tables.token, tables.subscriber.c.username).join(
    tables.subscriber, tables.subscriber.c.id == tables.token.c.subscriber_id
)
