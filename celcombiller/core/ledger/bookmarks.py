"""Bookmarks of those who read all transfers, one after another, beside those who write them.

Ids are assigned when a row is inserted, and on PostgreSQL the rows of a transaction may become visible after rows with
higher ids. So a bookmark passes an id only after all transactions have ended that were writing transfers when the id
was seen: in PostgreSQL each holds a lock on the table from before its first id until its commit is visible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_bookmark, _transfer = tables.bookmark, tables.transfer


@dataclass(frozen=True, slots=True)
class Watermark:
    """The last transfer seen, and the transactions then writing: until they end, lower ids may still appear."""

    last_id: int
    writers: frozenset[str]


def read_bookmark(tx: Connection, name: str) -> int | None:
    """Return the id up to which a reader has read the transfers, or None before its first one."""
    return tx.execute(sa.select(_bookmark.c.transfer_id).where(_bookmark.c.name == name)).scalar()


def begin_bookmark(tx: Connection, name: str, last_id: int) -> None:
    """Set the bookmark if there is none, so that no transfer before it is read."""
    if read_bookmark(tx, name) is None:
        tx.execute(sa.insert(_bookmark).values(name=name, transfer_id=last_id))


def move_bookmark(tx: Connection, name: str, *, after_id: int, until_id: int) -> bool:
    """Move the bookmark; return False if another node has moved it first."""
    is_unmoved = sa.and_(_bookmark.c.name == name, _bookmark.c.transfer_id == after_id)
    return tx.execute(sa.update(_bookmark).where(is_unmoved).values(transfer_id=until_id)).rowcount == 1


def find_watermark(tx: Connection) -> Watermark:
    """Return the last transfer's id and, read after it, the transactions that write transfers."""
    last_id = tx.execute(sa.select(sa.func.coalesce(sa.func.max(_transfer.c.id), 0))).scalar_one()
    return Watermark(int(last_id), _writers(tx))


def is_complete(tx: Connection, seen: Watermark) -> bool:
    """Return whether all transfers up to a watermark are visible; once true, it stays true."""
    return not (seen.writers and seen.writers & _writers(tx))


def _writers(tx: Connection) -> frozenset[str]:
    """Return the open transactions that may have written transfers; none on SQLite, which has one writer."""
    if tx.dialect.name == "sqlite":
        return frozenset()
    return frozenset(tx.execute(_WRITERS).scalars())


# A virtual transaction id (backend and local counter) is never reused.
_WRITERS = sa.text(
    "select distinct virtualtransaction from pg_locks where locktype = 'relation' and granted"
    " and mode = 'RowExclusiveLock' and relation = 'transfer'::regclass"
    " and database = (select oid from pg_database where datname = current_database())"
)
