"""The billers of one ledger, as they tell of themselves: whether they all charge alike.

Each has its price list in its own settings, so two could charge one call differently, or one session of data. Nobody
can keep an operator from that while he changes them one by one; but it is told as long as it lasts.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

GONE_AFTER = timedelta(minutes=2)
"""A node that has said nothing for so long is not there any more."""

_TABLE = tables.node
_MEET = sa.text(
    "insert into node (name, terms, seen_at) values (:name, :terms, :seen_at)"
    " on conflict (name) do update set terms = excluded.terms, seen_at = excluded.seen_at"
).bindparams(sa.bindparam("seen_at", type_=_TABLE.c.seen_at.type))


def announce_node(tx: Connection, name: str, parts: Mapping[str, str], now: datetime) -> dict[str, list[str]]:
    """Say that a node is there with these ``parts`` of its settings (digests); give those who have others, and which.

    What only one of two has is not compared.
    """
    terms = msgspec.json.encode(parts, order="sorted").decode()
    tx.execute(_MEET, {"name": name, "terms": terms, "seen_at": now})
    others = sa.select(_TABLE.c.name, _TABLE.c.terms).where(
        _TABLE.c.name != name, _TABLE.c.terms != terms, _TABLE.c.seen_at > now - GONE_AFTER
    )
    differing = {other: _differing(parts, theirs) for other, theirs in tx.execute(others.order_by(_TABLE.c.name))}
    return {other: found for other, found in differing.items() if found}


def _differing(parts: Mapping[str, str], terms: str) -> list[str]:
    try:
        theirs = msgspec.json.decode(terms, type=dict[str, str])
    except msgspec.DecodeError:  # a digest of all in one, as billers wrote before
        return ["its version"]
    return [name for name, digest in parts.items() if theirs.get(name, digest) != digest]
