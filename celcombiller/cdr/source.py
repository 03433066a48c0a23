"""What every source of records has, and how one is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from celcombiller.core.reconciliation.cdr import CdrRow

Place = dict[str, Any]
"""How far a source was read, for its own reader; empty: nothing yet. It is kept as JSON."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A record, or why it cannot be read, with its line or number, and how far the source is read with it."""

    place: int
    row: CdrRow | None
    error: str = ""
    progress: int = 0


@dataclass(slots=True)
class Reading:
    """The records after a place. Iterate once; ``place`` is how far it has come, ``notes`` what an operator should see.

    ``total`` is what ``progress`` of the last record will be, about.
    """

    rows: Iterator[SourceRow]
    place: Place
    total: int = 0
    notes: list[str] = field(default_factory=list)


class CdrSource(Protocol):
    """A source of records. ``label`` names it for people, without a password."""

    label: str

    def read(self, after: Place, now: datetime, *, is_written: bool = False) -> Reading:
        """Return the records that follow a place. Raises `InvalidValue` where it cannot be read, also at the iteration.

        ``is_written``: Asterisk writes to it, so its last line may not be whole yet.
        """

    def find_end(self) -> Place:
        """Return the place behind the last record of now. Raises `InvalidValue`."""

    def find(self, uniqueid: str, now: datetime) -> Sequence[CdrRow]:
        """Return the records of one channel, as far as they are found quickly. Raises `InvalidValue`."""
