"""Subscribers: make, find and change them, on an open transaction."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from celcombiller import ledger, networks, schema, setwise
from celcombiller.errors import AlreadyTaken, InvalidValue, LastAdministrator, UnknownSubscriber
from celcombiller.model import Account, Kind, Level, Subscriber

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

# `$(?!\n)` and not `$`, which lets a newline follow; unlike `\Z` every reader of JSON Schema understands it.
Username = Annotated[
    str,
    Meta(
        pattern=r"^(?!\.{1,2}$)[!-.0-~\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]{1,64}$(?!\n)",
        description="1 to 64 Latin letters, digits and signs, without spaces or slashes",
    ),
]
Clid = Annotated[
    str, Meta(pattern=r"^[0-9]{1,15}$(?!\n)", description="the number: 1 to 15 digits (E.164 has at most 15)")
]
Imsi = Annotated[str, Meta(pattern=r"^[0-9]{6,15}$(?!\n)", description="6 to 15 digits (3GPP TS 23.003, 2.2)")]
Cpf = Annotated[str, Meta(pattern=r"^[0-9]{1,14}$(?!\n)", description="1 to 14 digits")]
Name = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,200}$(?!\n)", description="1 to 200 characters on one line")]
Address = Annotated[str, Meta(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]{0,500}$", description="up to 500 characters")]
_SHAPES = {"username": Username, "clid": Clid, "imsi": Imsi, "cpf": Cpf, "name": Name, "address": Address}
IDENTITIES = ("username", "clid", "imsi", "cpf")


NUMBER = re.compile(r"\+?[0-9*#]{1,32}|IMSI[0-9]{6,15}")
"""What may be called or written to: nothing that means something in a dial string (``& , / @``) or ends a line."""

LIVING = schema.subscriber.c.deleted_at.is_(None)
"""Not deleted: the condition of every look for a subscriber by who he is, and of the indexes that serve it."""


def check(field: str, value: str) -> str:
    """Give ``value`` back if it is one for this field, or raise `InvalidValue` saying what is allowed."""
    shape: Any = _SHAPES[field]
    try:
        checked: str = msgspec.convert(value, shape)
    except msgspec.ValidationError:
        allowed = shape.__metadata__[0].description
        raise InvalidValue(f"{field} must be {allowed}", {field: f"must be {allowed}"}) from None
    return checked


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
    """Make a subscriber with an empty account of each kind.

    Raises `InvalidValue` for a field of the wrong shape, `AlreadyTaken` when another has one of the identities.
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
    table = schema.subscriber
    _refuse_taken(tx, values)
    inserted = sa.insert(table).values(**values, password_hash=password_hash, created_at=now)
    subscriber_id = tx.execute(inserted.returning(table.c.id)).scalar_one()
    tx.execute(
        sa.insert(schema.account),
        [{"subscriber_id": subscriber_id, "kind": kind, "posted": 0, "held": 0} for kind in Kind],
    )
    made = Subscriber(id=subscriber_id, **values)
    networks.record(tx, made, now)
    return made


_FACTS = ("id", "username", "name", "clid", "imsi", "cpf", "address", "level", "enabled")
_OF_USERNAME = setwise.Lookup(
    sa.select(*(schema.subscriber.c[name] for name in _FACTS)).where(
        schema.subscriber.c.username == sa.bindparam("username"), LIVING
    )
)


def find(tx: Connection, username: str) -> Subscriber:
    """Give the subscriber of this username, or raise `UnknownSubscriber`."""
    for row in _OF_USERNAME.rows(tx, username=username):
        return _subscriber_of_columns(*row)
    raise UnknownSubscriber(f"no subscriber is called {username}")


_ACCOUNTS_OF_USERNAME = setwise.Lookup(
    ledger.ACCOUNTS.join(schema.subscriber, schema.subscriber.c.id == schema.account.c.subscriber_id).where(
        schema.subscriber.c.username == sa.bindparam("username"), LIVING
    )
)


def balances(tx: Connection, username: str) -> dict[Kind, Account]:
    """Give the accounts of the subscriber of this username by kind, as they stand, or raise `UnknownSubscriber`."""
    found = ledger.by_kind(_ACCOUNTS_OF_USERNAME.rows(tx, username=username))
    if not found:
        raise UnknownSubscriber(f"no subscriber is called {username}")
    return found


def change(tx: Connection, username: str, changes: Mapping[str, Any], now: datetime) -> Subscriber:
    """Change facts of a subscriber; ``password_hash`` and ``enabled`` are facts too.

    Raises `UnknownSubscriber`, `InvalidValue`, `AlreadyTaken`, and `LastAdministrator` when nobody would be one.
    """
    was = find(tx, username)
    values = {
        field: check(field, value) if field in _SHAPES and value is not None else value
        for field, value in changes.items()
    }
    table = schema.subscriber
    _refuse_taken(tx, values, but=was.id)
    if values.get("level", was.level) is not Level.ADMINISTRATOR or not values.get("enabled", was.enabled):
        _refuse_last(tx, was)
    if values:
        tx.execute(sa.update(table).where(table.c.id == was.id).values(values))
    is_ = subscriber_of(tx.execute(sa.select(table).where(table.c.id == was.id)).one())
    networks.record(tx, is_, now)
    return is_


def delete(tx: Connection, username: str, now: datetime) -> Subscriber:
    """End a subscriber: his identities are free, his row stays for what is recorded of him, his credit where it is.

    A call that he is in goes on and is settled. Raises `UnknownSubscriber` and `LastAdministrator`.
    """
    was = find(tx, username)
    _refuse_last(tx, was)
    table = schema.subscriber
    tx.execute(sa.update(table).where(table.c.id == was.id).values(deleted_at=now))
    networks.record(tx, was, now, deleted=True)
    return was


def _refuse_taken(tx: Connection, values: Mapping[str, Any], *, but: int | None = None) -> None:
    table = schema.subscriber
    for field in IDENTITIES:
        value = values.get(field)
        if value is None:
            continue
        others = sa.select(table.c.id).where(table.c[field] == value, LIVING, table.c.id != (but or 0))
        if tx.execute(others).first() is not None:
            raise AlreadyTaken(f"another subscriber has the {field} {value}", {field: "another subscriber has it"})


def _refuse_last(tx: Connection, who: Subscriber) -> None:
    """Refuse to lose the last administrator who may log in."""
    table = schema.subscriber
    others = sa.select(table.c.id).where(
        table.c.level == Level.ADMINISTRATOR, table.c.enabled, table.c.id != who.id, LIVING
    )
    if who.level is Level.ADMINISTRATOR and who.enabled and tx.execute(others.limit(1)).first() is None:
        raise LastAdministrator(f"{who.username} is the last administrator: make another one first")


def everyone(tx: Connection) -> Iterable[Subscriber]:
    """Give all subscribers, by username."""
    rows = tx.execute(sa.select(schema.subscriber).where(LIVING).order_by(schema.subscriber.c.username))
    return map(subscriber_of, rows)


def enable(tx: Connection, username: str, now: datetime, *, enabled: bool) -> Subscriber:
    """Let the subscriber use the service or not, from the next call on. Raises as `change` does."""
    return change(tx, username, {"enabled": enabled}, now)


def any_administrator(tx: Connection) -> str | None:
    """Give the username of the first administrator, or ``None`` when there is none yet."""
    table = schema.subscriber
    row = tx.execute(
        sa.select(table.c.username).where(table.c.level == Level.ADMINISTRATOR, LIVING).order_by(table.c.id).limit(1)
    ).first()
    return None if row is None else str(row.username)


def subscriber_of(row: Any) -> Subscriber:
    """Make the value of a subscriber row."""
    return _subscriber_of_columns(*(getattr(row, name) for name in _FACTS))


def _subscriber_of_columns(
    number: int,
    username: str,
    name: str,
    clid: str,
    imsi: str,
    cpf: str | None,
    address: str,
    level: int,
    enabled: Any,
) -> Subscriber:
    """Make a subscriber of `_FACTS`, as SQLAlchemy or the driver gives them."""
    return Subscriber(number, username, name, clid, imsi, cpf, address, Level(level), enabled=bool(enabled))


class Directory:
    """Subscribers in memory for one transaction, found by what a call says of them."""

    def __init__(self, subscribers: Iterable[Subscriber]) -> None:
        self._by_username: dict[str, Subscriber] = {}
        self._by_clid: dict[str, Subscriber] = {}
        self._by_imsi: dict[str, Subscriber] = {}
        self.account_ids: dict[tuple[int, Kind], int] = {}
        for each in subscribers:
            self._add(each)

    def _add(self, each: Subscriber) -> None:
        self._by_username[each.username] = each
        self._by_clid[each.clid] = each
        self._by_imsi[each.imsi] = each

    @classmethod
    def load(cls, tx: Connection, identities: Iterable[str]) -> Directory:
        """Read the subscribers whom any of ``identities`` may name, with the ids of their accounts."""
        (rows,) = setwise.read(tx, cls.question(identities))
        return cls.of_rows(rows)

    @staticmethod
    def question(identities: Iterable[str]) -> setwise.Question:
        """Ask for those whom any of ``identities`` may name: a username, a number, or IMSI and digits."""
        words = {word for word in identities if word}
        imsis = {_imsi_of(word) for word in words} - {""}
        return _NAMED.among(words, set(map(number_of, words)), imsis)

    @classmethod
    def of_rows(cls, rows: setwise.Rows) -> Directory:
        """Make it of the answer."""
        directory = cls(())
        for row in rows:
            *facts, voice_id, data_id, sms_id = row
            each = _subscriber_of_columns(*facts)
            directory._add(each)
            directory.account_ids[each.id, Kind.VOICE] = voice_id
            directory.account_ids[each.id, Kind.DATA] = data_id
            directory.account_ids[each.id, Kind.SMS] = sms_id
        return directory

    @staticmethod
    def named(words: Iterable[str]) -> sa.ColumnElement[bool]:
        """Give the condition on subscribers that any of ``words`` names."""
        columns = schema.subscriber.c
        words = set(words)
        # The condition in each branch: SQLite takes a branch's index only for what the branch itself says.
        return sa.or_(
            sa.and_(columns.username.in_(words), LIVING),
            sa.and_(columns.clid.in_({number_of(word) for word in words}), LIVING),
            sa.and_(columns.imsi.in_({_imsi_of(word) for word in words}), LIVING),
        )

    def caller(self, account_code: str, caller_number: str) -> Subscriber | None:
        """Find who pays: by account code (username or number), else caller number, else ``IMSI…`` in either."""
        return (
            (self._by_username.get(account_code) or self._by_clid.get(number_of(account_code)))
            or self._by_clid.get(number_of(caller_number))
            or self._by_imsi.get(_imsi_of(account_code))
            or self._by_imsi.get(_imsi_of(caller_number))
        )

    def callee(self, number: str) -> Subscriber | None:
        """Find who has the called number."""
        return self._by_clid.get(number_of(number)) or self._by_imsi.get(_imsi_of(number))


_BY_ONE = f"select {setwise.names(_FACTS)} from subscriber where {{}} {{{{among}}}} and deleted_at is null"  # noqa: S608  ours
_NAMED = setwise.Reading(
    ", ".join(
        (
            setwise.names(_FACTS),
            "(select id from account where subscriber_id = named.id and kind = 'voice')",
            "(select id from account where subscriber_id = named.id and kind = 'data')",
            "(select id from account where subscriber_id = named.id and kind = 'sms')",
        )
    ),
    # Each by its own index: for alternatives PostgreSQL reads one of some thousands of rows from end to end instead.
    f"from ({' union all '.join(map(_BY_ONE.format, ('username', 'clid', 'imsi')))}) as named",
    of=schema.subscriber.c.username,
)


def number_of(word: str) -> str:
    """Give a number as it is stored: no ``+`` in front (E.164 digits)."""
    return word.removeprefix("+")


def _imsi_of(word: str) -> str:
    return word[4:] if word[:4].upper() == "IMSI" else ""
