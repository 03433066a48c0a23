"""Bulk look-up of subscribers by username, MSISDN or IMSI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.model.accounts import Kind
from celcombiller.core.rating.numbering import AS_DIALLED, normalise
from celcombiller.core.schema import bulk, tables
from celcombiller.core.subscribers.number_forms import forms_of, plain_number
from celcombiller.core.subscribers.subscriber_records import NOT_DELETED, SUBSCRIBER_COLUMNS, subscriber_from_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.rating.numbering import NumberingPlan


class Directory:
    """Subscribers in memory for one transaction, found by the identities that a call carries.

    With a ``numbering`` plan a number is also looked for in its international form: a subscriber with that number is
    found however it is dialled.
    """

    def __init__(self, subscribers: Iterable[Subscriber], numbering: NumberingPlan = AS_DIALLED) -> None:
        self._numbering = numbering
        self._by_username: dict[str, Subscriber] = {}
        self._by_clid: dict[str, Subscriber] = {}
        self._by_imsi: dict[str, Subscriber] = {}
        self.account_ids: dict[tuple[int, Kind], int] = {}
        self.with_bundles: set[int] = set()
        """The subscribers who have a bundle that is not over."""
        for subscriber in subscribers:
            self.add(subscriber)

    def add(self, subscriber: Subscriber) -> None:
        """Add a subscriber, who has none of the identities of another."""
        self._by_username[subscriber.username] = subscriber
        self._by_clid[subscriber.clid] = subscriber
        self._by_imsi[subscriber.imsi] = subscriber

    def remove(self, subscriber: Subscriber) -> None:
        """Remove a subscriber; what another has by now of these identities stays."""
        for found, key in (
            (self._by_username, subscriber.username),
            (self._by_clid, subscriber.clid),
            (self._by_imsi, subscriber.imsi),
        ):
            if found.get(key) is subscriber:
                del found[key]

    @classmethod
    def load(cls, tx: Connection, identities: Collection[str], numbering: NumberingPlan = AS_DIALLED) -> Directory:
        """Return a directory of the subscribers that any of ``identities`` may name, with their account ids."""
        (rows,) = bulk.read(tx, cls.query_identities(identities, numbering))
        return cls.from_rows(rows, numbering)

    @staticmethod
    def query_identities(identities: Collection[str], numbering: NumberingPlan = AS_DIALLED) -> bulk.BoundQuery:
        """Return the query for all that ``identities`` may name: a username, or a number or IMSI in any form."""
        if not identities:
            return _BY_IDENTITIES, []
        return _BY_IDENTITIES.with_values(*_keys_of(identities, numbering))

    @classmethod
    def load_ids(cls, tx: Connection, subscriber_ids: Collection[int]) -> Directory:
        """Return a directory of the subscribers with these ids who are not deleted."""
        (rows,) = bulk.read(tx, _BY_IDS.with_values(subscriber_ids))
        return cls.from_rows(rows)

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._by_username.values())

    @classmethod
    def from_rows(cls, rows: bulk.Rows, numbering: NumberingPlan = AS_DIALLED) -> Directory:
        """Return a directory of the rows that answer `query_identities`."""
        directory = cls((), numbering)
        for row in rows:
            *columns, voice_id, data_id, sms_id, has_bundle = row
            subscriber = subscriber_from_columns(*columns)
            directory.add(subscriber)
            directory.account_ids[subscriber.id, Kind.VOICE] = voice_id
            directory.account_ids[subscriber.id, Kind.DATA] = data_id
            directory.account_ids[subscriber.id, Kind.SMS] = sms_id
            if has_bundle:
                directory.with_bundles.add(subscriber.id)
        return directory

    @staticmethod
    def is_named_by(words: Iterable[str]) -> sa.ColumnElement[bool]:
        """Return the condition on subscribers that any of ``words`` names."""
        columns = tables.subscriber.c
        names, numbers, imsis = _keys_of(words)
        # NOT_DELETED in each branch: SQLite uses a partial index only if the branch itself implies the condition.
        return sa.or_(
            sa.and_(columns.username.in_(names), NOT_DELETED),
            sa.and_(columns.clid.in_(numbers), NOT_DELETED),
            sa.and_(columns.imsi.in_(imsis), NOT_DELETED),
        )

    def find_payer(self, account_code: str, caller_number: str) -> Subscriber | None:
        """Return who pays: by account code (username or number), else by caller number, else by an IMSI in either."""
        code, caller = forms_of(account_code), forms_of(caller_number)
        return (
            self._by_username.get(account_code)
            or self._of_number(code.numbers)
            or self._of_number(caller.numbers)
            or self._by_imsi.get(code.imsi)
            or self._by_imsi.get(caller.imsi)
        )

    def find_callee(self, number: str) -> Subscriber | None:
        """Return who has the called number or IMSI, or None."""
        forms = forms_of(number)
        found = self._of_number(forms.numbers) or self._by_imsi.get(forms.imsi)
        if found is None and self._numbering is not AS_DIALLED:
            found = self._of_number(_expand(number, self._numbering))
        return found

    def _of_number(self, numbers: Iterable[str]) -> Subscriber | None:
        for number in numbers:
            found = self._by_clid.get(number)
            if found is not None:
                return found
        return None


_BY_ONE = f"select {bulk.names(SUBSCRIBER_COLUMNS)} from subscriber where {{}} {{{{among}}}} and deleted_at is null"  # noqa: S608  ours


_FOUND = ", ".join(
    (
        bulk.names(SUBSCRIBER_COLUMNS),
        "(select id from account where subscriber_id = named.id and kind = 'voice')",
        "(select id from account where subscriber_id = named.id and kind = 'data')",
        "(select id from account where subscriber_id = named.id and kind = 'sms')",
        "exists (select 1 from bundle where subscriber_id = named.id and ended_at is null)",
    )
)


_BY_IDENTITIES = bulk.BulkQuery(
    _FOUND,
    # A union, so that each branch uses its own index: for an OR, PostgreSQL scans a table of some thousand rows.
    f"from ({' union all '.join(map(_BY_ONE.format, ('username', 'clid', 'imsi')))}) as named",
    of=tables.subscriber.c.username,
)


_BY_IDS = bulk.BulkQuery(
    _FOUND,
    "from subscriber as named where id {among} and deleted_at is null",
    of=tables.subscriber.c.id,
)


def _expand(number: str, numbering: NumberingPlan) -> tuple[str, ...]:
    """Return the international form of a number, as a subscriber may have it."""
    return forms_of(normalise(numbering, plain_number(number))).numbers


def _keys_of(words: Iterable[str], numbering: NumberingPlan = AS_DIALLED) -> tuple[set[str], set[str], set[str]]:
    """Return the usernames, numbers and IMSIs that these words may be."""
    names, numbers, imsis = set(words), set[str](), set[str]()
    names.discard("")
    for name in names:
        forms = forms_of(name)
        numbers.update(forms.numbers)
        if numbering is not AS_DIALLED:
            numbers.update(_expand(name, numbering))
        if forms.imsi:
            imsis.add(forms.imsi)
    return names, numbers, imsis
