"""Values of cells. SQLite keeps any type in any column, and original databases were often edited by hand."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from celcombiller.core.model.text import UNPRINTABLE

if TYPE_CHECKING:
    from celcombiller.legacy_import.source_rows import Raw

_DIGITS_MOST = 30
"""No amount has more digits. Texts such as ``1e999999`` are no numbers."""

_CONTROL = re.compile(f"[{UNPRINTABLE}]+")


def read_text(cell: Raw) -> str:
    """Return the text of a cell as it stands. An empty cell is an empty text; a whole number has no fraction."""
    if cell is None:
        return ""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def read_line(cell: Raw, most: int) -> str:
    """Return the text of a cell on one line of at most ``most`` characters, without control characters."""
    return "" if cell is None else _CONTROL.sub(" ", read_text(cell)).strip()[:most].strip()


def read_number(cell: Raw) -> Decimal | None:
    """Return the exact number in a cell; ``None`` if it is none."""
    if isinstance(cell, int):
        return Decimal(cell)
    try:
        found = Decimal(read_text(cell).strip())
    except InvalidOperation:
        return None
    return found if found.is_finite() and found.adjusted() <= _DIGITS_MOST else None


def read_whole_number(cell: Raw) -> int | None:
    """Return the whole number in a cell; ``None`` if it is none."""
    if isinstance(cell, int):
        return cell
    found = read_number(cell)
    return None if found is None or found != found.to_integral_value() else int(found)


def read_instant(cell: Raw, zone: tzinfo) -> datetime | None:
    """Return the time in a cell, in UTC; ``None`` if it is none.

    The original wrote local time of ``zone`` without a zone. An ambiguous time is the earlier of the two.
    """
    if not isinstance(cell, str):
        return None
    try:
        written = datetime.fromisoformat(cell.strip())
        return (written if written.tzinfo else written.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
