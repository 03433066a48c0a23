"""Make values of SQLAlchemy's rows, by the names and types of their fields.

The path of every call does not come here: `bulk.read` returns the driver's columns, which its callers convert by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from sqlalchemy.engine import Row

T = TypeVar("T")


def value_from_row(row: Row[Any], kind: type[T]) -> T:
    """Return the dataclass of a row that has a column of the same name for each field; other columns are left out.

    The types of the fields are read at run time, so their module imports them so. Raises `msgspec.ValidationError`
    when a column has no value of its field's type.
    """
    return msgspec.convert(row, kind, from_attributes=True)
