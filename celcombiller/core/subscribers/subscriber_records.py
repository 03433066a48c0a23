"""Subscribers: create, find, change and delete them, on an open transaction."""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.errors import AlreadyTaken, LastAdministrator, UnknownSubscriber
from celcombiller.core.ledger import accounts
from celcombiller.core.model.accounts import Account, Kind
from celcombiller.core.model.subscribers import Level, Subscriber, make_search_text
from celcombiller.core.provisioning import desired_state
from celcombiller.core.schema import driver, tables
from celcombiller.core.schema.live_change import record_live_change
from celcombiller.core.subscribers import group_records
from celcombiller.core.subscribers.fields import FIELD_TYPES, IDENTITIES, check, check_limit, check_prefixes
from celcombiller.core.subscribers.subscriber_filters import has_part
from celcombiller.core.tariffs import tariff_records

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

NOT_DELETED = tables.subscriber.c.deleted_at.is_(None)
"""The condition of every look-up of a subscriber by identity, and of the partial indexes that serve it."""


_may_call = attrgetter("enabled", "calls_max", "barred", "allowed", "group_id")
"""What of a subscriber decides whether their open calls may go on."""


def add(
    tx: Connection,
    *,
    username: str,
    name: str,
    clid: str,
    imsi: str,
    cpf: str | None,
    address: str,
    level: Level,
    password_hash: str | None,
    now: datetime,
) -> Subscriber:
    """Create a subscriber with an empty account of each kind.

    Raises `InvalidValue` for a malformed field, `AlreadyTaken` when another subscriber has one of the identities.
    """
    values: dict[str, Any] = {
        "username": check("username", username),
        "name": check("name", name),
        "clid": check("clid", clid),
        "imsi": check("imsi", imsi),
        "cpf": None if cpf is None else check("cpf", cpf),
        "address": check("address", address),
        "level": level,
        "enabled": True,
    }
    table = tables.subscriber
    _refuse_taken(tx, values)
    inserted = sa.insert(table).values(**values, password_hash=password_hash, created_at=now)
    subscriber_id = tx.execute(inserted.returning(table.c.id)).scalar_one()
    tx.execute(
        sa.insert(tables.account),
        [{"subscriber_id": subscriber_id, "kind": kind, "posted": 0, "held": 0} for kind in Kind],
    )
    subscriber = Subscriber(id=subscriber_id, **values)
    desired_state.sync_subscriber(tx, subscriber, now)
    return subscriber


SUBSCRIBER_COLUMNS = (
    "id",
    "username",
    "name",
    "clid",
    "imsi",
    "cpf",
    "address",
    "level",
    "enabled",
    "tariff_id",
    "group_id",
    "calls_max",
    "barred",
    "allowed",
    "suspended_at",
    "language",
)


_OF_USERNAME = driver.PreparedQuery(
    sa.select(*(tables.subscriber.c[name] for name in SUBSCRIBER_COLUMNS)).where(
        tables.subscriber.c.username == sa.bindparam("username"), NOT_DELETED
    )
)


def find(tx: Connection, username: str) -> Subscriber:
    """Return the subscriber of this username. Raise `UnknownSubscriber` if there is none."""
    for row in _OF_USERNAME.rows(tx, username=username):
        return subscriber_from_columns(*row)
    raise UnknownSubscriber(f"no subscriber is called {username}")


def find_by_id(tx: Connection, subscriber_id: int) -> Subscriber:
    """Return the subscriber of this id. Raise `UnknownSubscriber` if there is none."""
    return _find_one(tx, tables.subscriber.c.id == subscriber_id, f"no subscriber has the id {subscriber_id}")


def find_by_clid(tx: Connection, clid: str) -> Subscriber:
    """Return the subscriber of this number. Raise `UnknownSubscriber` if there is none."""
    return _find_one(tx, tables.subscriber.c.clid == clid, f"no subscriber has the number {clid}")


def find_by_imsi(tx: Connection, imsi: str) -> Subscriber:
    """Return the subscriber of this IMSI. Raise `UnknownSubscriber` if there is none."""
    return _find_one(tx, tables.subscriber.c.imsi == imsi, f"no subscriber has the IMSI {imsi}")


def usernames_of(tx: Connection, subscriber_ids: Collection[int]) -> dict[int, str]:
    """Return the usernames of these subscribers, who may have been deleted."""
    if not subscriber_ids:
        return {}
    columns = (tables.subscriber.c.id, tables.subscriber.c.username)
    rows = tx.execute(sa.select(*columns).where(tables.subscriber.c.id.in_(subscriber_ids)))
    return {row.id: row.username for row in rows}


def level_of(tx: Connection, subscriber_id: int) -> Level:
    """Return the level of a subscriber, who may have been deleted. Raise `UnknownSubscriber` if there never was one."""
    level = tx.execute(sa.select(tables.subscriber.c.level).where(tables.subscriber.c.id == subscriber_id)).scalar()
    if level is None:
        raise UnknownSubscriber(f"no subscriber has the id {subscriber_id}")
    return Level(level)


def _find_one(tx: Connection, which: sa.ColumnElement[bool], otherwise: str) -> Subscriber:
    row = tx.execute(sa.select(tables.subscriber).where(which, NOT_DELETED)).first()
    if row is None:
        raise UnknownSubscriber(otherwise)
    return subscriber_from_row(row)


@dataclasses.dataclass(frozen=True, slots=True)
class LoginRecord:
    """Who a username names, and the hash that their password is checked against."""

    subscriber_id: int
    username: str
    password_hash: str | None = dataclasses.field(repr=False)


def find_login(tx: Connection, username: str) -> LoginRecord | None:
    """Return the login of a username; ``None``: there is no subscriber of this name."""
    table = tables.subscriber
    which = (table.c.username == username, NOT_DELETED)
    row = tx.execute(sa.select(table.c.id, table.c.username, table.c.password_hash).where(*which)).first()
    return None if row is None else LoginRecord(row.id, row.username, row.password_hash)


def find_password(tx: Connection, subscriber_id: int) -> str | None:
    """Return the hash of a subscriber's password, if they have one."""
    table = tables.subscriber
    hashed: str | None = tx.execute(sa.select(table.c.password_hash).where(table.c.id == subscriber_id)).scalar()
    return hashed


def lock_login(tx: Connection, subscriber_id: int, password_hash: str) -> Subscriber | None:
    """Return the subscriber if they may log in with the password of this hash; ``None``: they may not, or not now.

    Their row stays locked, so that a change of the password waits and then finds the session to end.
    """
    table = tables.subscriber
    which = (table.c.id == subscriber_id, table.c.password_hash == password_hash, table.c.enabled, NOT_DELETED)
    row = tx.execute(sa.select(table).where(*which).with_for_update()).first()
    return None if row is None else subscriber_from_row(row)


def lock_password(tx: Connection, subscriber_id: int) -> str | None:
    """Return the hash of a subscriber's password, if they have one, and lock it until the transaction ends."""
    table = tables.subscriber
    found = tx.execute(sa.select(table.c.password_hash).where(table.c.id == subscriber_id).with_for_update())
    hashed: str | None = found.scalar_one()
    return hashed


def replace_hash(tx: Connection, subscriber_id: int, password_hash: str) -> None:
    """Store another hash of the same password."""
    table = tables.subscriber
    tx.execute(sa.update(table).where(table.c.id == subscriber_id).values(password_hash=password_hash))


_ACCOUNTS_OF_USERNAME = driver.PreparedQuery(
    accounts.ACCOUNTS.join(tables.subscriber, tables.subscriber.c.id == tables.account.c.subscriber_id).where(
        tables.subscriber.c.username == sa.bindparam("username"), NOT_DELETED
    )
)


def balances(tx: Connection, username: str) -> dict[Kind, Account]:
    """Return the accounts of the subscriber of this username, by kind. Raise `UnknownSubscriber` if there is none."""
    found = accounts.by_kind(_ACCOUNTS_OF_USERNAME.rows(tx, username=username))
    if not found:
        raise UnknownSubscriber(f"no subscriber is called {username}")
    return found


def change(tx: Connection, username: str, changes: Mapping[str, Any], now: datetime) -> Subscriber:
    """Change columns of a subscriber, ``password_hash`` and ``enabled`` included.

    Raises `UnknownSubscriber`, `InvalidValue`, `AlreadyTaken`, `UnknownTariff`, `UnknownGroup`, and `LastAdministrator`
    when none would be left.
    """
    before = find(tx, username)
    values = {
        field: check(field, value) if field in FIELD_TYPES and value is not None else value
        for field, value in changes.items()
    }
    _check_terms(tx, values)
    table = tables.subscriber
    _refuse_taken(tx, values, but=before.id)
    if values.get("level", before.level) is not Level.ADMINISTRATOR or not values.get("enabled", before.enabled):
        _refuse_last(tx, before)
    if values:
        search_text = make_search_text(dataclasses.asdict(before) | values)
        tx.execute(sa.update(table).where(table.c.id == before.id).values(values | {"search_text": search_text}))
    after = subscriber_from_row(tx.execute(sa.select(table).where(table.c.id == before.id)).one())
    desired_state.sync_subscriber(tx, after, now)
    if _may_call(before) != _may_call(after):
        record_live_change(tx, after.id, now)
    return after


def delete(tx: Connection, username: str, now: datetime) -> Subscriber:
    """Mark a subscriber as deleted: their identities become free, their row and their credit stay.

    Their calls in progress are looked at again, and settled. Raises `UnknownSubscriber` and `LastAdministrator`.
    """
    subscriber = find(tx, username)
    _refuse_last(tx, subscriber)
    table = tables.subscriber
    tx.execute(sa.update(table).where(table.c.id == subscriber.id).values(deleted_at=now))
    desired_state.sync_subscriber(tx, subscriber, now, deleted=True)
    record_live_change(tx, subscriber.id, now)
    return subscriber


def _check_terms(tx: Connection, values: dict[str, Any]) -> None:
    """Check the tariff, group and limits that a subscriber gets, and put lists of prefixes as the columns have them.

    Raises `InvalidValue`, `UnknownTariff` and `UnknownGroup`.
    """
    check_limit("calls_max", values.get("calls_max"))
    for field in ("barred", "allowed"):
        if values.get(field) is not None:
            values[field] = " ".join(check_prefixes(field, values[field]))
    if values.get("tariff_id") is not None:
        tariff_records.find_by_id(tx, values["tariff_id"], lock=True)
    if values.get("group_id") is not None:
        group_records.find_by_id(tx, values["group_id"], lock=True)


def _refuse_taken(tx: Connection, values: Mapping[str, Any], *, but: int | None = None) -> None:
    table = tables.subscriber
    for field in IDENTITIES:
        value = values.get(field)
        if value is None:
            continue
        others = sa.select(table.c.id).where(table.c[field] == value, NOT_DELETED, table.c.id != (but or 0))
        if tx.execute(others).first() is not None:
            raise AlreadyTaken(f"another subscriber has the {field} {value}", {field: "another subscriber has it"})


def _refuse_last(tx: Connection, subscriber: Subscriber) -> None:
    """Raise `LastAdministrator` if they are the last administrator who may log in."""
    table = tables.subscriber
    others = sa.select(table.c.id).where(
        table.c.level == Level.ADMINISTRATOR, table.c.enabled, table.c.id != subscriber.id, NOT_DELETED
    )
    if subscriber.level is Level.ADMINISTRATOR and subscriber.enabled and tx.execute(others.limit(1)).first() is None:
        raise LastAdministrator(f"{subscriber.username} is the last administrator: make another one first")


def list_all(tx: Connection, *wanted: sa.ColumnElement[bool]) -> Iterable[Subscriber]:
    """Return all subscribers who meet these conditions, by username."""
    rows = tx.execute(sa.select(tables.subscriber).where(NOT_DELETED, *wanted).order_by(tables.subscriber.c.username))
    return map(subscriber_from_row, rows)


def search(tx: Connection, text: str, *, limit: int) -> Iterable[Subscriber]:
    """Return subscribers with this part in a name or a number, without regard to case and accents, by username."""
    by_name = tables.subscriber.c.username
    query = sa.select(tables.subscriber).where(has_part(text), NOT_DELETED).order_by(by_name).limit(limit)
    return map(subscriber_from_row, tx.execute(query))


_TAKEN_AT_ONCE = 500
"""Values in one question: SQLite before 3.32 takes 999 parameters."""


def list_taken(tx: Connection, field: str, values: Sequence[str]) -> set[str]:
    """Return those of the values of an identity that a subscriber has."""
    column = tables.subscriber.c[field]
    taken: set[str] = set()
    for start in range(0, len(values), _TAKEN_AT_ONCE):
        asked = sa.select(column).where(column.in_(values[start : start + _TAKEN_AT_ONCE]), NOT_DELETED)
        taken.update(tx.execute(asked).scalars())
    return taken


def enable(tx: Connection, username: str, now: datetime, *, enabled: bool) -> Subscriber:
    """Enable or disable a subscriber; their calls in progress are looked at again. Raises as `change` does."""
    return change(tx, username, {"enabled": enabled}, now)


def any_administrator(tx: Connection) -> str | None:
    """Return the username of the first administrator, or None when there is none yet."""
    table = tables.subscriber
    row = tx.execute(
        sa.select(table.c.username)
        .where(table.c.level == Level.ADMINISTRATOR, NOT_DELETED)
        .order_by(table.c.id)
        .limit(1)
    ).first()
    return None if row is None else str(row.username)


def subscriber_from_row(row: Any) -> Subscriber:
    """Return the subscriber of a row."""
    return subscriber_from_columns(*(getattr(row, name) for name in SUBSCRIBER_COLUMNS))


def subscriber_from_columns(
    subscriber_id: int,
    username: str,
    name: str,
    clid: str,
    imsi: str,
    cpf: str | None,
    address: str,
    level: int,
    enabled: Any,
    tariff_id: int | None,
    group_id: int | None,
    calls_max: int | None,
    barred: str | None,
    allowed: str | None,
    suspended_at: Any,
    language: str,
) -> Subscriber:
    """Return the subscriber of `SUBSCRIBER_COLUMNS`, as SQLAlchemy or the bare driver returns them."""
    return Subscriber(
        subscriber_id,
        username,
        name,
        clid,
        imsi,
        cpf,
        address,
        Level(level),
        bool(enabled),
        tariff_id,
        group_id,
        calls_max,
        None if barred is None else tuple(barred.split()),
        None if allowed is None else tuple(allowed.split()),
        suspended_at is not None,
        language,
    )
