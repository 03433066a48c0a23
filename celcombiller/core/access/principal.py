"""The authenticated client of a request, with level and scopes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.subscriber_records import NOT_DELETED

if TYPE_CHECKING:
    from datetime import datetime


class Scope(StrEnum):
    """What a token may be used for; ``write`` and ``admin`` include ``read``."""

    READ = "read"
    WRITE = "write"
    AGI = "agi"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated client. ``scopes`` is ``None`` for a browser session, which may do all its level allows.

    Of a browser session it is known, too, which ``language`` its subscriber chose (empty: none), their ``name``, and
    whether they are a seller (``sells``), and when they last gave their password (``password_at``; ``None``: never).
    """

    subscriber_id: int
    username: str
    level: Level
    scopes: frozenset[Scope] | None = None
    token_id: int | None = None
    language: str = ""
    name: str = ""
    sells: bool = False
    password_at: datetime | None = None

    @property
    def is_staff(self) -> bool:
        """Whether they may see and manage other subscribers."""
        return self.level is not Level.SUBSCRIBER

    @property
    def is_unnarrowed(self) -> bool:
        """Whether they may do all that their level may: a session, or a token of scope ``admin``."""
        return self.scopes is None or Scope.ADMIN in self.scopes

    @property
    def writes(self) -> bool:
        """Whether they may change anything."""
        return self.is_unnarrowed or (self.scopes is not None and Scope.WRITE in self.scopes)

    def gave_password(self, since: datetime) -> bool:
        """Whether they have given their password since then. The secret of a token comes with each request."""
        return self.scopes is not None or (self.password_at is not None and self.password_at >= since)

    @property
    def manages(self) -> frozenset[Level]:
        """The levels that they manage. A narrower token of an administrator manages what a collaborator manages."""
        if self.level is Level.ADMINISTRATOR and self.is_unnarrowed:
            return ALL_LEVELS
        return frozenset({Level.SUBSCRIBER}) if self.is_staff and self.writes else frozenset()

    def acting_from(self, address: str) -> Actor:
        """Return them as the author of a change, from this IP address."""
        return Actor(
            self.audit_name,
            address,
            manages=self.manages,
            subscriber_id=self.subscriber_id if self.writes else None,
            sets_own_password=self.is_unnarrowed,
        )

    @property
    def audit_name(self) -> str:
        """The name in the audit trail."""
        return self.username if self.token_id is None else f"{self.username} (token {self.token_id})"


def hash_secret(secret: str) -> str:
    """Return the SHA-256 under which the database stores a cookie or a token."""
    return hashlib.sha256(secret.encode()).hexdigest()


PRINCIPAL_COLUMNS = (tables.subscriber.c.id, tables.subscriber.c.username, tables.subscriber.c.level)


MAY_LOG_IN = sa.and_(NOT_DELETED, tables.subscriber.c.enabled)
