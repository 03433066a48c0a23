"""The records that rows of an original database became, so that each is imported once; and the import's report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa

from celcombiller.core.schema import tables
from celcombiller.legacy_import.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.accounts import Kind

T = TypeVar("T")

CHUNK = 2000
"""Rows in one statement. More gain nothing, and SQLite accepts at most 32,766 values."""


@dataclass(slots=True)
class ImportReport:
    """The number of rows by table of the file, made now or known from an earlier import, and the credits made."""

    made: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    credits: Counter[Kind] = field(default_factory=Counter)
    findings: Findings = field(default_factory=Findings)


@dataclass(slots=True)
class References:
    """The ids of records, by the rows of the file: known from earlier imports, and new in this transaction.

    Movements are not among them: their transfers have the references themselves.
    """

    prefix: str
    known: dict[str, int]
    new: dict[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, tx: Connection, prefix: str) -> References:
        """Return what is known of the rows of a file."""
        table = tables.imported
        rows = tx.execute(sa.select(table).where(table.c.reference.startswith(prefix, autoescape=True)))
        return cls(prefix, {row.reference: row.row_id for row in rows})

    def find_earlier(self, row: str) -> int | None:
        """Return the id of the record that a row became in an earlier import."""
        return self.known.get(self.prefix + row)

    def find(self, row: str) -> int | None:
        """Return the id of the record that a row became, earlier or now."""
        return self.new.get(self.prefix + row) or self.find_earlier(row)

    def record(self, row: str, row_id: int) -> None:
        """Record the id of what a row became."""
        self.new[self.prefix + row] = row_id

    def save(self, tx: Connection) -> None:
        """Write what was recorded."""
        rows = ({"reference": reference, "row_id": row_id} for reference, row_id in self.new.items())
        for chunk in split_in_chunks(rows):
            tx.execute(sa.insert(tables.imported), chunk)


def split_in_chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield the items in lists, each for one statement."""
    rest = iter(items)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
