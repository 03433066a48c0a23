"""The tables. Alembic's numbered migrations, beside this module, build and upgrade them; a test holds the two equal.

The laws that a database can enforce are constraints here: amounts are positive, a hold is never negative, a transfer
has two different sides, an id is used once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from celcombiller.model import Kind

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

OPERATOR_ACCOUNT_IDS = {Kind.VOICE: 1, Kind.DATA: 2}
"""The system accounts, made by the first migration: the operator's side of every movement of that kind."""


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime, on SQLite too, which keeps no zone; a naive one is an error at once."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time and hand on UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""SQLite numbers rows by itself only where the type is exactly INTEGER, which there has 64 bits anyhow."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _account_id(name: str, *, index: bool = False) -> sa.Column[Any]:
    return sa.Column(name, BigId, sa.ForeignKey("account.id"), nullable=False, index=index)


subscriber = sa.Table(
    "subscriber",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("username", sa.Text, nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("clid", sa.Text, nullable=False, unique=True),
    sa.Column("imsi", sa.Text, nullable=False, unique=True),
    sa.Column("cpf", sa.Text, unique=True),
    sa.Column("address", sa.Text, nullable=False, server_default=""),
    sa.Column("level", sa.SmallInteger, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("password_hash", sa.Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.CheckConstraint("level in (0, 1, 2)", name="level"),
)

account = sa.Table(
    "account",
    metadata,
    sa.Column("id", BigId, sa.Identity(start=100), primary_key=True),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id")),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("posted", sa.BigInteger, nullable=False),
    sa.Column("held", sa.BigInteger, nullable=False),
    sa.Column("floor", sa.BigInteger, nullable=False, server_default="0"),
    sa.UniqueConstraint("subscriber_id", "kind"),
    sa.CheckConstraint("kind in ('voice', 'data')", name="kind"),
    sa.CheckConstraint("held >= 0", name="held"),
    sa.CheckConstraint("floor <= 0", name="floor"),
    sa.CheckConstraint("subscriber_id is not null or (posted = 0 and held = 0)", name="system"),
)

transfer = sa.Table(
    "transfer",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("reference", sa.Text, nullable=False, unique=True),
    _account_id("debit_account_id"),
    _account_id("credit_account_id"),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("debit_posted", sa.BigInteger),
    sa.Column("credit_posted", sa.BigInteger),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.CheckConstraint("amount > 0", name="amount"),
    sa.CheckConstraint("debit_account_id <> credit_account_id", name="sides"),
    sa.Index(None, "debit_account_id", "id"),
    sa.Index(None, "credit_account_id", "id"),
)

hold = sa.Table(
    "hold",
    metadata,
    sa.Column("reference", sa.Text, primary_key=True),
    _account_id("account_id"),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("opened_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.CheckConstraint("amount >= 0", name="amount"),
    sa.CheckConstraint("state in ('open', 'settled', 'released', 'expired')", name="state"),
    sa.CheckConstraint("(state = 'open') = (ended_at is null)", name="ended"),
    sa.Index(
        "ix_hold_open", "account_id", sqlite_where=sa.text("state = 'open'"), postgresql_where=sa.text("state = 'open'")
    ),
)

call = sa.Table(
    "call",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("reference", sa.Text, nullable=False, unique=True),
    sa.Column("server", sa.Text, nullable=False),
    sa.Column("uniqueid", sa.Text, nullable=False, index=True),
    sa.Column("leg", sa.Integer, nullable=False),
    sa.Column("authorization", sa.Text, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False, index=True),
    _account_id("account_id"),
    sa.Column("from_number", sa.Text, nullable=False),
    sa.Column("to_number", sa.Text, nullable=False),
    sa.Column("callee_id", BigId, sa.ForeignKey("subscriber.id")),
    sa.Column("rate_prefix", sa.Text, nullable=False),
    sa.Column("rate_name", sa.Text, nullable=False),
    sa.Column("connect_fee", sa.BigInteger, nullable=False),
    sa.Column("price", sa.BigInteger, nullable=False),
    sa.Column("increment_seconds", sa.Integer, nullable=False),
    sa.Column("granted_seconds", sa.Integer, nullable=False),
    sa.Column("answered_early", sa.Boolean, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("answered_at", Instant),
    sa.Column("ended_at", Instant),
    sa.Column("talk_ms", sa.BigInteger),
    sa.Column("cost", sa.BigInteger),
    sa.Column("witness", sa.Text),
    sa.Column("outcome", sa.Text, nullable=False, server_default=""),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.CheckConstraint("state in ('open', 'settled', 'released', 'expired')", name="state"),
    sa.CheckConstraint("(state = 'open') = (witness is null)", name="witness"),
    sa.CheckConstraint("state <> 'settled' or (cost >= 0 and talk_ms >= 0)", name="settled"),
    sa.Index(
        "ix_call_open", "server", sqlite_where=sa.text("state = 'open'"), postgresql_where=sa.text("state = 'open'")
    ),
)

testimony = sa.Table(
    "testimony",
    metadata,
    sa.Column("reference", sa.Text, sa.ForeignKey("call.reference"), primary_key=True),
    sa.Column("witness", sa.Text, primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("answered", sa.Boolean, nullable=False),
    sa.Column("talk_ms", sa.BigInteger),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("difference_ms", sa.BigInteger),
    sa.Column("discrepancy", sa.Boolean, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Index(
        "ix_testimony_discrepancy",
        "reference",
        sqlite_where=sa.text("discrepancy"),
        postgresql_where=sa.text("discrepancy"),
    ),
)

server = sa.Table(
    "server",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("seen_at", Instant, nullable=False),
)
