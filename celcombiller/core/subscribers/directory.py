"""Bulk look-up by username, MSISDN or IMSI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.model.accounts import Kind
from celcombiller.core.schema import bulk, tables
from celcombiller.core.subscribers.fields import number_of
from celcombiller.core.subscribers.subscriber_records import NOT_DELETED, SUBSCRIBER_COLUMNS, subscriber_from_columns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.subscribers import Subscriber


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
        (rows,) = bulk.read(tx, cls.question(identities))
        return cls.of_rows(rows)

    @staticmethod
    def question(identities: Iterable[str]) -> bulk.BoundQuery:
        """Ask for those whom any of ``identities`` may name: a username, a number, or IMSI and digits."""
        words = {word for word in identities if word}
        imsis = {_imsi_of(word) for word in words} - {""}
        return _NAMED.with_values(words, set(map(number_of, words)), imsis)

    @classmethod
    def of_rows(cls, rows: bulk.Rows) -> Directory:
        """Make it of the answer."""
        directory = cls(())
        for row in rows:
            *facts, voice_id, data_id, sms_id = row
            each = subscriber_from_columns(*facts)
            directory._add(each)
            directory.account_ids[each.id, Kind.VOICE] = voice_id
            directory.account_ids[each.id, Kind.DATA] = data_id
            directory.account_ids[each.id, Kind.SMS] = sms_id
        return directory

    @staticmethod
    def named(words: Iterable[str]) -> sa.ColumnElement[bool]:
        """Give the condition on subscribers that any of ``words`` names."""
        columns = tables.subscriber.c
        words = set(words)
        # The condition in each branch: SQLite takes a branch's index only for what the branch itself says.
        return sa.or_(
            sa.and_(columns.username.in_(words), NOT_DELETED),
            sa.and_(columns.clid.in_({number_of(word) for word in words}), NOT_DELETED),
            sa.and_(columns.imsi.in_({_imsi_of(word) for word in words}), NOT_DELETED),
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


_BY_ONE = f"select {bulk.names(SUBSCRIBER_COLUMNS)} from subscriber where {{}} {{{{among}}}} and deleted_at is null"  # noqa: S608  ours


_NAMED = bulk.BulkQuery(
    ", ".join(
        (
            bulk.names(SUBSCRIBER_COLUMNS),
            "(select id from account where subscriber_id = named.id and kind = 'voice')",
            "(select id from account where subscriber_id = named.id and kind = 'data')",
            "(select id from account where subscriber_id = named.id and kind = 'sms')",
        )
    ),
    # Each by its own index: for alternatives PostgreSQL reads one of some thousands of rows from end to end instead.
    f"from ({' union all '.join(map(_BY_ONE.format, ('username', 'clid', 'imsi')))}) as named",
    of=tables.subscriber.c.username,
)


def _imsi_of(word: str) -> str:
    return word[4:] if word[:4].upper() == "IMSI" else ""
