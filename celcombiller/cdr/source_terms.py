"""Where the records of an Asterisk are, and how such a source is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import tzinfo

    from celcombiller.cdr.source import CdrSource


@dataclass(frozen=True, slots=True)
class SourceTerms:
    """Where records are and how they are written.

    ``source``: a file of CSV or of SQLite, or the URL of a database; ``table`` of it. ``columns``: the names of the
    columns of a file that has others than cdr_csv, and no header.
    """

    source: str
    zone: tzinfo
    table: str = "cdr"
    columns: tuple[str, ...] = ()


def open_source(terms: SourceTerms) -> CdrSource:
    """Return the source. Raises `InvalidValue`."""
    if "://" in terms.source:
        from celcombiller.cdr.database_table import DatabaseTable  # noqa: PLC0415  loads a driver

        return DatabaseTable(terms.source, terms.table, terms.zone)
    path = Path(terms.source)
    if _is_sqlite(path):
        from celcombiller.cdr.sqlite_file import SqliteFile  # noqa: PLC0415

        return SqliteFile(path, terms.table, terms.zone)
    from celcombiller.cdr.csv_file import CsvFile  # noqa: PLC0415

    return CsvFile(path, terms.zone, terms.columns)


def _is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\x00"
    except OSError:
        return False
