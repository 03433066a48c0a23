"""The billers of one ledger, as they tell of themselves: whether they all price calls alike.

Each has its price list in its own settings, so two could charge one call differently. Nobody can keep an operator
from that while he changes them one by one; but it is told as long as it lasts.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller import schema

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

GONE_AFTER = timedelta(minutes=2)
"""A node that has said nothing for so long is not there any more."""

_TABLE = schema.node
_MEET = sa.text(
    "insert into node (name, terms, seen_at) values (:name, :terms, :seen_at)"
    " on conflict (name) do update set terms = excluded.terms, seen_at = excluded.seen_at"
).bindparams(sa.bindparam("seen_at", type_=_TABLE.c.seen_at.type))


def announce(tx: Connection, name: str, terms: str, now: datetime) -> list[str]:
    """Say that a node is there with these ``terms`` (a digest); give the names of those that have others."""
    tx.execute(_MEET, {"name": name, "terms": terms, "seen_at": now})
    others = sa.select(_TABLE.c.name).where(
        _TABLE.c.name != name, _TABLE.c.terms != terms, _TABLE.c.seen_at > now - GONE_AFTER
    )
    return list(tx.execute(others.order_by(_TABLE.c.name)).scalars())
