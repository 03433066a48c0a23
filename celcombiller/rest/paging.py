"""Pages by cursor: the next one begins after the last row of this one, so a million rows cost what fifty do."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from celcombiller.errors import InvalidValue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

Limit = Annotated[int, Meta(ge=1, le=500, description="rows on a page, from 1 to 500")]
Cursor = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,200}$(?!\n)", description="the `next` of the page before")]


def page_of(rows: Sequence[T], limit: int, place: Callable[[T], Any]) -> tuple[Sequence[T], str | None]:
    """Cut ``limit + 1`` rows that were looked for to a page, with the cursor of the next if there is more."""
    if len(rows) <= limit:
        return rows, None
    found = rows[:limit]
    return found, base64.urlsafe_b64encode(msgspec.json.encode(place(found[-1]))).rstrip(b"=").decode()


def position_of(cursor: str | None, kind: type[T]) -> T | None:
    """Give the place of the last row of the page before. Raises `InvalidValue` for a cursor that none of ours is."""
    if cursor is None:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=kind)
    except (ValueError, msgspec.DecodeError):
        raise InvalidValue("cursor: must be the next of a page before", {"cursor": "is none of ours"}) from None
