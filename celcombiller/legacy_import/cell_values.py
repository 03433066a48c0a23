"""What a cell of an original database means: SQLite keeps any type in any column, and people wrote there by hand."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celcombiller.legacy_import.source_rows import Raw

_DIGITS_MOST = 30
"""More digits than any amount has: what says ``1e999999`` is no number that anybody meant."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def read_text(cell: Raw) -> str:
    """Return the words of a cell as they stand; an empty cell has none, a whole number has no fraction."""
    if cell is None:
        return ""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def read_line(cell: Raw, most: int) -> str:
    """Return the words of a cell in one line of at most ``most`` characters, without control characters."""
    return "" if cell is None else _CONTROL.sub(" ", read_text(cell)).strip()[:most].strip()


def read_number(cell: Raw) -> Decimal | None:
    """Return the number a cell holds, exactly; ``None`` where it holds none."""
    if isinstance(cell, int):
        return Decimal(cell)
    try:
        found = Decimal(read_text(cell).strip())
    except InvalidOperation:
        return None
    return found if found.is_finite() and found.adjusted() <= _DIGITS_MOST else None


def read_whole_number(cell: Raw) -> int | None:
    """Return the whole number a cell holds; ``None`` where it holds none."""
    if isinstance(cell, int):
        return cell
    found = read_number(cell)
    return None if found is None or found != found.to_integral_value() else int(found)


def read_instant(cell: Raw, zone: tzinfo) -> datetime | None:
    """Return the moment that a cell says by the clocks of ``zone``; ``None`` where it says none.

    The original wrote local time without a zone. Of an hour that came twice the first is taken.
    """
    if not isinstance(cell, str):
        return None
    try:
        said = datetime.fromisoformat(cell.strip())
        return (said if said.tzinfo else said.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
