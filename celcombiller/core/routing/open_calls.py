"""How many calls are open, of those whose number is limited: the calls themselves are counted, so no count can leak."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

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
        for table, ids in ((tables.subscriber_group, groups), (tables.trunk, trunks)):
            if ids and tx.dialect.name == "postgresql":
                locked = sa.select(table.c.id).where(table.c.id.in_(ids)).order_by(table.c.id)
                # FOR NO KEY UPDATE: a call that names the row does not wait for it.
                tx.execute(locked.with_for_update(key_share=True)).all()
        found = cls(dict.fromkeys(subscribers, 0), dict.fromkeys(groups, 0), dict.fromkeys(trunks, 0))
        counts = {"subscriber": found.of_subscribers, "group": found.of_groups, "trunk": found.of_trunks}
        queries = [*_queries(subscribers, groups, trunks)]
        if queries:
            rows: Iterable[Any] = tx.execute(sa.union_all(*queries))
            for kind, row_id, count in rows:
                counts[kind][row_id] = count
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


def _queries(
    subscribers: Collection[int], groups: Collection[int], trunks: Collection[int]
) -> Iterator[sa.Select[tuple[str, int, int]]]:
    """Yield a query for each kind that has some. The state is a literal: with a parameter no partial index is used."""
    columns = tables.call.c
    for kind, column, ids in (
        ("subscriber", columns.subscriber_id, subscribers),
        ("group", columns.group_id, groups),
        ("trunk", columns.trunk_id, trunks),
    ):
        if ids:
            yield (
                sa.select(sa.literal_column(f"'{kind}'"), column, sa.func.count())
                .where(column.in_(ids), columns.state == sa.literal_column("'open'"))
                .group_by(column)
            )
