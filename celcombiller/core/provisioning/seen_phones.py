"""Phones that a radio network has seen and that no subscriber has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

_AGE = re.compile(r"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?", re.ASCII)
_SLICE = 500
"""IMSIs that are looked up at once."""


@dataclass(frozen=True, slots=True)
class SeenPhone:
    """A phone by its IMSI. ``age``: how long ago the network heard of it; ``None``: it does not say."""

    imsi: str
    age: timedelta | None
    network: str = ""


def read_age(text: str) -> timedelta | None:
    """Return the age that a network writes as ``2d3h``, ``40m`` or ``5s``; ``None``: this is none."""
    found = _AGE.fullmatch(text)
    if found is None or not text:
        return None
    days, hours, minutes, seconds = (int(each or 0) for each in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def list_unknown(tx: Connection, seen: Sequence[SeenPhone], limit: int) -> list[SeenPhone]:
    """Return the phones whose IMSI no subscriber has, each once: those that were heard of last, first."""
    unknown: dict[str, SeenPhone] = {}
    column = tables.subscriber.c.imsi
    ordered = sorted(seen, key=lambda each: each.age or timedelta.max)
    for start in range(0, len(ordered), _SLICE):
        some = ordered[start : start + _SLICE]
        known = set(tx.execute(sa.select(column).where(column.in_({each.imsi for each in some}))).scalars())
        for each in some:
            if each.imsi not in known:
                unknown.setdefault(each.imsi, each)
        if len(unknown) >= limit:
            break
    return list(unknown.values())[:limit]
