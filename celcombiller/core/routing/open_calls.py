"""How many calls are open, of those whose number is limited: the calls themselves are counted, so no count can leak."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celcombiller.core.schema import bulk, tables
from celcombiller.core.schema.driver import execute_raw, is_reading

if TYPE_CHECKING:
    from collections.abc import Collection

    import sqlalchemy as sa
    from sqlalchemy.engine import Connection

    from celcombiller.core.model.calls import Call


@dataclass(slots=True)
class OpenCalls:
    """The number of open calls of each subscriber, group and trunk that was asked for.

    It counts what the transaction itself begins and ends as well.
    """

    of_subscribers: dict[int, int] = field(default_factory=dict)
    of_groups: dict[int, int] = field(default_factory=dict)
    of_trunks: dict[int, int] = field(default_factory=dict)

    @classmethod
    def load(
        cls, tx: Connection, subscribers: Collection[int], groups: Collection[int], trunks: Collection[int]
    ) -> OpenCalls:
        """Count the open calls of these, after locking them, so that several billers together exceed no limit.

        A subscriber is locked by the account that pays for calls, which is locked already; groups and then trunks are
        locked here, always in this order. PostgreSQL counts what others committed while it waited for the lock;
        SQLite has one writer.
        """
        if tx.dialect.name == "postgresql" and not is_reading(tx):
            for lock, ids in ((_LOCK_GROUPS, groups), (_LOCK_TRUNKS, trunks)):
                if ids:
                    execute_raw(tx, lock, [[*ids]]).fetchall()
        found = cls(dict.fromkeys(subscribers, 0), dict.fromkeys(groups, 0), dict.fromkeys(trunks, 0))
        counted = bulk.read(
            tx,
            _OF_SUBSCRIBERS.with_values(subscribers),
            _OF_GROUPS.with_values(groups),
            _OF_TRUNKS.with_values(trunks),
        )
        for counts, rows in zip((found.of_subscribers, found.of_groups, found.of_trunks), counted, strict=True):
            counts.update((row_id, count) for row_id, count in rows)
        return found

    def begin(self, call: Call) -> None:
        """Count a call that begins."""
        self._change(call, 1)

    def end(self, call: Call) -> None:
        """Count a call that ends."""
        self._change(call, -1)

    def _change(self, call: Call, by: int) -> None:
        for counts, row_id in (
            (self.of_subscribers, call.subscriber_id),
            (self.of_groups, call.group_id),
            (self.of_trunks, call.trunk_id),
        ):
            if row_id in counts:
                counts[row_id] += by


def count_open_calls(tx: Connection, subscriber_ids: Collection[int]) -> dict[int, int]:
    """Return how many open calls each of these subscribers has; one without any is left out."""
    (rows,) = bulk.read(tx, _OF_SUBSCRIBERS.with_values(subscriber_ids))
    return dict(map(tuple, rows))


# FOR NO KEY UPDATE: a call that names the row does not wait for it.
_LOCK_GROUPS = "select id from subscriber_group where id = any(%s) order by id for no key update"
_LOCK_TRUNKS = "select id from trunk where id = any(%s) order by id for no key update"


def _count_by(column: sa.Column[int]) -> bulk.BulkQuery:
    """Return the query that counts open calls by a column. The state is a literal: so its partial index is used."""
    name = column.name
    rest = f"from (select {name}, count(*) as open from call where state = 'open' and {name} {{among}} group by {name})"  # noqa: S608  ours
    return bulk.BulkQuery(f"{name}, open", f"{rest} as counted", of=column)


_OF_SUBSCRIBERS = _count_by(tables.call.c.subscriber_id)
_OF_GROUPS = _count_by(tables.call.c.group_id)
_OF_TRUNKS = _count_by(tables.call.c.trunk_id)
