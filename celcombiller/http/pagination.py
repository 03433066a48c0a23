"""Pages by cursor. A page begins after the last row of the page before, so its cost does not depend on the place."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from celcombiller.core.errors import InvalidValue
from celcombiller.http.route import ID_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
V = TypeVar("V")

Limit = Annotated[int, Meta(ge=1, le=500, description="rows on a page, from 1 to 500")]
Since = Annotated[
    datetime,
    Meta(tz=True, description="an RFC 3339 time with its zone, such as 2026-11-01T00:00:00Z; not before it"),
]
Until = Annotated[
    datetime,
    Meta(tz=True, description="an RFC 3339 time with its zone, such as 2026-12-01T00:00:00Z; only before it"),
]
RowId = Annotated[int, Meta(ge=0, le=ID_MAX)]
Place = tuple[Annotated[datetime, Meta(tz=True)], RowId]
"""The place of a row in a list by time."""
NamedPlace = tuple[Annotated[datetime, Meta(tz=True)], Annotated[str, Meta(pattern=r"^[^\x00]{1,300}\Z")]]
"""The place of a row that a text identifies."""
Cursor = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,600}$(?!\n)", description="the `next` of the page before")]


class Page(msgspec.Struct, Generic[V], kw_only=True):
    """One page of a list, and where the next page begins."""

    items: list[V]
    next: Annotated[str | None, Meta(description="the cursor of the next page; null: this is the last")]


def make_page(rows: Sequence[T], limit: int, place_of: Callable[[T], Any], to_view: Callable[[T], V]) -> Page[V]:
    """Return the page of the first ``limit`` rows. One row more than ``limit`` was read if another page follows."""
    found = rows[:limit]
    return Page(items=list(map(to_view, found)), next=_cursor(place_of(found[-1])) if len(rows) > limit else None)


def _cursor(place: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()


def decode_cursor(cursor: str | None, kind: Any) -> Any:
    """Return the place of the last row of the page before. Raises `InvalidValue` for a cursor that is not ours."""
    if cursor is None:
        return None
    try:
        return _in_utc(msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=kind))
    except (ValueError, OverflowError, msgspec.DecodeError):
        raise InvalidValue("cursor: must be the next of a page before", {"cursor": "is none of ours"}) from None


def _in_utc(place: Any) -> Any:
    if not isinstance(place, tuple):
        return place
    return tuple(each.astimezone(UTC) if isinstance(each, datetime) else each for each in place)
