"""The tables. Alembic's numbered migrations, beside this module, build and upgrade them; a test compares the two.

The laws that a database can enforce are constraints here: amounts are positive, a hold is never negative, a transfer
has two different sides, an id is used once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from celcombiller.core.model.accounts import AccountKind, BundleKind, Kind
from celcombiller.core.model.subscribers import make_search_text

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

OPERATOR_ACCOUNT_IDS: dict[AccountKind, int] = {
    Kind.VOICE: 1,
    Kind.DATA: 2,
    Kind.SMS: 0,
    BundleKind.SECONDS: -1,
    BundleKind.MESSAGES: -2,
    BundleKind.OCTETS: -3,
    BundleKind.MONEY: -4,
}
"""The system accounts, made by migrations: the operator's side of every movement of that kind.

Those of sms and of bundles came when ids from 3 on could already be subscribers' (SQLite counts from the highest id);
0 and negative ids are never assigned by a database.
"""


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime, on SQLite too, which stores no zone; a naive one raises `ValueError`."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return UTC. Raises `ValueError` for a naive time."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""SQLite numbers rows by itself only where the type is exactly INTEGER, which there has 64 bits."""

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


def _where(name: str, *columns: str, condition: str, unique: bool = False) -> sa.Index:
    """Return a partial index of the rows that meet a condition, in SQL that SQLite and PostgreSQL share."""
    where = sa.text(condition)
    return sa.Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


def _living(name: str, *columns: str, unique: bool = False) -> sa.Index:
    return _where(name, *columns, condition="deleted_at is null", unique=unique)


def _search_text_of(inserted: Any) -> str:
    return make_search_text(inserted.get_current_parameters())


subscriber = sa.Table(
    "subscriber",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("username", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("clid", sa.Text, nullable=False),
    sa.Column("imsi", sa.Text, nullable=False),
    sa.Column("cpf", sa.Text),
    sa.Column("address", sa.Text, nullable=False, server_default=""),
    sa.Column("level", sa.SmallInteger, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("password_hash", sa.Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("deleted_at", Instant),
    sa.Column("tariff_id", BigId, sa.ForeignKey("tariff.id")),
    sa.Column("group_id", BigId, sa.ForeignKey("subscriber_group.id")),
    sa.Column("calls_max", sa.Integer),
    sa.Column("barred", sa.Text),
    sa.Column("allowed", sa.Text),
    sa.Column("suspended_at", Instant),
    sa.Column("language", sa.Text, nullable=False, server_default=""),
    sa.Column("search_text", sa.Text, nullable=False, server_default="", default=_search_text_of),
    sa.CheckConstraint("level in (0, 1, 2)", name="level"),
    _living("ix_subscriber_of_group", "group_id", "id", "enabled"),
    *(_living(f"uq_subscriber_{name}", name, unique=True) for name in ("username", "clid", "imsi", "cpf")),
)
"""A deleted subscriber keeps the row, for what refers to it; the identities are free for others.

``tariff_id``, ``calls_max``, ``barred`` and ``allowed`` stand before those of the group. The last two are lists of
prefixes, separated by spaces; no list: those of the group. ``suspended_at``: since when they are switched off, because
a fee is unpaid too long. ``language`` is the name of a locale such as ``pt_BR``; empty: they chose none.
``search_text`` is what `make_search_text` makes of the row; each insert makes it, and who updates a name or a number.
"""

IS_STAFF = subscriber.c.level != sa.literal_column("1")
"""Administrators and collaborators. The level is a literal: with a parameter no partial index would be used."""

account = sa.Table(
    "account",
    metadata,
    sa.Column("id", BigId, sa.Identity(start=100), primary_key=True),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id")),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("posted", sa.BigInteger, nullable=False),
    sa.Column("held", sa.BigInteger, nullable=False),
    sa.Column("floor", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("pot", sa.Integer, nullable=False, server_default="0"),
    sa.Column("day_limit", sa.BigInteger),
    sa.Column("month_limit", sa.BigInteger),
    sa.Column("spent_on", sa.Date),
    sa.Column("spent_day", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("spent_month", sa.BigInteger, nullable=False, server_default="0"),
    sa.CheckConstraint(
        "kind in ('voice', 'data', 'sms', 'seller', 'seconds', 'messages', 'octets', 'money')", name="kind"
    ),
    sa.CheckConstraint("held >= 0", name="held"),
    sa.CheckConstraint("floor <= 0", name="floor"),
    sa.CheckConstraint("subscriber_id is not null or (posted = 0 and held = 0)", name="system"),
    sa.CheckConstraint("kind in ('voice', 'data', 'sms', 'seller') or posted >= 0", name="bundle"),
    sa.CheckConstraint("day_limit >= 0 and month_limit >= 0", name="limits"),
    sa.CheckConstraint("kind not in ('voice', 'data', 'sms', 'seller') or pot = 0", name="pot"),
    sa.UniqueConstraint("subscriber_id", "kind", "pot"),
    _where("ix_account_limited", "spent_on", condition="day_limit is not null or month_limit is not null"),
)
"""``spent_day`` and ``spent_month`` were charged on the day ``spent_on`` and in its month, where a limit is set.

A subscriber has one account of each kind of credit, a seller one of the kind ``seller`` as well, and any number of
bundles: ``pot`` counts those of a kind.
"""

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
    sa.Index(None, "at", "id"),
)

transfer_detail = sa.Table(
    "transfer_detail",
    metadata,
    sa.Column("reference", sa.Text, sa.ForeignKey("transfer.reference"), primary_key=True),
    sa.Column("to_subscriber_id", BigId, sa.ForeignKey("subscriber.id")),
    sa.Column("user_ip", sa.Text),
    sa.Column("connection_ip", sa.Text),
    sa.Column("said_at", Instant),
)
"""What the sender of a transfer said beyond its amount; ``said_at`` is the sender's own date."""

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
    _where("ix_hold_open", "account_id", condition="state = 'open'"),
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
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False),
    _account_id("account_id"),
    sa.Column("from_number", sa.Text, nullable=False),
    sa.Column("to_number", sa.Text, nullable=False),
    sa.Column("callee_id", BigId, sa.ForeignKey("subscriber.id")),
    sa.Column("rate_prefix", sa.Text, nullable=False),
    sa.Column("rate_name", sa.Text, nullable=False),
    sa.Column("connect_fee", sa.BigInteger, nullable=False),
    sa.Column("price", sa.BigInteger, nullable=False),
    sa.Column("increment_seconds", sa.Integer, nullable=False),
    sa.Column("rate_detail", sa.Text),
    sa.Column("tariff_version_id", BigId, sa.ForeignKey("tariff_version.id")),
    sa.Column("bundles", sa.Text),
    sa.Column("group_id", BigId, sa.ForeignKey("subscriber_group.id")),
    sa.Column("trunk_id", BigId, sa.ForeignKey("trunk.id")),
    sa.Column("trunks_tried", sa.Text),
    sa.Column("trunk_rate", sa.Text),
    sa.Column("trunk_cost", sa.BigInteger),
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
    sa.Column("dialled", sa.Text),
    sa.CheckConstraint("state in ('open', 'settled', 'released', 'expired')", name="state"),
    sa.CheckConstraint("(state = 'open') = (witness is null)", name="witness"),
    sa.CheckConstraint("state <> 'settled' or (cost >= 0 and talk_ms >= 0)", name="settled"),
    _where("ix_call_open", "started_at", "id", condition="state = 'open'"),
    _where("ix_call_expired", "started_at", "id", condition="state = 'expired'"),
    _where("ix_call_open_subscriber", "subscriber_id", condition="state = 'open'"),
    _where("ix_call_open_group", "group_id", condition="state = 'open' and group_id is not null"),
    _where("ix_call_open_trunk", "trunk_id", condition="state = 'open' and trunk_id is not null"),
    sa.Index(None, "started_at", "id"),
    sa.Index(None, "subscriber_id", "started_at", "id"),
    sa.Index(None, "server", "started_at", "id"),
)

"""One billed leg. Where the rate has more than one price and one increment, ``rate_detail`` is the whole of it (JSON).

``tariff_version_id``: the version it was priced by; null: the settings' own rates. ``bundles``: the accounts of the
bundles that it may take from, in their order (JSON). ``trunk_rate`` and ``trunk_cost`` are what its trunk costs the
operator, for the trunk that it took; ``trunks_tried`` those before it (ids, separated by spaces). ``dialled``: the
account code, the caller's number and the dialled number as Asterisk sent them (JSON); null: just what the row has.
"""

call_renewal = sa.Table(
    "call_renewal",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("reference", sa.Text, sa.ForeignKey("call.reference"), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("seconds_before", sa.Integer, nullable=False),
    sa.Column("seconds_after", sa.Integer, nullable=False),
    sa.Column("held_before", sa.BigInteger, nullable=False),
    sa.Column("held_after", sa.BigInteger, nullable=False),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.CheckConstraint("reason in ('renewal', 'credit', 'sharing', 'limit')", name="reason"),
    sa.Index(None, "reference", "id"),
)
"""A change of what an open call is granted: in seconds since the answer, and in credits held on the balance.

The first grant of a call is that before its first renewal; the last one is in the call's own row.
"""

call_order = sa.Table(
    "call_order",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("reference", sa.Text, sa.ForeignKey("call.reference"), nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("made_at", Instant, nullable=False),
    sa.Column("done_at", Instant),
    sa.Column("result", sa.Text, nullable=False, server_default=""),
    sa.CheckConstraint("kind in ('hangup', 'say')", name="kind"),
    sa.CheckConstraint("(done_at is null) = (result = '')", name="result"),
    sa.Index(None, "reference", "id"),
    _where("ix_call_order_waiting", "id", condition="done_at is null"),
)
"""What an operator wants of a live call, for the biller that has a link to its server: to hang it up, say something.

``reason`` is the operator's own words; ``result`` is ``done``, or why not.
"""

live_change = sa.Table(
    "live_change",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id")),
    sa.Column("at", Instant, nullable=False, index=True),
)
"""The live calls of a subscriber (null: of all) must be looked at again: who may call, or how long, has changed.

Each biller reads the new rows; old ones are deleted.
"""

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
    _where("ix_testimony_discrepancy", "reference", condition="discrepancy"),
)

cdr_source = sa.Table(
    "cdr_source",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("read_at", Instant, nullable=False),
    sa.Column("claimed_by", sa.Text),
    sa.Column("claimed_until", Instant),
)
"""How far the records of an Asterisk were read (JSON, of the reader of that kind), and by whom they are read now."""

cdr_difference = sa.Table(
    "cdr_difference",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("server", sa.Text, nullable=False),
    sa.Column("uniqueid", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("row", sa.BigInteger),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("context", sa.Text, nullable=False),
    sa.Column("from_number", sa.Text, nullable=False),
    sa.Column("to_number", sa.Text, nullable=False),
    sa.Column("cdr_ms", sa.BigInteger),
    sa.Column("ledger_ms", sa.BigInteger),
    sa.Column("reference", sa.Text),
    sa.Column("cost", sa.BigInteger),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("refusal", sa.Text, nullable=False, server_default=""),
    sa.Column("found_at", Instant, nullable=False),
    sa.Column("settled_at", Instant),
    sa.CheckConstraint("kind in ('missing', 'open', 'duration', 'no_cdr')", name="kind"),
    sa.CheckConstraint("state in ('found', 'settled', 'refused')", name="state"),
    sa.CheckConstraint("(state = 'settled') = (settled_at is not null)", name="settled"),
    sa.UniqueConstraint("server", "uniqueid", "kind", "started_at"),
)
"""A difference between a record of Asterisk's and the ledger, found once; ``reference`` is the call, if there is one.

``source`` and ``row`` are where the record stands. ``refusal`` says why it could not be settled.
"""

server = sa.Table(
    "server",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("seen_at", Instant, nullable=False),
)

node = sa.Table(
    "node",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("terms", sa.Text, nullable=False),
    sa.Column("seen_at", Instant, nullable=False),
)
"""A biller of this ledger: when it last reported, and digests of the settings that it charges by."""

session = sa.Table(
    "session",
    metadata,
    sa.Column("secret_hash", sa.Text, primary_key=True),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False, index=True),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False, index=True),
    sa.Column("awaits_code", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("password_at", Instant),
)
"""A browser that is logged in. Only a hash of its cookie is kept; without this row the cookie is invalid.

``awaits_code``: its password was right, and the second factor is still to come; until then it opens nothing.
``password_at``: when its person last gave their password; null: never in this session.
"""

second_factor = sa.Table(
    "second_factor",
    metadata,
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), primary_key=True, autoincrement=False),
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    sa.Column("set_at", Instant, nullable=False),
)
"""The secret of somebody's authenticator (RFC 6238), in base 32.

``last_step``: the step of 30 seconds whose code was used last; no older one is right.
"""

recovery_code = sa.Table(
    "recovery_code",
    metadata,
    sa.Column("code_hash", sa.Text, primary_key=True),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False, index=True),
    sa.Column("used_at", Instant),
)
"""Codes for who has lost the authenticator, each good once, as their SHA-256."""

login_code = sa.Table(
    "login_code",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False, index=True),
    sa.Column("code_hash", sa.Text, nullable=False),
    sa.Column("sent_at", Instant, nullable=False, index=True),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
)
"""Codes of the last hour that were sent to phones and log their subscribers in, each once; the last of each counts."""

token = sa.Table(
    "token",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("secret_hash", sa.Text, nullable=False, unique=True),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False, index=True),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("revoked_at", Instant),
)
"""A program's key to the API: it may at most what its owner may, narrowed by ``scopes`` (separated by spaces)."""

login_attempt = sa.Table(
    "login_attempt",
    metadata,
    sa.Column("who", sa.Text, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("last_at", Instant, nullable=False, index=True),
)
"""Consecutive failed logins, and the addresses from which logins succeeded; `login_throttle` makes the keys."""

trail = sa.Table(
    "trail",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("before", sa.Text),
    sa.Column("after", sa.Text),
    sa.Index(None, "subject", "id"),
    sa.Index(None, "actor", "id"),
)
"""What operators changed: who, from where, and the values before and after (JSON, without secrets)."""

schedule = sa.Table(
    "schedule",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("value", sa.BigInteger, nullable=False),
    sa.Column("recurrence", sa.Text, nullable=False),
    sa.Column("day", sa.SmallInteger),
    sa.Column("interval_days", sa.Integer),
    sa.Column("first_on", sa.Date, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("time_zone", sa.Text, nullable=False),
    sa.Column("catch_up", sa.Text, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("done_until", sa.Date, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("deleted_at", Instant),
    sa.Column("offer_id", BigId, sa.ForeignKey("offer.id")),
    sa.Column("when_short", sa.Text),
    sa.Column("joining", sa.Text),
    sa.Column("remind_days", sa.Text),
    sa.Column("suspend_days", sa.Integer),
    sa.CheckConstraint("kind in (1, 2, 3, 4)", name="kind"),
    sa.CheckConstraint("value >= 0", name="value"),
    sa.CheckConstraint("count >= 0", name="count"),
    sa.CheckConstraint("recurrence in ('monthly', 'weekly', 'days', 'once')", name="recurrence"),
    sa.CheckConstraint(
        "(recurrence = 'monthly' and day between 1 and 31) or (recurrence = 'weekly' and day between 1 and 7)"
        " or (recurrence in ('days', 'once') and day is null)",
        name="day",
    ),
    sa.CheckConstraint("(recurrence = 'days') = (interval_days is not null)", name="interval_days"),
    sa.CheckConstraint("interval_days >= 1", name="interval_days_least"),
    sa.CheckConstraint("catch_up in ('all', 'last', 'none')", name="catch_up"),
    _living("ix_schedule_name", "name"),
)
"""A group's credit: ``value`` of a ``kind`` (1 voice, 2 data, 3 both, 4 sms) on each due date from ``first_on`` on.

``day`` is of the month (its last day, where the month is shorter) or of the week (1 is Monday). ``count`` is how
many runs a new member gets. All due dates up to ``done_until`` have a row in ``schedule_run``. With an ``offer_id`` it
gives bundles of that offer, for nothing, and ``kind`` and ``value`` are not used.

With ``when_short`` it takes ``value`` voice credits, a fee, and then the offer is what the fee buys. ``joining`` is the
rule for who joins between two due dates, ``remind_days`` are the days before a due date on which its members are
reminded (separated by spaces), ``suspend_days`` after how many unpaid days a member is switched off (null: never).
"""

membership = sa.Table(
    "membership",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("schedule_id", BigId, sa.ForeignKey("schedule.id"), nullable=False),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("joined_on", sa.Date, nullable=False),
    sa.Column("ended_at", Instant),
    sa.CheckConstraint("count >= 0", name="count"),
    _where("uq_membership_living", "subscriber_id", "schedule_id", condition="ended_at is null", unique=True),
    _where("ix_membership_living", "schedule_id", "id", condition="ended_at is null"),
    sa.Index(None, "subscriber_id", "id"),
)
"""A subscriber in a schedule, with the number of runs left; credited on due dates from ``joined_on`` on."""

contract = sa.Table(
    "contract",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("membership_id", BigId, sa.ForeignKey("membership.id"), nullable=False, index=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("months", sa.Integer, nullable=False),
)
"""A renewal of a membership: how many months were bought, and when."""

schedule_run = sa.Table(
    "schedule_run",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("schedule_id", BigId, sa.ForeignKey("schedule.id"), nullable=False),
    sa.Column("due_on", sa.Date, nullable=False),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("value", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("opened_at", Instant, nullable=False),
    sa.Column("closed_at", Instant),
    sa.Column("last_membership_id", BigId, nullable=False, server_default="0"),
    sa.Column("credited", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("passed", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("failed", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Column("offer_id", BigId, sa.ForeignKey("offer.id")),
    sa.Column("when_short", sa.Text),
    sa.Column("undone_at", Instant),
    sa.UniqueConstraint("schedule_id", "due_on"),
    sa.CheckConstraint("kind in (1, 2, 3, 4)", name="kind"),
    sa.CheckConstraint("state in ('open', 'done', 'skipped')", name="state"),
    sa.CheckConstraint("(state = 'open') = (closed_at is null)", name="closed"),
    _where("ix_schedule_run_open", "due_on", "id", condition="state = 'open'"),
)
"""One due date of a schedule, decided once: credited member by member (in the order of their memberships, as far as
``last_membership_id``), or skipped as a whole, and then why. Kind and value are those of its beginning.

``when_short``: it takes a fee. ``undone_at``: since when all that it took is given back.
"""

schedule_credit = sa.Table(
    "schedule_credit",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("schedule_id", BigId, sa.ForeignKey("schedule.id"), nullable=False),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False),
    sa.Column("due_on", sa.Date, nullable=False),
    sa.Column("membership_id", BigId, sa.ForeignKey("membership.id"), nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("voice_reference", sa.Text),
    sa.Column("data_reference", sa.Text),
    sa.Column("sms_reference", sa.Text),
    sa.Column("at", Instant, nullable=False),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Column("bundle_reference", sa.Text),
    sa.UniqueConstraint("schedule_id", "due_on", "subscriber_id"),
    sa.CheckConstraint("outcome in ('credited', 'passed', 'failed')", name="outcome"),
    sa.CheckConstraint("outcome = 'credited' or (voice_reference is null and data_reference is null)", name="nothing"),
    sa.CheckConstraint("outcome = 'credited' or sms_reference is null", name="no_sms"),
    sa.Index(None, "subscriber_id", "id"),
    _where("ix_schedule_credit_odd", "schedule_id", "due_on", "id", condition="outcome <> 'credited'"),
)
"""What one due date gave one member, once: credited, passed over (disabled), or failed and why."""

fee_period = sa.Table(
    "fee_period",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("schedule_id", BigId, sa.ForeignKey("schedule.id"), nullable=False),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False),
    sa.Column("due_on", sa.Date, nullable=False),
    sa.Column("membership_id", BigId, sa.ForeignKey("membership.id"), nullable=False),
    sa.Column("outcome", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("paid", sa.BigInteger, nullable=False),
    sa.Column("parts", sa.Integer, nullable=False),
    sa.Column("when_short", sa.Text, nullable=False),
    sa.Column("offer_id", BigId, sa.ForeignKey("offer.id")),
    sa.Column("due_at", Instant, nullable=False),
    sa.Column("ends_at", Instant),
    sa.Column("suspend_at", Instant),
    sa.Column("suspended_at", Instant),
    sa.Column("seen_transfer_id", BigId, nullable=False),
    sa.Column("bundle_reference", sa.Text),
    sa.Column("closed_at", Instant),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.UniqueConstraint("schedule_id", "due_on", "subscriber_id"),
    sa.CheckConstraint("outcome in ('credited', 'passed', 'failed')", name="outcome"),
    sa.CheckConstraint("state in ('owed', 'paid', 'waived', 'passed', 'cancelled', 'undone')", name="state"),
    sa.CheckConstraint("(state = 'owed') = (closed_at is null)", name="closed"),
    sa.CheckConstraint("amount >= 0 and paid >= 0 and paid <= amount and parts >= 0", name="amounts"),
    sa.CheckConstraint("state <> 'paid' or paid = amount", name="paid"),
    sa.CheckConstraint("state <> 'owed' or paid < amount", name="owed"),
    sa.CheckConstraint("when_short in ('retry', 'part', 'wait')", name="when_short"),
    _where("ix_fee_period_owed", "subscriber_id", "due_at", condition="state = 'owed'"),
    sa.Index(None, "subscriber_id", "id"),
)
"""A fee of one subscriber for the period that begins on one due date, once: ``paid`` of its ``amount`` in ``parts``.

``outcome`` is what its run found: credited (paid at once), failed (the balance was too low), passed (disabled); null:
the subscriber joined after the due date. From ``due_at`` on it is taken, at ``ends_at`` ends what it buys. It suspends
the subscriber at ``suspend_at``, and has done so since ``suspended_at``. Transfers up to ``seen_transfer_id`` came
before it was last tried.
"""

fee_reminder = sa.Table(
    "fee_reminder",
    metadata,
    sa.Column("schedule_id", BigId, sa.ForeignKey("schedule.id"), primary_key=True),
    sa.Column("due_on", sa.Date, primary_key=True),
    sa.Column("days", sa.Integer, primary_key=True),
    sa.Column("last_membership_id", BigId, nullable=False),
    sa.Column("done", sa.Boolean, nullable=False),
)
"""How far the members of a schedule were reminded of a due date, so many days before it."""

network = sa.Table(
    "network",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("added_at", Instant, nullable=False),
    sa.Column("answered_at", Instant),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_try_at", Instant),
    sa.Column("last_error", sa.Text, nullable=False),
    sa.Column("done_total", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("failed_total", sa.BigInteger, nullable=False, server_default="0"),
)
"""A radio network that the biller keeps up to date. ``failures``: how often in a row it did not answer."""

network_entry = sa.Table(
    "network_entry",
    metadata,
    sa.Column("network", sa.Text, sa.ForeignKey("network.name"), primary_key=True),
    sa.Column("imsi", sa.Text, primary_key=True),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), index=True),
    sa.Column("msisdn", sa.Text, nullable=False),
    sa.Column("wanted", sa.Boolean, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("queued_at", Instant, nullable=False),
    sa.Column("done_at", Instant),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_try_at", Instant),
    sa.Column("last_error", sa.Text, nullable=False),
    sa.Column("claimed_by", sa.Text),
    sa.Column("claimed_until", Instant),
    sa.CheckConstraint("wanted = (msisdn <> '')", name="msisdn"),
    sa.CheckConstraint("not wanted or subscriber_id is not null", name="subscriber"),
    _where("ix_network_entry_waiting", "network", "queued_at", condition="done_at is null"),
    sa.Index(None, "imsi"),
)
"""What a network should know of an IMSI: this number, or nothing. It waits until ``done_at`` is set.

``version`` grows with each change of what is wanted. A worker claims the row for a limited time.
"""

message = sa.Table(
    "message",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("reference", sa.Text, nullable=False, unique=True),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id")),
    sa.Column("account_id", BigId, sa.ForeignKey("account.id")),
    sa.Column("from_number", sa.Text, nullable=False),
    sa.Column("to_number", sa.Text, nullable=False),
    sa.Column("callee_id", BigId, sa.ForeignKey("subscriber.id")),
    sa.Column("route", sa.Text, nullable=False),
    sa.Column("text", sa.Text),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("encoding", sa.Text, nullable=False),
    sa.Column("parts", sa.Integer, nullable=False),
    sa.Column("price", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("queued_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_try_at", Instant),
    sa.Column("claimed_by", sa.Text),
    sa.Column("claimed_until", Instant),
    sa.Column("tariff_version_id", BigId, sa.ForeignKey("tariff_version.id")),
    sa.Column("charge", sa.BigInteger),
    sa.Column("bundles", sa.Text),
    sa.Column("broadcast_id", BigId, sa.ForeignKey("broadcast.id")),
    sa.CheckConstraint("origin in ('phone', 'api', 'notice')", name="origin"),
    sa.CheckConstraint("route in ('asterisk', 'smpp')", name="route"),
    sa.CheckConstraint("encoding in ('gsm7', 'ucs2')", name="encoding"),
    sa.CheckConstraint("parts >= 1", name="parts"),
    sa.CheckConstraint("price >= 0", name="price"),
    sa.CheckConstraint("(subscriber_id is null) = (account_id is null)", name="payer"),
    sa.CheckConstraint(
        "state in ('queued', 'sending', 'accepted', 'delivered', 'failed', 'refused', 'expired')", name="state"
    ),
    sa.CheckConstraint("(state in ('queued', 'sending')) = (ended_at is null)", name="ended"),
    sa.CheckConstraint("(state = 'queued') = (text is not null)", name="text"),
    _where("ix_message_queued", "route", "queued_at", "id", condition="state = 'queued'"),
    _where("ix_message_open", "expires_at", condition="ended_at is null"),
    _where("ix_message_broadcast", "broadcast_id", "state", "queued_at", "id", condition="broadcast_id is not null"),
    sa.Index(None, "queued_at", "id"),
    sa.Index(None, "subscriber_id", "queued_at", "id"),
)
"""A text message (`Message`) and, while it is queued, how many attempts failed and who has claimed it.

``bundles`` is a JSON list of ``[account, amount]``.
"""

message_part = sa.Table(
    "message_part",
    metadata,
    sa.Column("reference", sa.Text, sa.ForeignKey("message.reference"), primary_key=True),
    sa.Column("part", sa.Integer, primary_key=True),
    sa.Column("network_id", sa.Text, nullable=False, index=True),
    sa.Column("accepted_at", Instant, nullable=False),
    sa.Column("delivered_at", Instant),
)
"""A part that an SMSC accepted, with its id there: a retry of the message does not send this part again."""

broadcast = sa.Table(
    "broadcast",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("reference", sa.Text, nullable=False, unique=True),
    sa.Column("group_id", BigId, sa.ForeignKey("subscriber_group.id"), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("parts", sa.Integer, nullable=False),
    sa.Column("recipients", sa.BigInteger, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("made_at", Instant, nullable=False),
    sa.Column("last_subscriber_id", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("queued", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("left_out", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("cancelled_at", Instant),
    sa.Column("completed_at", Instant),
    sa.CheckConstraint("parts >= 1", name="parts"),
    _where("ix_broadcast_open", "id", condition="completed_at is null"),
)
"""A text message to all members of a group. Those up to ``last_subscriber_id`` were looked at.

Of them ``queued`` got a message and ``left_out`` none; ``recipients`` were to get one when it was made.
"""

inbound_part = sa.Table(
    "inbound_part",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("group_key", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("from_number", sa.Text, nullable=False),
    sa.Column("to_number", sa.Text, nullable=False),
    sa.Column("data_coding", sa.Integer, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("arrived_at", Instant, nullable=False),
    sa.Column("joined_as", sa.Text),
    sa.CheckConstraint("number between 1 and total", name="number"),
    sa.Index(None, "group_key", "id"),
    sa.Index(None, "arrived_at"),
)
"""A part of a long message that an SMSC delivered (its octets in hexadecimal), until an hour after it was joined.

``joined_as``: the message that it became a part of, or why there is none.
"""

credit_transfer = sa.Table(
    "credit_transfer",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("reference", sa.Text, nullable=False, unique=True),
    sa.Column("payer_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False),
    sa.Column("recipient_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("fee", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("code_hash", sa.Text),
    sa.Column("codes", sa.Integer, nullable=False, server_default="0"),
    sa.Column("coded_at", Instant),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("asked_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("made_on", sa.Date),
    sa.Column("day_limit", sa.BigInteger),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.CheckConstraint("amount > 0 and fee >= 0", name="amounts"),
    sa.CheckConstraint("state in ('asked', 'made', 'cancelled')", name="state"),
    sa.CheckConstraint("(state = 'asked') = (ended_at is null)", name="ended"),
    sa.CheckConstraint("(state = 'made') = (made_on is not null)", name="made"),
    sa.CheckConstraint("payer_id <> recipient_id", name="sides"),
    _where("ix_credit_transfer_asked", "expires_at", condition="state = 'asked'"),
    sa.Index(None, "payer_id", "id"),
    sa.Index(None, "payer_id", "made_on"),
    sa.Index(None, "recipient_id", "id"),
)
"""A transfer between subscribers (`CreditTransfer`): what was asked for, and what became of it.

``code_hash`` is of the last of the ``codes`` that were sent; null: it waits for the payer's PIN. ``tries`` counts wrong
ones.
"""

phone_command = sa.Table(
    "phone_command",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False),
    sa.Column("way", sa.Text, nullable=False),
    sa.Column("command", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("result", sa.Text, nullable=False),
    sa.Column("words", sa.Text),
    sa.Column("number", sa.Text),
    sa.Column("amount", sa.BigInteger),
    sa.Column("answer", sa.Text),
    sa.Column("answers", sa.Integer, nullable=False, server_default="0"),
    sa.Column("code", sa.Text),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("expires_at", Instant),
    sa.Column("answered_at", Instant),
    sa.CheckConstraint("way in ('asterisk', 'smpp', 'keypad')", name="way"),
    sa.Index(None, "subscriber_id", "at"),
    sa.Index(None, "at"),
)
"""A command from a phone, by the ``key`` of its message: a repeat of the message does nothing again.

``result`` is ``done``, ``asked`` (``code`` does it after all, until ``expires_at``) or the code of a refusal. ``words``
is a digest of what was asked for, without any PIN; there is none where nothing was done.
"""

notice = sa.Table(
    "notice",
    metadata,
    sa.Column("transfer_id", BigId, sa.ForeignKey("transfer.id"), primary_key=True, autoincrement=False),
    _account_id("account_id"),
    sa.Column("threshold", sa.BigInteger, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("reference", sa.Text, sa.ForeignKey("message.reference")),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.CheckConstraint("(reference is null) = (note <> '')", name="note"),
    sa.Index(None, "account_id", "transfer_id"),
)
"""A movement that took a balance to a threshold, and the notice sent of it, or why there is none."""

bookmark = sa.Table(
    "bookmark",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("transfer_id", BigId, nullable=False),
)
"""The last transfer that a reader of all transfers has processed."""

day_sum = sa.Table(
    "day_sum",
    metadata,
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("movement", sa.Text, primary_key=True),
    sa.Column("account_kind", sa.Text, primary_key=True),
    sa.Column("direction", sa.Text, primary_key=True),
    sa.Column("transfers", sa.BigInteger, nullable=False),
    sa.Column("credits", sa.BigInteger, nullable=False),
    sa.CheckConstraint("direction in ('in', 'out', 'between')", name="direction"),
    sa.CheckConstraint("transfers > 0 and credits > 0", name="amounts"),
)
"""The transfers of a day in the operator's time zone, up to the bookmark of the sums: their number and their credits.

``movement`` is their origin, or ``operator``. Between a seller and a subscriber, ``account_kind`` is the subscriber's.
"""

data_session = sa.Table(
    "data_session",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("reference", sa.Text, nullable=False, unique=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("nas", sa.Text, nullable=False),
    sa.Column("session_id", sa.Text, nullable=False),
    sa.Column("username", sa.Text, nullable=False),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False),
    _account_id("account_id"),
    sa.Column("octets_per_credit", sa.BigInteger, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("heard_at", Instant, nullable=False),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("nas_address", sa.Text, nullable=False),
    sa.Column("framed_address", sa.Text, nullable=False),
    sa.Column("station", sa.Text, nullable=False),
    sa.Column("octets_in", sa.BigInteger, nullable=False),
    sa.Column("octets_out", sa.BigInteger, nullable=False),
    sa.Column("octets", sa.BigInteger, nullable=False),
    sa.Column("charged", sa.BigInteger, nullable=False),
    sa.Column("holds", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("dated_at", Instant),
    sa.Column("ended_at", Instant),
    sa.Column("closed_by", sa.Text),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("disconnect", sa.Text, nullable=False),
    sa.Column("disconnect_at", Instant),
    sa.Column("disconnect_tries", sa.Integer, nullable=False),
    sa.Column("disconnect_said", sa.Text, nullable=False),
    sa.Column("began_at", Instant),
    sa.Column("reported_at", Instant),
    sa.Column("session_seconds", sa.BigInteger),
    sa.Column("rate_detail", sa.Text),
    sa.Column("tariff_version_id", BigId, sa.ForeignKey("tariff_version.id")),
    sa.Column("shares", sa.Text),
    sa.Column("pieces", sa.Text),
    sa.Column("packets_in", sa.BigInteger),
    sa.Column("packets_out", sa.BigInteger),
    sa.UniqueConstraint("key", "generation"),
    sa.CheckConstraint("state in ('open', 'closed')", name="state"),
    sa.CheckConstraint("(state = 'open') = (ended_at is null)", name="ended"),
    sa.CheckConstraint("(state = 'open') = (closed_by is null)", name="closed_by"),
    sa.CheckConstraint("octets_per_credit > 0", name="octets_per_credit"),
    sa.CheckConstraint("octets >= 0 and charged >= 0 and holds >= 1", name="counts"),
    _where("ix_data_session_open", "started_at", "id", condition="state = 'open'"),
    _where("ix_data_session_silent", "heard_at", condition="state = 'open'"),
    _where("ix_data_session_disconnect", "disconnect_at", condition="disconnect_at is not null"),
    sa.Index(None, "started_at", "id"),
    sa.Index(None, "subscriber_id", "started_at", "id"),
    sa.Index(None, "nas", "started_at", "id"),
)
"""A data session as a NAS reported it: ``charged`` credits, for the highest total of ``octets`` that it reported.

``key`` is of the NAS and its session id (in older rows, of the user name too); ``generation`` counts the sessions of
one key. The last of its ``holds`` is open while it is. ``disconnect`` says why the NAS must end it, ``disconnect_at``
when to ask. The newest report was made at ``reported_at`` by our clock and at ``dated_at`` by the NAS's, when the
session was ``session_seconds`` old; ``began_at`` is its beginning by the NAS's clock. ``packets_in`` and
``packets_out`` are the counters of packets that it had then, where the NAS sends them.
"""

imported = sa.Table(
    "imported",
    metadata,
    sa.Column("reference", sa.Text, primary_key=True),
    sa.Column("row_id", BigId, nullable=False),
)
"""Imported rows of an original database, and what they became, so that each is imported once."""

tariff = sa.Table(
    "tariff",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("currency", sa.Text, nullable=False, server_default=""),
    sa.Column("credits_per_unit", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("time_zone", sa.Text, nullable=False),
    sa.Column("is_default", sa.Boolean, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("deleted_at", Instant),
    sa.CheckConstraint("credits_per_unit >= 1", name="credits_per_unit"),
    _living("uq_tariff_name", "name", unique=True),
    _where("uq_tariff_default", "is_default", condition="is_default and deleted_at is null", unique=True),
)
"""A price list. ``credits_per_unit``: the credits of one unit of ``currency``, for whoever shows money."""

tariff_version = sa.Table(
    "tariff_version",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("tariff_id", BigId, sa.ForeignKey("tariff.id"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("effective_at", Instant),
    sa.Column("holidays", sa.Text, nullable=False, server_default=""),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.UniqueConstraint("tariff_id", "number"),
)
"""A state of a tariff, in force from ``effective_at`` until the next one; null: it is being written, or was withdrawn.

``holidays`` are dates (ISO 8601), separated by spaces.
"""

rate = sa.Table(
    "rate",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("tariff_id", BigId, sa.ForeignKey("tariff.id"), nullable=False),
    sa.Column("since_version", sa.Integer, nullable=False),
    sa.Column("until_version", sa.Integer),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("prefix", sa.Text, nullable=False),
    sa.Column("on_net", sa.Boolean, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("window", sa.Text, nullable=False, server_default=""),
    sa.Column("valid_from", Instant),
    sa.Column("valid_until", Instant),
    sa.Column("connect_fee", sa.BigInteger, nullable=False),
    sa.Column("minimum_charge", sa.BigInteger, nullable=False),
    sa.Column("grace", sa.BigInteger, nullable=False),
    sa.Column("steps", sa.Text, nullable=False),
    sa.CheckConstraint("service in ('voice', 'sms', 'data')", name="service"),
    sa.CheckConstraint("connect_fee >= 0 and minimum_charge >= 0 and grace >= 0", name="amounts"),
    sa.CheckConstraint("not on_net or prefix = ''", name="on_net"),
    sa.CheckConstraint("until_version > since_version", name="versions"),
    sa.Index(None, "tariff_id", "service", "prefix", "id"),
    sa.Index(None, "tariff_id", "since_version"),
    _where("ix_rate_until_version", "tariff_id", "until_version", condition="until_version is not null"),
)
"""The prices of a destination at some times, in the versions from ``since_version`` to before ``until_version``.

``window`` is a time of the week (empty: all others), ``steps`` a JSON list of ``[start, increment, price, per]``.
"""

catalogue_change = sa.Table(
    "catalogue_change",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.CheckConstraint("id = 1", name="one"),
)
"""One row: the number of changes of tariffs, groups, trunks, routes and offers; a biller that knows less reads them."""

subscriber_group = sa.Table(
    "subscriber_group",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("tariff_id", BigId, sa.ForeignKey("tariff.id")),
    sa.Column("calls_max", sa.Integer),
    sa.Column("subscriber_calls_max", sa.Integer),
    sa.Column("barred", sa.Text, nullable=False, server_default=""),
    sa.Column("allowed", sa.Text, nullable=False, server_default=""),
    sa.Column("call_seconds_max", sa.Integer),
    sa.Column("call_cost_max", sa.BigInteger),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("deleted_at", Instant),
    sa.CheckConstraint("calls_max >= 0 and subscriber_calls_max >= 0", name="calls_max"),
    _living("uq_subscriber_group_name", "name", unique=True),
)
"""Subscribers with a tariff and limits in common: ``calls_max`` at once for all, ``subscriber_calls_max`` for each."""

trunk = sa.Table(
    "trunk",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("dial", sa.Text, nullable=False),
    sa.Column("strip", sa.Text, nullable=False, server_default=""),
    sa.Column("prepend", sa.Text, nullable=False, server_default=""),
    sa.Column("caller_id", sa.Text, nullable=False, server_default=""),
    sa.Column("tariff_id", BigId, sa.ForeignKey("tariff.id")),
    sa.Column("calls_max", sa.Integer),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("deleted_at", Instant),
    sa.CheckConstraint("calls_max >= 0", name="calls_max"),
    _living("uq_trunk_name", "name", unique=True),
)
"""A way out. ``tariff_id`` is the provider's price list; ``strip`` and ``prepend`` rewrite the dialled number."""

route = sa.Table(
    "route",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("prefix", sa.Text, nullable=False),
    sa.Column("choose", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("deleted_at", Instant),
    sa.CheckConstraint("choose in ('order', 'weight', 'cost')", name="choose"),
    _living("uq_route_prefix", "prefix", unique=True),
)
"""The trunks for numbers that begin with a prefix, tried in order, by weight or the cheapest first."""

route_trunk = sa.Table(
    "route_trunk",
    metadata,
    sa.Column("route_id", BigId, sa.ForeignKey("route.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("trunk_id", BigId, sa.ForeignKey("trunk.id"), nullable=False),
    sa.Column("weight", sa.Integer, nullable=False, server_default="1"),
    sa.CheckConstraint("weight >= 1", name="weight"),
)

offer = sa.Table(
    "offer",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("price", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("services", sa.Text, nullable=False, server_default=""),
    sa.Column("destinations", sa.Text, nullable=False, server_default=""),
    sa.Column("valid_hours", sa.Integer, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
    sa.Column("renews", sa.Boolean, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("deleted_at", Instant),
    sa.Column("call_seconds_max", sa.Integer),
    sa.CheckConstraint("kind in ('seconds', 'messages', 'octets', 'money')", name="kind"),
    sa.CheckConstraint("price >= 0 and amount > 0 and valid_hours > 0", name="amounts"),
    _living("uq_offer_name", "name", unique=True),
)
"""A bundle of ``amount`` for ``valid_hours`` that can be bought; one that ``renews`` is bought again at its end.

A bundle of seconds pays at most ``call_seconds_max`` seconds of one call.
"""

bundle = sa.Table(
    "bundle",
    metadata,
    sa.Column("account_id", BigId, sa.ForeignKey("account.id"), primary_key=True, autoincrement=False),
    sa.Column("reference", sa.Text, nullable=False, unique=True),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False),
    sa.Column("offer_id", BigId, sa.ForeignKey("offer.id")),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("services", sa.Text, nullable=False, server_default=""),
    sa.Column("destinations", sa.Text, nullable=False, server_default=""),
    sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
    sa.Column("valid_from", Instant, nullable=False),
    sa.Column("valid_until", Instant, nullable=False),
    sa.Column("renews", sa.Boolean, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("call_seconds_max", sa.Integer),
    sa.CheckConstraint("valid_until > valid_from", name="validity"),
    _where("ix_bundle_living", "subscriber_id", "valid_until", condition="ended_at is null"),
    _where("ix_bundle_due", "valid_until", condition="ended_at is null"),
    sa.Index(None, "subscriber_id", "account_id"),
)
"""A pot of its own account, for some destinations and a time. ``destinations``: prefixes and ``on-net``, by spaces.

Spent by priority (the lowest first), then the one that ends soonest. At its end what is left goes back to the operator.
"""

rerating = sa.Table(
    "rerating",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("call_reference", sa.Text, sa.ForeignKey("call.reference"), nullable=False),
    sa.Column("version_id", BigId, sa.ForeignKey("tariff_version.id"), nullable=False),
    sa.Column("price", sa.BigInteger, nullable=False),
    sa.Column("difference", sa.BigInteger, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.UniqueConstraint("call_reference", "version_id"),
    sa.CheckConstraint("price >= 0 and difference <> 0", name="amounts"),
)
"""A call that was charged again by another version: its new price, and the difference that one transfer moved."""

credit_validity_terms = sa.Table(
    "credit_validity_terms",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("days", sa.Integer, nullable=False),
    sa.Column("since", Instant, nullable=False),
    sa.Column("looked_at", Instant, nullable=False),
    sa.Column("paused_until", Instant),
    sa.Column("opened_until", BigId, nullable=False, server_default="0"),
    sa.CheckConstraint("days >= 1", name="days"),
)
"""Credit of a kind ends ``days`` after the last top-up, and ``days`` after ``since`` at the earliest.

``opened_until``: the accounts up to this one have rows in ``credit_validity``, where they have credit. Nothing ends
before ``paused_until``. ``looked_at`` is when a biller last looked, to the hour.
"""

credit_validity = sa.Table(
    "credit_validity",
    metadata,
    sa.Column("account_id", BigId, sa.ForeignKey("account.id"), primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("topped_up_at", Instant, nullable=False),
    sa.Column("counted_before", Instant),
    sa.Column("valid_until", sa.Date),
    sa.Column("warned_at", Instant),
    sa.Column("ended_at", Instant),
    _where("ix_credit_validity_due", "kind", "topped_up_at", condition="ended_at is null"),
    _where("ix_credit_validity_warn", "kind", "topped_up_at", condition="ended_at is null and warned_at is null"),
)
"""The last top-up of an account, or when its credit was first seen. ``valid_until``: it ends after this day at least.

``ended_at``: when nothing was left of it; null again after another movement to the account. ``counted_before``: from
when it counts if the top-ups of the last day are undone.
"""

credit_expiry = sa.Table(
    "credit_expiry",
    metadata,
    sa.Column("reference", sa.Text, sa.ForeignKey("transfer.reference"), primary_key=True),
    _account_id("account_id", index=True),
    sa.Column("topped_up_at", Instant, nullable=False),
    sa.Column("days", sa.Integer, nullable=False),
    sa.Column("top_ups", sa.Text, nullable=False),
    sa.Column("valid_until", sa.Date, nullable=False),
    sa.Column("ended_at", Instant, nullable=False),
    sa.CheckConstraint("days >= 1", name="days"),
)
"""Why a transfer took credit whose time was over: it was valid through the day ``valid_until``, which was over at
``ended_at``, ``days`` after ``topped_up_at`` at the earliest. ``top_ups``: what counted as one, by spaces.
"""

voucher_batch = sa.Table(
    "voucher_batch",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("cards", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("value", sa.BigInteger, nullable=False),
    sa.Column("credit_days", sa.Integer),
    sa.Column("offer_id", BigId, sa.ForeignKey("offer.id")),
    sa.Column("bundle_name", sa.Text, nullable=False, server_default=""),
    sa.Column("services", sa.Text, nullable=False, server_default=""),
    sa.Column("destinations", sa.Text, nullable=False, server_default=""),
    sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
    sa.Column("call_seconds_max", sa.Integer),
    sa.Column("valid_hours", sa.Integer),
    sa.Column("valid_until", Instant),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("made_at", Instant, nullable=False),
    sa.Column("completed_at", Instant),
    sa.CheckConstraint("kind in ('voice', 'data', 'sms', 'seconds', 'messages', 'octets', 'money')", name="kind"),
    sa.CheckConstraint("cards > 0 and value > 0", name="amounts"),
    sa.CheckConstraint(
        "(kind in ('voice', 'data', 'sms')) = (offer_id is null) and (offer_id is null) = (valid_hours is null)",
        name="offer",
    ),
    sa.CheckConstraint("credit_days is null or (credit_days > 0 and offer_id is null)", name="credit_days"),
    _where("uq_voucher_batch_name", "name", condition="completed_at is not null", unique=True),
    _where("uq_voucher_batch_reference", "reference", condition="completed_at is not null", unique=True),
)
"""Cards that were made together: what each gives, and until when it can be redeemed (null: for ever).

It gives ``value`` credits of ``kind``, valid for ``credit_days``, or a bundle as its offer was when it was made. Until
``completed_at`` it is being made, and no card of it is of any use.
"""

voucher = sa.Table(
    "voucher",
    metadata,
    sa.Column("batch_id", BigId, sa.ForeignKey("voucher_batch.id"), primary_key=True, autoincrement=False),
    sa.Column("serial", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("code_hash", sa.Text, nullable=False, unique=True),
)
"""A card: its place in its batch from 1 on, and the SHA-256 of its code. No row of it ever changes."""

voucher_range = sa.Table(
    "voucher_range",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("batch_id", BigId, sa.ForeignKey("voucher_batch.id"), nullable=False),
    sa.Column("first_serial", sa.Integer, nullable=False),
    sa.Column("last_serial", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("seller_id", BigId, sa.ForeignKey("subscriber.id"), index=True),
    sa.Column("price", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Index(None, "batch_id", "first_serial"),
    sa.CheckConstraint("state in ('active', 'revoked')", name="state"),
    sa.CheckConstraint("first_serial >= 1 and last_serial >= first_serial", name="serials"),
    sa.CheckConstraint("price >= 0 and (price = 0 or seller_id is not null)", name="price"),
)
"""Cards that were activated together, maybe for a seller, who maybe paid a price for them; or revoked together.

A card is active when an active range has it and no revoked one; it can be active in one range only.
"""

voucher_redemption = sa.Table(
    "voucher_redemption",
    metadata,
    sa.Column("batch_id", BigId, primary_key=True, autoincrement=False),
    sa.Column("serial", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.ForeignKeyConstraint(["batch_id", "serial"], ["voucher.batch_id", "voucher.serial"]),
    sa.Index(None, "subscriber_id", "at"),
)
"""Who redeemed a card, and when: its key is the card, so that no two nodes can redeem it twice.

The transfer that it made, or that filled its bundle, has the reference ``voucher:{batch_id}:{serial}``.
"""


seller = sa.Table(
    "seller",
    metadata,
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), primary_key=True, autoincrement=False),
    sa.Column("account_id", BigId, sa.ForeignKey("account.id"), nullable=False, unique=True),
    sa.Column("parent_id", BigId, sa.ForeignKey("seller.subscriber_id"), index=True),
    sa.Column("seller_class", sa.Text, nullable=False, server_default=""),
    sa.Column("commission", sa.Text, nullable=False),
    sa.Column("commission_rate", sa.Integer, nullable=False),
    sa.Column("sale_max", sa.BigInteger),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.CheckConstraint("commission in ('none', 'discount', 'bonus')", name="commission"),
    sa.CheckConstraint("commission_rate between 0 and 10000", name="commission_rate"),
    sa.CheckConstraint("sale_max > 0", name="sale_max"),
    sa.CheckConstraint("parent_id <> subscriber_id", name="parent"),
)
"""A subscriber who sells voice credit from the account ``account_id``, which the operator or the parent refills.

``commission_rate`` is in hundredths of a percent. Their credit line and the limit of a day are those of the account.
"""

receipt_series = sa.Table(
    "receipt_series",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("seller_id", BigId, sa.ForeignKey("seller.subscriber_id"), unique=True),
    sa.Column("last_number", sa.BigInteger, nullable=False, server_default="0"),
    sa.CheckConstraint("last_number >= 0", name="last_number"),
)
"""A row of numbers without gaps, of a seller or of an office; its row is locked by who takes the next number."""

receipt = sa.Table(
    "receipt",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("series", sa.Text, sa.ForeignKey("receipt_series.name"), nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False, unique=True),
    sa.Column("giver_id", BigId, sa.ForeignKey("seller.subscriber_id")),
    sa.Column("taker_id", BigId, sa.ForeignKey("subscriber.id"), nullable=False),
    sa.Column("to_number", sa.Text, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("commission", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("paid", sa.BigInteger),
    sa.Column("tax_rate", sa.Integer, nullable=False, server_default="0"),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("voided_at", Instant),
    sa.CheckConstraint("kind in ('sale', 'refill', 'return', 'credit')", name="kind"),
    sa.CheckConstraint("number > 0 and amount > 0 and commission >= 0 and tax_rate >= 0", name="amounts"),
    sa.UniqueConstraint("series", "number"),
    sa.Index(None, "giver_id", "id"),
    sa.Index(None, "taker_id", "id"),
    sa.Index(None, "at", "id"),
)
"""A numbered receipt of one transfer. One that was undone is void, and keeps its number.

``giver_id``: the seller who gave the credit; null: the operator. ``paid`` is what a refill cost, in credits.
"""

pin = sa.Table(
    "pin",
    metadata,
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id"), primary_key=True, autoincrement=False),
    sa.Column("pin_hash", sa.Text, nullable=False),
    sa.Column("changed_at", Instant, nullable=False),
)
"""The PIN by which a subscriber confirms a request from a phone, as its hash (Argon2id)."""
payment = sa.Table(
    "payment",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("provider_id", sa.Text, nullable=False),
    sa.Column("recipient", sa.Text, nullable=False),
    sa.Column("amount", sa.Text, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("credits", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("subscriber_id", BigId, sa.ForeignKey("subscriber.id")),
    sa.Column("account_id", BigId, sa.ForeignKey("account.id")),
    sa.Column("received_at", Instant, nullable=False),
    sa.Column("paid_at", Instant),
    sa.Column("credited_at", Instant),
    sa.Column("reversed_at", Instant),
    sa.Column("taken", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("debt", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Column("reversal_note", sa.Text, nullable=False, server_default=""),
    sa.CheckConstraint("credits > 0 and taken >= 0 and debt >= 0", name="amounts"),
    sa.CheckConstraint("state in ('credited', 'unassigned', 'reversed')", name="state"),
    sa.CheckConstraint("(state = 'reversed') = (reversed_at is not null)", name="reversed"),
    sa.CheckConstraint("(account_id is null) = (credited_at is null)", name="credited"),
    sa.CheckConstraint("state <> 'credited' or account_id is not null", name="account"),
    sa.CheckConstraint("state <> 'unassigned' or account_id is null", name="unassigned"),
    sa.UniqueConstraint("provider", "provider_id"),
    _where("ix_payment_unassigned", "id", condition="state = 'unassigned'"),
    _where("ix_payment_debt", "id", condition="debt > 0"),
    sa.Index(None, "subscriber_id", "id"),
)
"""Money that a provider reported, as it wrote the ``amount``, and the credit that it became.

``taken`` credits of a payment that was reversed were taken back; ``debt`` were spent before.
"""
